// Compares onnxruntime in JavaScript with test vectors from Python: node check.mjs FOLDER [onnxruntime-web]
//
// FOLDER holds an artifact, test_vectors.json and ONNX's standard test data (test_data_set_N/input_K.pb, output_K.pb).
// Prints the largest error of each output, relative to the largest magnitude of the expected tensor if that exceeds 1.
// The exit code is 1 if an error is above the bound.
import "./telemetry.mjs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import { Artifact } from "../web/artifact.mjs";
import { EXACT_INT8 } from "../web/predictor.mjs";
import { readTensor } from "./tensor_file.mjs";

const FORMAT = 1;
const ERRORS_ONLY = 3;
const OPTIONS = {
  "onnxruntime-node": { executionProviders: ["cpu"], intraOpNumThreads: 1 },
  "onnxruntime-web": { executionProviders: ["wasm"] },
};

async function main(...given) {
  const [folder, name = "onnxruntime-node"] = given;
  if (folder === undefined || !(name in OPTIONS)) {
    const found = given.join(" ") || "nothing";
    throw new Error(`found ${found}, expected: node check.mjs FOLDER [${Object.keys(OPTIONS).join(" | ")}]`);
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
  const settings = { logSeverityLevel: ERRORS_ONLY, extra: EXACT_INT8, ...OPTIONS[name] };
  const session = await ort.InferenceSession.create(artifact.bytes, settings);
  for (const set of vectors.sets) await checkSet(ort, session, path.join(folder, set.folder), worst);
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

// Runs one set and updates the largest error of each output.
async function checkSet(ort, session, folder, worst) {
  const inputs = await readTensors(folder, "input");
  const feed = Object.fromEntries(inputs.map(({ name, type, data, dims }) => [name, new ort.Tensor(type, data, dims)]));
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

// The largest difference divided by the largest expected magnitude, or by 1 if that is less; infinite if shapes differ.
function relativeError(found, { dims, data }) {
  if (found === undefined || found.dims.join() !== dims.join()) return Infinity;
  let [difference, magnitude] = [0, 1];
  data.forEach((value, index) => {
    difference = Math.max(difference, Math.abs(found.data[index] - value));
    magnitude = Math.max(magnitude, Math.abs(value));
  });
  return difference / magnitude;
}

// Whether every error is within the bound.
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
