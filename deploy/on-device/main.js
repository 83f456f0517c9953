// Runs the page: loads the bundle that ?bundle= names, and answers with the times of both stages.
import { DeviceError, answer, load, prepare } from "./qa.js";

const DEFAULT_BUNDLE = "../../bundles/qa-small";
const parameters = new URLSearchParams(location.search);
const find = (selector) => document.querySelector(selector);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function explain(error) {
  find("#status").textContent = "";
  find("#problem").hidden = false;
  find("#problem").textContent =
    error instanceof DeviceError ? error.message : `The browser could not do it: ${error.message}`;
}

function show({ text, score, noAnswerScore, start, end, tokens, windows, timings }, context) {
  find("#problem").hidden = true;
  const isAbsent = text === "" || (noAnswerScore !== null && noAnswerScore > score);
  const told = isAbsent ? " (the model rather thinks that the passage does not say)" : "";
  find("#answer").textContent = `${text}${told}`;
  const characters = Array.from(context);
  const mark = document.createElement("mark");
  mark.textContent = characters.slice(start, end).join("");
  find("#passage").replaceChildren(characters.slice(0, start).join(""), mark, characters.slice(end).join(""));
  find("#tokenization").textContent = `${timings.tokenization.toFixed(1)} ms`;
  find("#inference").textContent = `${timings.inference.toFixed(1)} ms`;
  find("#size").textContent = `${tokens} tokens in ${windows} window${windows === 1 ? "" : "s"}`;
  find("#score").textContent = `${(100 * score).toFixed(1)} %`;
  Object.assign(find("#result").dataset, { text, start, end, score, noAnswerScore });
  find("#result").hidden = false;
}

/** Show the table of `halfdepth loadtest device --out measured.json`, where that file lies beside the page. */
async function showMeasured() {
  const response = await fetch("measured.json");
  if (!response.ok) return;
  const { rows, machine, date, versions } = await response.json();
  for (const { model, megabytes, tokens, tokenization_ms, inference_ms } of rows) {
    const cells = [model, megabytes.toFixed(1), tokens, tokenization_ms.toFixed(2), inference_ms.toFixed(1)];
    const row = find("#measured tbody").insertRow();
    for (const text of cells) row.insertCell().textContent = text;
  }
  find("#measured caption").textContent =
    `One thread of ${machine.processor}, a server, in headless Chromium ${versions.chromium}, ${date.slice(0, 10)}`;
  find("#measured").hidden = false;
}

async function start() {
  const threads = prepare(Math.max(1, Number.parseInt(parameters.get("threads") ?? "1", 10) || 1));
  find("#threads").textContent = threads === 1 ? "one thread" : `${threads} threads`;
  const began = performance.now();
  const bundle = await load(parameters.get("bundle") ?? DEFAULT_BUNDLE, (bytes) => {
    find("#status").textContent = `Loading: ${megabytes(bytes)} …`;
  });
  await answer(bundle, "Who?", "Nobody."); // the first run allocates; nobody should wait for that
  const seconds = ((performance.now() - began) / 1e3).toFixed(1);
  find("#status").textContent = `${bundle.name}, ${bundle.precision}, ${megabytes(bundle.bytes)}, loaded in ${seconds} s`;
  find("button").disabled = false;
  find("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { question, context } = find("form");
    find("button").disabled = true;
    find("#result").hidden = true;
    try {
      show(await answer(bundle, question.value, context.value), context.value);
    } catch (error) {
      explain(error);
    } finally {
      find("button").disabled = false;
    }
  });
}

start().catch(explain).then(showMeasured);
