// The model in a web worker: typing stays smooth while it loads or reads a long text.
//
// A message is { id, call, ...arguments }, its answer { id, result } or { id, error }. Calls run one after another.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

import { Artifact } from "./artifact.mjs";
import { Autocompletion } from "./autocompletion.mjs";
import { ArtifactError } from "./errors.mjs";
import { Predictor } from "./predictor.mjs";
import { Writing } from "./writing.mjs";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send

let predictor = null;
let autocompletion = null;
let writing = null;

const calls = {
  // Opens a model from its bytes or a path of this site. Returns its facts, or null if an optional model is missing.
  async open({ bytes, path, name, optional = false }) {
    const data = bytes ?? (await fetched(path, optional));
    if (data === null) return null;
    const artifact = await Artifact.read(new Uint8Array(data), name);
    const opened = await created(artifact, name);
    await predictor?.release();
    predictor = opened;
    autocompletion = new Autocompletion(predictor);
    await autocompletion.position([]); // the first call takes longest
    return facts(artifact, name);
  },

  // Suggestions after a text, whether they are exact, the time they took here, and how many tokens ran.
  async suggest({ text, count, temperature }) {
    const [start, before] = [performance.now(), autocompletion.tokensRun];
    const suggestions = await autocompletion.suggestions(text, count, temperature);
    const milliseconds = performance.now() - start;
    return { ...found(suggestions), milliseconds, tokensRun: autocompletion.tokensRun - before };
  },

  // Begins to generate after a text.
  async begin({ text, seed }) {
    writing = await Writing.begin(predictor, autocompletion, text, seed);
  },

  // Generates one token: the text that it adds, and the suggestions after it, whether they are exact.
  async write({ temperature, count }) {
    const piece = await writing.next(temperature);
    return { piece, ...found(await writing.suggestions(count, temperature)) };
  },
};

const found = (suggestions) => ({ suggestions, exact: autocompletion.exact });

async function fetched(path, optional) {
  const response = await fetch(path).catch((error) => error);
  if (optional && response.status === 404) return null;
  if (response instanceof Error) throw new ArtifactError(`${path} could not be loaded: ${response.message}`);
  if (!response.ok) {
    throw new ArtifactError(
      `${path} could not be loaded: the server answered ${response.status}; expected a model there`,
    );
  }
  return response.arrayBuffer();
}

async function created(artifact, name) {
  try {
    return await Predictor.create(ort, artifact, { executionProviders: ["wasm"] });
  } catch (error) {
    const version = ort.env.versions.web;
    throw new ArtifactError(`onnxruntime-web ${version} cannot run ${name} (${artifact.precision}): ${error.message}`);
  }
}

function facts({ bytes, model, precision, training, vocabulary, sha256, hashChecked }, name) {
  const { rule, unit, unknown, endOfSentence } = vocabulary.tokenization;
  const tokenization = { rule, unit, unknown, end_of_sentence: endOfSentence };
  return {
    name,
    size: bytes.length,
    model,
    precision,
    training,
    words: vocabulary.size,
    tokenization,
    sha256,
    hashChecked,
  };
}

async function answer({ data: { id, call, ...rest } }) {
  try {
    postMessage({ id, result: await calls[call](rest) });
  } catch (error) {
    postMessage({ id, error: error.message });
    if (!(error instanceof ArtifactError)) console.error(error); // a bug of the page
  }
}

let last = Promise.resolve();
onmessage = (message) => {
  last = last.catch(() => {}).then(() => answer(message));
};
