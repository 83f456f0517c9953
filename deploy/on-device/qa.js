// Answers questions in the browser, by the rules of the service (models/tasks/qa.py): windows in, spans out.
import { AutoModelForQuestionAnswering, AutoTokenizer, Tensor, env } from "./node_modules/@huggingface/transformers/dist/transformers.min.js";

const MAX_WINDOW_TOKENS = 384;
const DOC_STRIDE = 128;
const MAX_ANSWER_TOKENS = 30;
const THRESHOLD = "no_answer_threshold";
const BY_TOKENS = "no_answer_threshold_by_tokens";
const NULL_POSITION = 0; // [CLS] stands for "no answer", as in SQuAD 2.0

// What BERT's pre-tokenizer splits at: spaces, and each sign of punctuation by itself.
const PUNCTUATION = "\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E";
const WORDS = new RegExp(`[^\\s${PUNCTUATION}]+|[${PUNCTUATION}]`, "gu");
const LETTER = /[\p{L}\p{N}\p{M}]/u;
const WITHOUT_SPACES =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}\p{sc=Tibetan}]/u;

/** A sentence for people: what is wrong, and what to do about it. */
export class DeviceError extends Error {}

/** Let onnxruntime take its files from this server and so many threads. Returns: the threads that it gets. */
export function prepare(threads) {
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.useBrowserCache = false; // the HTTP cache asks whether a bundle has changed; this one would not
  const { wasm } = env.backends.onnx;
  wasm.wasmPaths = new URL("./node_modules/@huggingface/transformers/dist/", import.meta.url).href;
  wasm.numThreads = globalThis.crossOriginIsolated ? threads : 1; // threads share memory, which needs isolation
  return wasm.numThreads;
}

/** Load a bundle. `progress` is called with the bytes that came. Raises: DeviceError. */
export async function load(address, progress = () => {}) {
  const url = new URL(address.replace(/\/*$/, "/"), document.baseURI);
  const config = await json(url, "config.json");
  if (!config?.architectures?.[0]?.endsWith("ForQuestionAnswering")) {
    const found = config ? "is not for question answering" : "holds no config.json";
    throw new DeviceError(`${url.href} ${found}; name a bundle of qa by ?bundle=`);
  }
  const overrides = (await json(url, "halfdepth.json")) ?? {};
  const foreign = Object.keys(overrides).filter((key) => !["task", THRESHOLD, BY_TOKENS].includes(key));
  if (foreign.length) throw new DeviceError(`halfdepth.json sets ${foreign.join(", ")}, which this page does not know`);
  const precision = await firstPrecision(url);
  const [, parent, name] = /^(.*\/)([^/]+)\/$/.exec(url.href);
  env.localModelPath = parent;
  const received = new Map();
  const options = {
    dtype: precision === "int8" ? "q8" : "fp32",
    device: "wasm",
    progress_callback: ({ status, file, loaded }) => {
      if (status !== "progress") return;
      received.set(file, loaded);
      progress([...received.values()].reduce((sum, size) => sum + size, 0));
    },
  };
  const tokenizer = await AutoTokenizer.from_pretrained(name, options);
  const kinds = [tokenizer.model.config.type, tokenizer.normalizer?.config.type];
  if (kinds.join() !== "WordPiece,BertNormalizer" || tokenizer.pre_tokenizer?.pattern?.source !== WORDS.source) {
    throw new DeviceError(`This page reads BERT's tokenizers alone, and ${name} has another (${kinds.join(", ")}).`);
  }
  const frame = tokenizer("", { text_pair: "", return_tensor: false }).input_ids;
  if (frame.length !== 3 || frame[1] !== frame[2]) {
    throw new DeviceError(`This page lays out [CLS] question [SEP] passage [SEP], and ${name} does otherwise.`);
  }
  const model = await AutoModelForQuestionAnswering.from_pretrained(name, options);
  const limits = [MAX_WINDOW_TOKENS, tokenizer.model_max_length, config.max_position_embeddings];
  return {
    name,
    precision,
    tokenizer,
    frame,
    model,
    bytes: [...received.values()].reduce((sum, size) => sum + size, 0),
    maxLength: Math.min(...limits.filter((limit) => limit > 0)),
    thresholds: thresholdsOf(overrides) ?? thresholdsOf(config),
  };
}

/** Read [context tokens, logits] points of "no answer"; one threshold is a single point. Null where there is none. */
function thresholdsOf(settings) {
  const threshold = settings[THRESHOLD] ?? null;
  return settings[BY_TOKENS] ?? (threshold === null ? null : [[1, threshold]]);
}

/** As `threshold_of` of models/tasks/qa.py: straight over the logarithm of the tokens. */
function thresholdAt(points, tokens) {
  const next = points.findIndex(([count]) => tokens < count);
  if (next <= 0) return points.at(next)[1];
  const [[low, from], [high, to]] = [points[next - 1], points[next]];
  return from + ((to - from) * Math.log(tokens / low)) / Math.log(high / low);
}

async function json(url, file) {
  let response;
  try {
    response = await fetch(new URL(file, url));
  } catch (error) {
    throw new DeviceError(`${url.href} cannot be reached (${error.message}); is its server running?`);
  }
  if (response.status === 404) return null;
  if (!response.ok) throw new DeviceError(`${url.href}${file}: the server answers ${response.status}`);
  try {
    return await response.json();
  } catch {
    throw new DeviceError(`${url.href}${file} is not JSON; restore the file`);
  }
}

async function firstPrecision(url) {
  for (const [file, precision] of [["onnx/model_quantized.onnx", "int8"], ["onnx/model.onnx", "fp32"]]) {
    const { ok } = await fetch(new URL(file, url), { method: "HEAD" });
    if (ok) return precision;
  }
  throw new DeviceError(`${url.href} holds no onnx/model_quantized.onnx and no onnx/model.onnx; export it again`);
}

/**
 * Answer a question. Offsets count code points, as the service's do.
 *
 * Returns: text, start, end, score, noAnswerScore (null for a model that cannot abstain), tokens, windows, and timings
 * in milliseconds: tokenization (with offsets and windows) and inference (of all windows).
 */
export async function answer(bundle, question, context) {
  const began = performance.now();
  const encoding = encode(bundle, question, context);
  const encoded = performance.now();
  const outputs = [];
  for (const window of encoding.windows) outputs.push(await run(bundle.model, window));
  const inferred = performance.now();
  const tokens = encoding.windows.reduce((sum, window) => sum + window.ids.length, 0);
  return {
    ...decode(bundle, encoding, outputs),
    tokens,
    windows: encoding.windows.length,
    timings: { tokenization: encoded - began, inference: inferred - encoded },
  };
}

/** Tokenize, then slice the context into overlapping windows behind the question. Raises: DeviceError. */
export function encode({ tokenizer, frame, maxLength }, question, context) {
  const ids = (tokens) => tokenizer.model.convert_tokens_to_ids(tokens);
  const asked = ids(tokenizer.tokenize(question));
  const tokens = tokenizer.tokenize(context);
  const characters = Array.from(context);
  const places = placesOf(tokenizer, tokens, characters);
  const contextIds = ids(tokens);
  const [cls, sep] = frame;
  const head = [cls, ...asked, sep];
  const room = maxLength - head.length - 1;
  if (room < 1) {
    throw new DeviceError(`The question takes ${head.length} of the model's ${maxLength} tokens; shorten it.`);
  }
  const step = DOC_STRIDE < room ? room - DOC_STRIDE : Math.ceil(room / 2);
  const windows = [];
  for (let first = 0; first < Math.max(contextIds.length - room, 0) + step; first += step) {
    const part = contextIds.slice(first, first + room);
    const types = [...head.map(() => 0), ...part.map(() => 1), 1];
    windows.push({
      ids: [...head, ...part, sep],
      types: tokenizer.return_token_type_ids ? types : types.map(() => 0),
      position: head.length,
      first,
      length: part.length,
    });
  }
  return { windows, places, characters };
}

/** Find where each token stands in the text: transformers.js has no offsets. Returns: [start, end) in code points. */
function placesOf(tokenizer, tokens, characters) {
  const normalized = [];
  const origins = [];
  characters.forEach((character, origin) => {
    for (const each of tokenizer.normalizer(character)) {
      normalized.push(each);
      origins.push(origin);
    }
  });
  const places = [];
  let next = 0; // of the tokens
  let read = 0; // code points of the normalized text, before
  let unit = 0; // the same place in UTF-16
  for (const { 0: word, index } of normalized.join("").matchAll(WORDS)) {
    while (unit < index) unit += normalized[read++].length;
    const length = Array.from(word).length;
    let position = 0;
    while (position < length && next < tokens.length) {
      const token = tokens[next++];
      const piece = token === tokenizer.unk_token ? length : Array.from(token.replace(/^##/, "")).length;
      const last = Math.min(position + piece, length) - 1;
      places.push([origins[read + position], origins[read + last] + 1]);
      position += piece;
    }
    if (position !== length) break;
  }
  if (places.length !== tokens.length || next !== tokens.length) {
    throw new DeviceError("This page cannot tell where the passage's tokens stand; does it hold [SEP] or the like?");
  }
  return places;
}

/** Run a window. Returns: start and end logits, one for each token. */
async function run(model, { ids, types }) {
  const tensor = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  const { start_logits, end_logits } = await model({
    input_ids: tensor(ids),
    attention_mask: tensor(ids.map(() => 1)),
    token_type_ids: tensor(types),
  });
  return [start_logits.data, end_logits.data];
}

/** Find the best span over all windows; one that several windows hold keeps its best logit. */
export function decode({ thresholds }, { windows, places, characters }, outputs) {
  const longest = Math.min(MAX_ANSWER_TOKENS, places.length);
  if (!longest) return { text: "", start: 0, end: 0, score: 0, noAnswerScore: thresholds === null ? null : 1 };
  const spans = new Float32Array(places.length * longest).fill(-Infinity);
  windows.forEach(({ position, first, length }, number) => {
    const [starts, ends] = outputs[number];
    for (let token = 0; token < length; token++) {
      for (let extra = 0; extra < longest && token + extra < length; extra++) {
        const place = (first + token) * longest + extra;
        spans[place] = Math.max(spans[place], starts[position + token] + ends[position + token + extra]);
      }
    }
  });
  let best = 0;
  spans.forEach((logit, place) => {
    if (logit > spans[best]) best = place;
  });
  const nulls = outputs.map(([starts, ends]) => starts[NULL_POSITION] + ends[NULL_POSITION]);
  const abstains = thresholds !== null;
  const nullLogit = abstains ? Math.min(...nulls) - thresholdAt(thresholds, places.length) : -Infinity;
  const top = Math.max(spans[best], nullLogit);
  const total = spans.reduce((sum, logit) => sum + Math.exp(logit - top), Math.exp(nullLogit - top));
  const first = Math.floor(best / longest);
  const [start, end] = aligned(characters, places[first][0], places[first + (best % longest)][1]);
  return {
    text: characters.slice(start, end).join(""),
    start,
    end,
    score: Math.exp(spans[best] - top) / total,
    noAnswerScore: abstains ? Math.exp(nullLogit - top) / total : null,
  };
}

/** Widen a span until it cuts no word in two: a run of letters and digits, and a number with its points and commas. */
function aligned(characters, start, end) {
  const isDigit = (place) => /\p{Nd}/u.test(characters[place] ?? "");
  const isInside = (place) => {
    const [left, right] = [characters[place - 1], characters[place]];
    if (left === undefined || right === undefined) return false;
    if (/\p{M}/u.test(right)) return true;
    if (LETTER.test(left) && LETTER.test(right)) return !WITHOUT_SPACES.test(left) && !WITHOUT_SPACES.test(right);
    if (right === "." || right === ",") return isDigit(place - 1) && isDigit(place + 1);
    if (left === "." || left === ",") return isDigit(place) && isDigit(place - 2);
    return false;
  };
  while (isInside(start)) start--;
  while (isInside(end)) end++;
  return [start, end];
}
