// Prints what transformers.js makes of a bundle, as JSON. Arguments: task, directory, text, second text (or nothing).
import path from "node:path";
import * as transformers from "@huggingface/transformers";

const [task, directory, text, pair] = process.argv.slice(2);
transformers.env.allowRemoteModels = false;
transformers.env.localModelPath = path.dirname(directory);
const name = path.basename(directory);
const kinds = {
  qa: transformers.AutoModelForQuestionAnswering,
  classify: transformers.AutoModelForSequenceClassification,
  similarity: transformers.AutoModel,
};
const tokenizer = await transformers.AutoTokenizer.from_pretrained(name);
const model = await kinds[task].from_pretrained(name, { dtype: "q8", device: "cpu" });
const inputs = tokenizer(text, pair ? { text_pair: pair } : {});
const outputs = await model(inputs);
const values = { input_ids: Array.from(inputs.input_ids.data, Number) };
for (const [key, tensor] of Object.entries(outputs)) values[key] = Array.from(tensor.data);
process.stdout.write(JSON.stringify(values));
