// Runs an artifact in onnxruntime-node or onnxruntime-web; requests arrive on stdin, answers go to stdout.
//
//     node node_worker.mjs PACKAGE FOLDER
//
// The search for the package starts in FOLDER. The first answer holds the versions; then each message gets one answer
// until stdin ends. The first message names the artifact to load, every other one is a call. A message is the length of
// its header (4 bytes, little-endian), the header (JSON), and the bytes of the tensors in the header's `tensors`. An
// answer starts with ANSWER, to distinguish it from other output. An error goes to stderr and ends the process.
import { Console } from "node:console";
import { readSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array };
const ANSWER = Buffer.from("lmt:");
const ERRORS_ONLY = 3;

globalThis.console = new Console(process.stderr); // stdout is for answers only

async function main(name, folder) {
  const ort = createRequire(path.join(folder, "any.js"))(name);
  send({ versions: { [name]: ort.env.versions[name.split("-")[1]], node: process.versions.node } });
  let message = receive();
  if (message === null) return;
  const start = process.hrtime.bigint();
  const session = await load(name, ort, message);
  send({ nanoseconds: since(start) });
  while ((message = receive()) !== null) {
    const { nanoseconds, tensors } = await call(ort, session, message);
    send({ nanoseconds }, tensors);
  }
}

function load(name, ort, { artifact, threads }) {
  const options = { logSeverityLevel: ERRORS_ONLY }; // loading warns about the input with a default
  if (name === "onnxruntime-web") {
    ort.env.wasm.numThreads = threads;
    return ort.InferenceSession.create(artifact, { ...options, executionProviders: ["wasm"] });
  }
  const threading = { intraOpNumThreads: threads, interOpNumThreads: 1, executionMode: "sequential" };
  // x86-64 without VNNI sums pairs of uint8 times int8 in 16 bits, which overflow; this makes int8 weights uint8.
  const extra = { session: { x64quantprecision: "1" } };
  return ort.InferenceSession.create(artifact, { ...options, ...threading, extra, executionProviders: ["cpu"] });
}

// As an application does: typed arrays become tensors, the session runs, typed arrays come out. With targets, their
// log-probabilities replace the logits.
async function call(ort, session, { outputs, tensors }) {
  const start = process.hrtime.bigint();
  const feed = {};
  for (const { name, type, shape, data } of tensors) feed[name] = new ort.Tensor(type, data, shape);
  const { targets } = feed;
  delete feed.targets;
  const results = await session.run(feed, outputs);
  const data = outputs.map((name) => results[name].data); // now in host memory, wherever it was computed
  const scored = targets && logProbs(results.logits, targets);
  const nanoseconds = since(start);
  const arrays = outputs.map((name, index) => ({ type: results[name].type, shape: results[name].dims, data: data[index] }));
  return { nanoseconds, tensors: scored ? [scored, ...arrays.slice(1)] : arrays };
}

const since = (start) => Number(process.hrtime.bigint() - start);

// Log-probability float64 [batch, time] of each target in logits float32 [batch, time, vocabulary].
function logProbs({ dims: [batch, time, vocabulary], data }, targets) {
  const logProbabilities = new Float64Array(batch * time);
  for (let position = 0; position < logProbabilities.length; position++) {
    const begin = position * vocabulary;
    let largest = -Infinity;
    for (let token = begin; token < begin + vocabulary; token++) if (data[token] > largest) largest = data[token];
    let sum = 0;
    for (let token = begin; token < begin + vocabulary; token++) sum += Math.exp(data[token] - largest);
    logProbabilities[position] = data[begin + Number(targets.data[position])] - largest - Math.log(sum);
  }
  return { type: "float64", shape: [batch, time], data: logProbabilities };
}

// The next message, or null at the end of stdin.
function receive() {
  const size = read(4);
  if (size === null) return null;
  const header = JSON.parse(read(size.readUInt32LE()).toString());
  return { ...header, tensors: header.tensors.map(readTensor) };
}

function readTensor({ name, type, shape }) {
  const elements = shape.reduce((product, length) => product * length, 1);
  const { buffer } = read(elements * ARRAYS[type].BYTES_PER_ELEMENT);
  return { name, type, shape, data: new ARRAYS[type](buffer) };
}

function read(size) {
  const bytes = Buffer.from(new ArrayBuffer(size)); // a separate buffer, so that a typed array is aligned
  for (let filled = 0; filled < size; ) {
    const count = readSync(0, bytes, filled, size - filled);
    if (count === 0) return null;
    filled += count;
  }
  return bytes;
}

function send(header, tensors = []) {
  const shapes = tensors.map(({ type, shape }) => ({ type, shape }));
  const text = Buffer.from(JSON.stringify({ ...header, tensors: shapes }));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(text.length);
  for (const part of [ANSWER, size, text, ...tensors.map(({ data }) => data)]) write(part);
}

function write({ buffer, byteOffset, byteLength }) {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  for (let written = 0; written < byteLength; ) written += writeSync(1, bytes, written);
}

try {
  const [name, folder] = process.argv.slice(2);
  await main(name, folder);
  process.exit(0); // WebAssembly threads would keep the process alive
} catch (error) {
  console.error(String(error?.message ?? error).split("\nRequire stack:")[0]);
  process.exit(1);
}
