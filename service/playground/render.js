// From a reply to what is shown. Texts are set as text, never as HTML.

const STAGES = ["queue", "tokenization", "inference_wall", "postprocess"]; // they make up the total
const NAMES = { queue: "queue", tokenization: "tokenization", inference_wall: "inference", postprocess: "postprocess" };

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function percent(score) {
  return `${(100 * score).toFixed(1)}%`;
}

function milliseconds(value) {
  return `${value.toFixed(3)} ms`;
}

// A row of a ranking. `share` is the length of its bar, 0 to 1.
function row(label, figure, share, kind = "div") {
  const made = element(
    kind,
    { className: "row" },
    element("span", { className: "label", textContent: label }),
    element("span", { className: "figure", textContent: figure }),
    element("span", { className: "bar", ariaHidden: "true" }, element("span")),
  );
  made.lastChild.firstChild.style.width = `${100 * share}%`;
  return made;
}

// The passage with every answer marked. Offsets count code points, as the elements of an array of them do;
// JavaScript's strings count UTF-16 units, of which an emoji has two.
export function markAnswers(context, answers) {
  const points = Array.from(context);
  const passage = element("p", { className: "passage" });
  let at = 0;
  for (const answer of answers.toSorted((one, other) => one.start - other.start)) {
    const rank = answers.indexOf(answer);
    passage.append(points.slice(at, answer.start).join(""));
    passage.append(element("mark", { textContent: points.slice(answer.start, answer.end).join(""), id: `answer-${rank}` }));
    at = answer.end;
  }
  passage.append(points.slice(at).join(""));
  return passage;
}

function renderAnswers({ content }, body) {
  const passage = markAnswers(body.context, content.answers);
  const choose = (rank) => {
    passage.querySelectorAll("mark").forEach((mark) => mark.classList.toggle("chosen", mark.id === `answer-${rank}`));
    list.childNodes.forEach((each, index) => each.setAttribute("aria-pressed", index === rank));
  };
  const list = element("div", { className: "ranking" });
  for (const [rank, answer] of content.answers.entries()) {
    const button = row(answer.text, percent(answer.score), answer.score, "button");
    button.addEventListener("click", () => choose(rank));
    list.append(button);
  }
  choose(0);
  const none = element("p", { className: "none", textContent: "The passage holds no answer." });
  const abstain = content.no_answer_score;
  const aside = element("p", { className: "aside" });
  aside.textContent = abstain === null ? "This model was not trained to abstain." : `No answer: ${percent(abstain)}`;
  return [content.answers.length ? list : none, passage, aside];
}

function renderEntities({ content }, body) {
  const none = element("p", { className: "none", textContent: "The text names nothing that the model knows." });
  const rows = content.entities.map(({ label, text, score }) => row(`${text} · ${label}`, percent(score), score));
  const list = element("div", { className: "ranking" }, ...rows);
  return [rows.length ? list : none, markAnswers(body.text, content.entities)];
}

function renderLabels({ content }) {
  const rows = content.labels.map(({ label, score }) => row(label, percent(score), score));
  return [element("div", { className: "ranking" }, ...rows)];
}

function renderRanking({ content }, body) {
  const rows = content.results.map(({ index, score }) =>
    row(body.documents[index], score.toFixed(4), Math.min(Math.max(score, 0), 1)),
  );
  return [element("div", { className: "ranking" }, ...rows)];
}

function renderScores({ content }, body) {
  const pairs = content.scores.map((score, index) => ({ score, target: body.targets[index] }));
  const rows = pairs
    .toSorted((one, other) => other.score - one.score)
    .map(({ score, target }) => row(target, score.toFixed(4), Math.max(score, 0)));
  return [element("div", { className: "ranking" }, ...rows)];
}

// A bar of the stages, to the microsecond, with what the browser itself measured beside the server's total.
function renderStages({ content, elapsed }) {
  const timings = content.timings_ms;
  const bar = element("div", { className: "stages", ariaHidden: "true" });
  const legend = element("dl", { className: "legend" });
  for (const stage of STAGES) {
    const part = element("span", { className: stage });
    part.style.flexGrow = timings[stage];
    bar.append(part);
    legend.append(entry(NAMES[stage], milliseconds(timings[stage]), stage));
  }
  legend.append(entry("total in the service", milliseconds(timings.total), "total"));
  legend.append(entry("seen by this page", `${elapsed.toFixed(1)} ms`, "seen"));
  return element("section", { ariaLabel: "Time by stage" }, bar, legend);
}

function entry(term, description, className) {
  const [dt, dd] = [element("dt", { textContent: term }), element("dd", { textContent: description })];
  return element("div", { className }, dt, dd);
}

function renderCost({ content, response }) {
  const { model, timings_ms, usage } = content;
  const cut = usage.truncated ? `, cut from ${usage.tokens_in}` : "";
  const windows = `${usage.windows} window${usage.windows === 1 ? "" : "s"}`;
  const parts = [
    `${usage.tokens_used} tokens in ${windows}${cut}`,
    `${milliseconds(timings_ms.inference)} of neural compute`,
    `${model.name} @ ${model.revision}, ${model.precision}`,
    `request ${response.headers.get("x-request-id")}`,
  ];
  return element("p", { className: "aside", textContent: parts.join(" · ") });
}

// Quoted for a POSIX shell. A key is named and not shown.
function curl({ response, keyed }, body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const bearer = keyed ? ' -H "authorization: Bearer $API_KEY"' : "";
  return `curl -s ${response.url} -H 'content-type: application/json'${bearer} -d '${quoted}'`;
}

function renderCurl(reply, body) {
  const command = element("pre", { textContent: curl(reply, body) });
  const json = element("pre", { textContent: JSON.stringify(reply.content, null, 2) });
  const details = element("details", {}, element("summary", { textContent: "Request and response" }), command, json);
  const button = element("button", { type: "button", className: "copy", textContent: "Copy as curl" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent); // there only over https and on localhost
      button.textContent = "Copied";
    } catch {
      details.open = true;
      getSelection().selectAllChildren(command);
      button.textContent = "Selected: press Ctrl C";
    }
  });
  return element("div", { className: "curl" }, button, details);
}

// By the field of a response that holds its result.
const RENDER = {
  answers: renderAnswers,
  entities: renderEntities,
  labels: renderLabels,
  results: renderRanking,
  scores: renderScores,
};

export function renderResult(reply, body) {
  const field = Object.keys(RENDER).find((name) => name in reply.content);
  return [...RENDER[field](reply, body), renderStages(reply), renderCost(reply), renderCurl(reply, body)];
}

// `content` is a problem (RFC 9457), or empty when something else than the service answered.
export function renderProblem({ content, response }) {
  const status = response ? `${response.status} ${content.code ?? response.statusText}` : content.title;
  const detail = content.detail ?? "The answer did not come from halfdepth; look at what stands in front of it.";
  const box = element("div", { className: "problem", role: "alert" });
  box.append(element("h2", { textContent: status }), element("p", { textContent: detail }));
  const errors = content.errors?.length > 1 ? content.errors : []; // a single one is the detail itself
  for (const { field, message } of errors) {
    box.append(element("p", {}, element("code", { textContent: field || "body" }), ` ${message}`));
  }
  const wait = response?.headers.get("retry-after");
  if (wait) box.append(element("p", { textContent: `Try again in ${wait} s.` }));
  if (content.request_id) box.append(element("p", { className: "aside", textContent: `request ${content.request_id}` }));
  return box;
}
