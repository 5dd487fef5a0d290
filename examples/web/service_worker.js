// Caches the page, its modules, onnxruntime and the model that was opened last, so that the page works offline.
//
// The network comes first, and its answers refresh the cache; the cache serves if the network fails. A new VERSION
// drops the caches of older ones.
const VERSION = "3";
const CACHE = `lmtool-web-${VERSION}`;
const ORT = "node_modules/onnxruntime-web/dist";
const FILES = [
  "./",
  "index.html",
  "style.css",
  "icon.svg",
  "page.mjs",
  "choices.mjs",
  "latency.mjs",
  "facts.mjs",
  "editor.mjs",
  "offline.mjs",
  "engine.mjs",
  "words.mjs",
  "worker.mjs",
  "artifact.mjs",
  "autocompletion.mjs",
  "byte_pairs.mjs",
  "byte_strings.mjs",
  "errors.mjs",
  "graph.mjs",
  "heap.mjs",
  "position.mjs",
  "positions.mjs",
  "predictor.mjs",
  "random.mjs",
  "ranked_tokens.mjs",
  "sampling.mjs",
  "softmax.mjs",
  "token_decoder.mjs",
  "token_table.mjs",
  "tokenization.mjs",
  "vocabulary.mjs",
  "wire.mjs",
  "word_finder.mjs",
  "word_search.mjs",
  "writing.mjs",
  `${ORT}/ort.wasm.min.mjs`,
  `${ORT}/ort-wasm-simd-threaded.mjs`,
  `${ORT}/ort-wasm-simd-threaded.wasm`,
];

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(FILES))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(dropOlder().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const own = new URL(request.url).origin === self.location.origin;
  if (own && request.method === "GET") event.respondWith(networkFirst(request));
});

// A page that has opened a model asks to keep it; the answer is whether it is kept.
self.addEventListener("message", (event) => {
  const answered = keepModel(event.data.keep)
    .catch(() => false) // the browser's storage is full or cannot be used
    .then((kept) => event.ports[0].postMessage({ kept }));
  event.waitUntil(answered);
});

async function dropOlder() {
  const names = await caches.keys();
  await Promise.all(
    names.filter((name) => name.startsWith("lmtool-web-") && name !== CACHE).map((name) => caches.delete(name)),
  );
}

async function networkFirst(request) {
  const address = new URL(request.url);
  if (request.mode === "navigate") address.search = ""; // one page for every ?model=
  try {
    const response = await fetch(request);
    const whole = response.status !== 200 || (await refresh(address, response));
    if (!whole) await response.clone().arrayBuffer(); // fails if the network failed, not the storage
    return response;
  } catch (error) {
    const kept = await keptAt(address);
    if (kept) return kept;
    throw error;
  }
}

// Replaces a cached answer, if there is one; false if that failed.
async function refresh(address, response) {
  try {
    const cache = await caches.open(CACHE);
    if (await cache.match(address)) await cache.put(address, response.clone());
    return true;
  } catch {
    return false;
  }
}

// The cached answer; undefined if there is none or the storage cannot be used.
async function keptAt(address) {
  try {
    return await (await caches.open(CACHE)).match(address);
  } catch {
    return undefined;
  }
}

// Keeps the model at this address and drops all others; false if it cannot be fetched. null is a model from a file,
// which cannot be kept. Fails if the storage is full or cannot be used.
async function keepModel(address) {
  const cache = await caches.open(CACHE);
  const files = new Set(FILES.map((file) => new URL(file, self.location).href));
  const kept = await cache.keys();
  await Promise.all(
    kept.filter(({ url }) => !files.has(url) && url !== address).map((request) => cache.delete(request)),
  );
  if (address === null) return true;
  const response = await fetch(address).catch(() => null);
  if (response?.status === 200) await cache.put(address, response);
  return (await cache.match(address)) !== undefined;
}
