// The playground: tabs, forms, requests. render.js shows what comes back.

import { EXAMPLES } from "./examples.js";
import { element, renderProblem, renderResult } from "./render.js";

const NO_BUNDLE = "No bundle for this task is loaded on this server. Put one into its directory of bundles and start it again.";
const key = document.querySelector("#key input");
const tabs = [...document.querySelectorAll('[role="tab"]')];

// The body of a request: the form's fields have the names of the route's. An empty optional field is left out.
function bodyOf(form) {
  const fields = [...form.elements].filter(({ name, value, dataset }) => name && (value || !("optional" in dataset)));
  return Object.fromEntries(fields.map((field) => [field.name, valueOf(field)]));
}

function valueOf(field) {
  if (field.type === "number") return field.valueAsNumber;
  if (field.type === "checkbox") return field.checked;
  return "lines" in field.dataset ? field.value.split("\n").filter((line) => line.trim()) : field.value;
}

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

async function ask(route, form, output) {
  if (form.getAttribute("aria-busy") === "true") return;
  form.setAttribute("aria-busy", true);
  const body = bodyOf(form);
  try {
    const reply = await send(route, body);
    const shown = reply.response.ok ? renderResult(reply, body) : [renderProblem(reply)];
    output.replaceChildren(...shown);
  } catch (error) {
    const problem = { title: "No answer", detail: `The server could not be reached (${error.message}).` };
    output.replaceChildren(renderProblem({ content: problem }));
  } finally {
    form.setAttribute("aria-busy", false);
  }
}

function fill(form, example) {
  const model = form.elements.model?.value;
  form.reset();
  if (model) form.elements.model.value = model;
  for (const [name, value] of Object.entries(example)) {
    if (typeof value === "boolean") form.elements[name].checked = value;
    else form.elements[name].value = Array.isArray(value) ? value.join("\n") : value;
  }
}

function prepare(tab) {
  const panel = panelOf(tab);
  const [route, form, output] = [panel.id, panel.querySelector("form"), panel.querySelector(".output")];
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", onTabKey);
  form.addEventListener("submit", (event) => {
    event.preventDefault(); // the page's policy lets no form be sent anywhere
    ask(route, form, output);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  for (const [name, example] of Object.entries(EXAMPLES[route])) {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      fill(form, example);
      ask(route, form, output);
    });
    form.querySelector(".examples").append(" ", button);
  }
  fill(form, Object.values(EXAMPLES[route])[0]);
}

// A choice of models, where the task has several; the empty value leaves it to the server, which takes the default.
function offerModels(panel, bundles) {
  panel.querySelector(".models")?.remove();
  if (bundles.length < 2) return;
  const options = bundles.map(({ name, revision, default: first }) => {
    const shared = bundles.filter((bundle) => bundle.name === name).length > 1;
    const id = shared ? `${name}@${revision}` : name;
    return element("option", { value: first ? "" : id, textContent: id });
  });
  const select = element("select", { name: "model" }, ...options);
  select.dataset.optional = "";
  select.addEventListener("change", () => offerNoAnswer(panel, bundles[select.selectedIndex]));
  panel.querySelector(".options").append(element("label", { className: "models" }, "Model ", select));
}

function offerNoAnswer(panel, bundle) {
  const toggle = panel.querySelector('[name="allow_no_answer"]');
  if (!toggle) return;
  toggle.disabled = !bundle.no_answer;
  toggle.parentElement.title = bundle.no_answer ? "" : "This model was not trained to abstain.";
}

// Routes whose task has no bundle say so; where /info itself fails, the page says that and lets everything be tried.
async function showWhatIsLoaded() {
  const { response, content } = await send("info");
  if (!response.ok) {
    const reason = content.detail ?? response.statusText;
    return notify(panelOf(tabs[0]), `GET /info failed with ${response.status}: ${reason}`);
  }
  const { paths } = (await send("openapi.json")).content;
  const taskOf = (tab) => paths[`/${panelOf(tab).id}`].post["x-task"];
  const bundlesOf = (tab) => content.bundles.filter(({ task }) => task === taskOf(tab)); // the default first
  const bundleOf = (tab) => bundlesOf(tab)[0];
  for (const tab of tabs) {
    const [panel, bundle] = [panelOf(tab), bundleOf(tab)];
    tab.classList.toggle("missing", !bundle);
    panel.querySelector("fieldset").disabled = !bundle;
    notify(panel, bundle ? "" : NO_BUNDLE);
    offerModels(panel, bundlesOf(tab));
    if (bundle) offerNoAnswer(panel, bundle);
  }
  const first = tabs.find(bundleOf);
  if (first && !bundleOf(selected())) select(first);
}

function selected() {
  return tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
}

function notify(panel, text) {
  const notice = panel.querySelector(".notice");
  notice.textContent = text;
  notice.hidden = !text;
}

tabs.forEach(prepare);
key.form.addEventListener("submit", (event) => event.preventDefault());
key.addEventListener("change", showWhatIsLoaded);
showWhatIsLoaded();
