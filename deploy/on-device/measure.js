// Measures bundles at several lengths, and posts the rows to ?report= where that is given (loadtest/device does).
import { answer, encode, load, prepare } from "./qa.js";

const QUESTION = "Who built it?";
const SENTENCE = "The old tower on the north coast was built of red stone by the people of the town. ";

const WARM_MS = 3000; // browsers compile WebAssembly quickly at first, and then, while it runs, well

const parameters = new URLSearchParams(location.search);
const find = (selector) => document.querySelector(selector);
const all = (name, fallback) => (parameters.has(name) ? parameters.getAll(name) : fallback);

function median(values) {
  const sorted = [...values].sort((first, second) => first - second);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const rounded = (milliseconds) => Math.round(milliseconds * 100) / 100; // browsers' clocks tick in 0.1 ms at best

/** Make a passage that takes so many tokens with the question, in one window. */
function passageOf(bundle, tokens) {
  const text = SENTENCE.repeat(Math.ceil(tokens / 10) + 1);
  const { windows, places } = encode(bundle, QUESTION, text);
  const room = tokens - (windows[0].position + 1);
  if (room < 1 || tokens > bundle.maxLength) {
    throw new Error(`${tokens} tokens cannot be measured: a window holds ${bundle.maxLength}, the question a part of it`);
  }
  return text.slice(0, places[room - 1][1]);
}

async function warmUp(bundle) {
  const end = performance.now() + WARM_MS;
  while (performance.now() < end) {
    await answer(bundle, QUESTION, SENTENCE);
    await new Promise((resolve) => setTimeout(resolve)); // what was compiled well comes in between
  }
}

async function measure(bundle, tokens, runs) {
  const passage = passageOf(bundle, tokens);
  await answer(bundle, QUESTION, passage); // allocates
  const kept = [];
  for (let number = 0; number < runs; number++) kept.push(await answer(bundle, QUESTION, passage));
  return {
    model: bundle.name,
    precision: bundle.precision,
    megabytes: Math.round(bundle.bytes / 1e5) / 10,
    tokens: kept[0].tokens,
    tokenization_ms: rounded(median(kept.map(({ timings }) => timings.tokenization))),
    inference_ms: rounded(median(kept.map(({ timings }) => timings.inference))),
  };
}

function show({ model, precision, megabytes, tokens, tokenization_ms, inference_ms }) {
  const row = find("tbody").insertRow();
  const cells = [`${model}, ${precision}`, megabytes.toFixed(1), tokens, tokenization_ms.toFixed(2), inference_ms.toFixed(1)];
  for (const text of cells) row.insertCell().textContent = text;
}

async function post(body) {
  if (!parameters.has("report")) return;
  await fetch(parameters.get("report"), { method: "POST", body: JSON.stringify(body) });
}

async function start() {
  prepare(1);
  for (const address of all("bundle", ["../../bundles/qa", "../../bundles/qa-small"])) {
    find("#status").textContent = `Loading ${address} …`;
    const bundle = await load(address);
    await warmUp(bundle);
    for (const tokens of all("tokens", ["16", "128", "384"]).map(Number)) {
      find("#status").textContent = `${bundle.name}: ${tokens} tokens …`;
      const row = await measure(bundle, tokens, Number(parameters.get("runs") ?? "20"));
      show(row);
      await post({ row });
    }
    await bundle.model.dispose();
  }
  find("#status").textContent = "Done.";
  await post({ done: true });
}

start().catch(async (error) => {
  find("#status").textContent = "";
  find("#problem").hidden = false;
  find("#problem").textContent = error.message;
  await post({ error: error.message });
});
