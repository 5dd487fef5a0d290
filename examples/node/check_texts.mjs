// Compares tokens with those of Python: node check_texts.mjs test_texts.json
//
// `lmtool export --test-vectors` writes the file: a vocabulary, texts, their ids and the text of these ids. Needs no
// package. Prints the first texts that differ; the exit code is 1 then.
import { readFile } from "node:fs/promises";

import { Tokenization } from "../web/tokenization.mjs";
import { Vocabulary } from "../web/vocabulary.mjs";

const FORMAT = 1;
const SHOWN = 5;

async function main(file) {
  if (file === undefined) throw new Error("found no file, expected: node check_texts.mjs test_texts.json");
  const found = JSON.parse(await readFile(file, "utf-8"));
  if (found.format !== FORMAT) throw new Error(`${file} has the format ${found.format}, expected ${FORMAT}`);
  const vocabulary = new Vocabulary(found.vocabulary, new Tokenization(found.tokenization));
  const cases = [...found.texts, ...found.halves, ...found.ids];
  const wrong = cases.filter((each) => !agrees(vocabulary, each));
  for (const { text, ids } of wrong.slice(0, SHOWN)) console.log(`differs: ${JSON.stringify(text ?? ids)}`);
  console.log(`${cases.length} cases of the rule ${vocabulary.tokenization.rule}, ${wrong.length} differ`);
  return wrong.length === 0;
}

function agrees(vocabulary, { text, ids, decoded = text }) {
  const encodes = text === undefined || vocabulary.encode(text).join() === ids.join();
  return encodes && vocabulary.decode(ids) === decoded;
}

try {
  process.exitCode = (await main(...process.argv.slice(2))) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
