// The playground: tabs, forms, requests. render.js shows what comes back.

import { EXAMPLES } from "./examples.js";
import { RENDER, element, renderProblem } from "./render.js";

const NO_BUNDLE = "No bundle for this task is loaded on this server. Put one into its directory of bundles and start it again.";
const key = document.querySelector("#key input");
const tabs = [...document.querySelectorAll('[role="tab"]')];

// The body of a request, from the form's fields.
const BODY = {
  qa: ({ question, context, top_k, allow_no_answer }) => ({
    question: question.value,
    context: context.value,
    top_k: top_k.valueAsNumber,
    allow_no_answer: allow_no_answer.checked,
  }),
  classify: ({ text, text_pair, top_k, on_overflow }) => ({
    text: text.value,
    ...(text_pair.value && { text_pair: text_pair.value }),
    top_k: top_k.valueAsNumber,
    on_overflow: on_overflow.value,
  }),
  similarity: ({ source, targets, on_overflow }) => ({
    source: source.value,
    targets: targets.value.split("\n").filter((line) => line.trim()),
    on_overflow: on_overflow.value,
  }),
};

function panelOf(tab) {
  return document.getElementById(tab.getAttribute("aria-controls"));
}

function select(tab) {
  for (const each of tabs) {
    const selected = each === tab;
    each.setAttribute("aria-selected", selected);
    each.tabIndex = selected ? 0 : -1;
    panelOf(each).hidden = !selected;
  }
}

function onTabKey(event) {
  const at = tabs.indexOf(event.currentTarget);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const tab = tabs.at(to % tabs.length);
  select(tab);
  tab.focus();
}

// Times are the browser's own, beside the stages that the server reports.
async function send(route, body) {
  const headers = body && { "content-type": "application/json" };
  const bearer = key.value && { authorization: `Bearer ${key.value}` };
  const begun = performance.now();
  const response = await fetch(route, {
    method: body ? "POST" : "GET",
    body: body && JSON.stringify(body),
    headers: { ...headers, ...bearer },
  });
  const text = await response.text();
  const elapsed = performance.now() - begun;
  if (response.status === 401) key.form.hidden = false;
  return { response, elapsed, content: parse(text), keyed: Boolean(key.value) };
}

// What stands between this page and the service, a proxy for instance, may answer with something else than JSON.
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

async function ask(task, form, output) {
  if (form.getAttribute("aria-busy") === "true") return;
  form.setAttribute("aria-busy", true);
  const body = BODY[task](form.elements);
  try {
    const reply = await send(task, body);
    const shown = reply.response.ok ? RENDER[task](reply, body) : [renderProblem(reply)];
    output.replaceChildren(...shown);
  } catch (error) {
    const problem = { title: "No answer", detail: `The server could not be reached (${error.message}).` };
    output.replaceChildren(renderProblem({ content: problem }));
  } finally {
    form.setAttribute("aria-busy", false);
  }
}

function fill(form, example) {
  form.reset();
  for (const [name, value] of Object.entries(example)) {
    if (typeof value === "boolean") form.elements[name].checked = value;
    else form.elements[name].value = Array.isArray(value) ? value.join("\n") : value;
  }
}

function prepare(tab) {
  const panel = panelOf(tab);
  const [task, form, output] = [panel.id, panel.querySelector("form"), panel.querySelector(".output")];
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", onTabKey);
  form.addEventListener("submit", (event) => {
    event.preventDefault(); // the page's policy lets no form be sent anywhere
    ask(task, form, output);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  for (const [name, example] of Object.entries(EXAMPLES[task])) {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      fill(form, example);
      ask(task, form, output);
    });
    form.querySelector(".examples").append(" ", button);
  }
  fill(form, Object.values(EXAMPLES[task])[0]);
}

// Tasks without a bundle say so; where /info itself fails, the page says that and lets everything be tried.
async function showWhatIsLoaded() {
  const { response, content } = await send("info");
  if (!response.ok) return notify("qa", `GET /info failed with ${response.status}: ${content.detail ?? response.statusText}`);
  const loaded = Object.fromEntries(content.bundles.map((bundle) => [bundle.task, bundle]));
  for (const tab of tabs) {
    const panel = panelOf(tab);
    const missing = !(panel.id in loaded);
    tab.classList.toggle("missing", missing);
    panel.querySelector("fieldset").disabled = missing;
    notify(panel.id, missing ? NO_BUNDLE : "");
  }
  if (loaded.qa && !loaded.qa.no_answer) {
    const toggle = document.querySelector('[name="allow_no_answer"]');
    toggle.disabled = true;
    toggle.parentElement.title = "This model was not trained to abstain.";
  }
  const first = tabs.find((tab) => tab.getAttribute("aria-controls") in loaded);
  if (first && !(panelOf(selected()).id in loaded)) select(first);
}

function selected() {
  return tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
}

function notify(task, text) {
  const notice = document.querySelector(`#${task} .notice`);
  notice.textContent = text;
  notice.hidden = !text;
}

tabs.forEach(prepare);
key.form.addEventListener("submit", (event) => event.preventDefault());
key.addEventListener("change", showWhatIsLoaded);
showWhatIsLoaded();
