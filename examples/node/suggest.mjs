// The five most probable next words after a text: node suggest.mjs model.onnx "return the number of"
import "./telemetry.mjs";
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import { Artifact } from "../web/artifact.mjs";
import { Autocompletion } from "../web/autocompletion.mjs";
import { Predictor } from "../web/predictor.mjs";

async function main(file, ...words) {
  if (file === undefined) throw new Error('found no model, expected: node suggest.mjs model.onnx "the text so far"');
  const artifact = await Artifact.read(await readFile(file), file);
  const predictor = await Predictor.create(ort, artifact, { intraOpNumThreads: 1 });
  const autocompletion = new Autocompletion(predictor);
  for (const { shown, probability } of await autocompletion.nextWords(words.join(" "), 5)) {
    console.log(`${(100 * probability).toFixed(2).padStart(6)}%  ${quoted(shown)}`);
  }
  if (!autocompletion.exact) console.error("the search was cut: other words may be as probable as the last ones");
}

function quoted(token) {
  const escaped = JSON.stringify(token);
  return token.includes("'") ? escaped : `'${escaped.slice(1, -1).replaceAll('\\"', '"')}'`;
}

await main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
