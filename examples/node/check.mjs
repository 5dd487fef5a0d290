// Whether onnxruntime in JavaScript computes what Python did: node check.mjs FOLDER [onnxruntime-web]
//
// FOLDER holds an artifact, test_vectors.json and ONNX's standard test data (test_data_set_N/input_K.pb, output_K.pb).
// Prints the worst error of each output relative to the largest magnitude of the expected tensor; the exit code is 1
// where one is above the bound.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import { Artifact } from "../web/artifact.mjs";
import { readTensor } from "./tensor_file.mjs";

const FORMAT = 1;
const ERRORS_ONLY = 3;
const TO_KEEP = "logits_to_keep";
const OPTIONS = {
  "onnxruntime-node": { executionProviders: ["cpu"], intraOpNumThreads: 1 },
  "onnxruntime-web": { executionProviders: ["wasm"] },
};

async function main(folder, name = "onnxruntime-node") {
  if (folder === undefined || !(name in OPTIONS)) {
    throw new Error(
      `found ${[folder, name].join(" ")}, expected: node check.mjs FOLDER [${Object.keys(OPTIONS).join(" | ")}]`,
    );
  }
  const ort = await import(name);
  if (ort.env.wasm) ort.env.wasm.numThreads = 1;
  const vectors = await readVectors(folder);
  const artifact = await Artifact.read(await readFile(path.join(folder, vectors.artifact)), vectors.artifact);
  if (artifact.sha256 !== vectors.sha256) {
    throw new Error(
      `${vectors.artifact} has the hash ${artifact.sha256}, the test vectors were made with ${vectors.sha256}`,
    );
  }
  const worst = {};
  const sessionKeeping = sessions(ort, artifact, OPTIONS[name]);
  for (const set of vectors.sets) await checkSet(ort, sessionKeeping, path.join(folder, set.folder), worst);
  return report(name, ort, vectors, worst);
}

async function readVectors(folder) {
  const vectors = JSON.parse(await readFile(path.join(folder, "test_vectors.json"), "utf-8"));
  if (vectors.format !== FORMAT || !vectors.sets?.length) {
    const count = vectors.sets?.length ?? "no";
    throw new Error(
      `test_vectors.json has the format ${vectors.format} and ${count} sets, expected ${FORMAT} and some`,
    );
  }
  return vectors;
}

// Gives a session for each number of logits to keep: neither package takes that as an input.
function sessions(ort, artifact, options) {
  const made = new Map();
  const settings = { logSeverityLevel: ERRORS_ONLY, ...options };
  return (kept) => {
    if (!made.has(kept)) made.set(kept, ort.InferenceSession.create(artifact.bytesKeeping(kept), settings));
    return made.get(kept);
  };
}

// Runs one set and raises the worst error of each output.
async function checkSet(ort, sessionKeeping, folder, worst) {
  const inputs = await readTensors(folder, "input");
  const kept = Number(inputs.find((tensor) => tensor.name === TO_KEEP)?.data[0] ?? 0);
  const session = await sessionKeeping(kept);
  const feed = {};
  for (const { name, type, data, dims } of inputs) if (name !== TO_KEEP) feed[name] = new ort.Tensor(type, data, dims);
  const results = await session.run(feed);
  const expected = await readTensors(folder, "output");
  if (expected.length === 0) throw new Error(`${folder} has no output_K.pb, so there is nothing to compare with`);
  for (const tensor of expected) {
    const error = relativeError(results[tensor.name], tensor);
    worst[tensor.name] = Math.max(worst[tensor.name] ?? 0, Number.isNaN(error) ? Infinity : error);
  }
}

async function readTensors(folder, kind) {
  const names = (await readdir(folder)).filter((file) => file.startsWith(`${kind}_`) && file.endsWith(".pb"));
  return Promise.all(names.map((file) => readTensor(path.join(folder, file))));
}

// The largest difference over the largest expected magnitude; infinite where the shape is another one.
function relativeError(found, { dims, data }) {
  if (found === undefined || found.dims.join() !== dims.join()) return Infinity;
  let [difference, magnitude] = [0, 0];
  data.forEach((value, index) => {
    difference = Math.max(difference, Math.abs(found.data[index] - value));
    magnitude = Math.max(magnitude, Math.abs(value));
  });
  return difference === 0 ? 0 : difference / magnitude;
}

// Whether all of it is within the bound.
function report(name, ort, { artifact, sets, bound }, worst) {
  const version = ort.env.versions[name.split("-")[1]];
  console.log(`${name} ${version}, ${artifact}, ${sets.length} sets of test vectors, bound ${bound}`);
  for (const [output, error] of Object.entries(worst)) {
    console.log(`  ${output.padEnd(16)}  ${error.toExponential(1)}${error <= bound ? "" : "  above the bound"}`);
  }
  return Object.values(worst).every((error) => error <= bound);
}

try {
  process.exitCode = (await main(...process.argv.slice(2))) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
