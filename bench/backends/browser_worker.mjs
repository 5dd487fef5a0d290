// Runs an artifact in onnxruntime-web with WebGPU, in a page that browser_process.py serves.
//
// The page posts its answer to exchange and gets the next message in the response; messages are those of ort_calls.mjs.
// The first answer holds the version and the adapter, the first message asks to load artifact, every other one is a call.
// An answer with `error` is the last one. The request of alive never ends: the server sees the page die.
import { call, ERRORS_ONLY, pack, unpack } from "./ort_calls.mjs";

const now = () => performance.now() * 1e6;

async function main() {
  const ort = await import("./package/ort.all.bundle.min.mjs");
  const adapter = await navigator.gpu?.requestAdapter();
  const found = adapter && { architecture: adapter.info.architecture, software: adapter.info.isFallbackAdapter === true };
  let message = await exchange({ versions: { "onnxruntime-web": ort.env.versions.web }, adapter: found ?? null });
  ort.env.wasm.numThreads = message.threads; // operators that WebGPU lacks run in WebAssembly
  const options = { logSeverityLevel: ERRORS_ONLY, executionProviders: ["webgpu"] };
  const start = now();
  const session = await ort.InferenceSession.create("artifact", options);
  message = await exchange({ nanoseconds: now() - start });
  for (;;) {
    const { nanoseconds, tensors } = await call(ort, session, message, now);
    message = await exchange({ nanoseconds }, tensors);
  }
}

async function exchange(header, tensors) {
  const response = await fetch("exchange", { method: "POST", body: new Blob(pack(header, tensors)) });
  const buffer = await response.arrayBuffer();
  let position = 0;
  return unpack((size) => new Uint8Array(buffer.slice(position, (position += size))));
}

fetch("alive").catch(() => window.close()); // the harness was killed: the browser ends with its last page
try {
  await main();
} catch (error) {
  await exchange({ error: String(error?.message ?? error) });
}
