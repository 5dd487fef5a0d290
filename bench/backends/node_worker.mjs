// Runs an artifact in onnxruntime-node or onnxruntime-web; requests arrive on stdin, answers go to stdout.
//
//     node node_worker.mjs PACKAGE FOLDER
//
// The search for the package starts in FOLDER. The first answer holds the versions; then each message gets one answer
// until stdin ends. The first message names the artifact to load, every other one is a call. Messages are those of
// ort_calls.mjs. An answer starts with ANSWER, to distinguish it from other output. An error goes to stderr and ends the
// process.
import { Console } from "node:console";
import { readSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { call, ERRORS_ONLY, pack, unpack } from "./ort_calls.mjs";

const ANSWER = Buffer.from("lmt:");

globalThis.console = new Console(process.stderr); // stdout is for answers only

const now = () => Number(process.hrtime.bigint());

async function main(name, folder) {
  const ort = createRequire(path.join(folder, "any.js"))(name);
  send({ versions: { [name]: ort.env.versions[name.split("-")[1]], node: process.versions.node } });
  let message = unpack(read);
  if (message === null) return;
  const start = now();
  const session = await load(name, ort, message);
  send({ nanoseconds: now() - start });
  while ((message = unpack(read)) !== null) {
    const { nanoseconds, tensors } = await call(ort, session, message, now);
    send({ nanoseconds }, tensors);
  }
}

function load(name, ort, { artifact, threads }) {
  const options = { logSeverityLevel: ERRORS_ONLY };
  if (name === "onnxruntime-web") {
    ort.env.wasm.numThreads = threads;
    return ort.InferenceSession.create(artifact, { ...options, executionProviders: ["wasm"] });
  }
  const threading = { intraOpNumThreads: threads, interOpNumThreads: 1, executionMode: "sequential" };
  // x86-64 without VNNI sums pairs of uint8 times int8 in 16 bits, which overflow; this makes int8 weights uint8.
  const extra = { session: { x64quantprecision: "1" } };
  return ort.InferenceSession.create(artifact, { ...options, ...threading, extra, executionProviders: ["cpu"] });
}

function read(size) {
  const bytes = new Uint8Array(size);
  for (let filled = 0; filled < size; ) {
    const count = readSync(0, bytes, filled, size - filled);
    if (count === 0) return null;
    filled += count;
  }
  return bytes;
}

function send(header, tensors = []) {
  for (const part of [ANSWER, ...pack(header, tensors)]) write(part);
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
