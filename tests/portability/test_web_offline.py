"""The browser example's service worker and the page's side of it, in node: storage that is full, networks that fail."""

from typing import Any

import pytest
from support.web.javascript import evaluate

# A service worker beside a storage and a network that work as `given` says, and the page that asks it.
SCENE = """
const SITE = "https://site.test/";
const stored = new Map();
const cache = {
  addAll: async () => {},
  keys: async () => [...stored.keys()].map((url) => ({ url })),
  delete: async ({ url }) => stored.delete(url),
  match: async (url) => stored.get(String(url))?.clone(),
  put: async (url, response) => {
    const text = await response.text();
    if (given.storage === "full") throw new Error("QuotaExceededError");
    stored.set(String(url), new Response(text));
  },
};
const caches = {
  open: async () => {
    if (given.storage === "broken") throw new Error("UnknownError");
    return cache;
  },
};
const cut = () => new ReadableStream({
  start: (controller) => controller.enqueue(new TextEncoder().encode("ne")),
  pull: (controller) => controller.error(new TypeError("the connection broke")),
});
const fetch = async () => {
  if (given.network === "down") throw new TypeError("no network");
  if (given.network === "cut") return new Response(cut());
  return new Response("new", { status: given.network === "up" ? 200 : 404 });
};
const handlers = {};
const self = {
  location: new URL("service_worker.js", SITE),
  addEventListener: (name, handler) => { handlers[name] = handler; },
};
new Function("self", "caches", "fetch", readFileSync("service_worker.js", "utf-8"))(self, caches, fetch);
for (const name of given.stored) stored.set(SITE + name, new Response("old"));
const names = () => [...stored.keys()].map((url) => url.slice(SITE.length)).sort();
"""
ASK = """
let answer;
handlers.fetch({
  request: { url: SITE + given.path, method: "GET", mode: given.mode },
  respondWith: (promise) => { answer = promise; },
});
const found = await answer.then(
  async (response) => [response.status, await response.text()],
  (error) => [0, error.message],
);
give([found, await stored.get(SITE + "index.html")?.clone().text()]);
"""
KEEP = """
let work;
const said = [];
handlers.message({
  data: { keep: given.path === null ? null : SITE + given.path },
  ports: [{ postMessage: (data) => said.push(data) }],
  waitUntil: (promise) => { work = promise; },
});
await work;
give([said, names()]);
"""
OFFLINE = """
import { keepOffline } from "./offline.mjs";
const worker = {
  state: "installing",
  addEventListener: (_, handler) => setTimeout(() => { worker.state = "redundant"; handler(); }, 5),
  postMessage: (_, [port]) => port.postMessage({ kept: given.kept }),
};
const registrations = {
  installed: [{ active: worker }, Promise.resolve({ active: worker })],
  failing: [{ active: null, installing: worker, waiting: null }, new Promise(() => {})],
  failed: [{ active: null, installing: null, waiting: null }, new Promise(() => {})],
  first: [{ active: null, installing: worker, waiting: null }, Promise.resolve({ active: worker })],
};
const [registration, ready] = registrations[given.registration];
const serviceWorker = { register: async () => registration, ready };
Object.defineProperty(globalThis, "navigator", { value: { serviceWorker }, configurable: true });
globalThis.location = new URL("https://site.test/");
const state = { dataset: { state: "ready" }, textContent: "" };
await keepOffline("model.onnx", state);
give([state.dataset.state, state.textContent]);
process.exit();
"""
# Two models opened at once; the worker answers the first late, as it does while the first is on its way.
IN_HASTE = """
import { keepOffline } from "./offline.mjs";
const asked = [];
const active = {
  postMessage: ({ keep }, [port]) => {
    asked.push(keep);
    setTimeout(() => port.postMessage({ kept: true }), keep === null ? 0 : 50);
  },
};
const serviceWorker = { register: async () => ({ active }), ready: Promise.resolve({ active }) };
Object.defineProperty(globalThis, "navigator", { value: { serviceWorker }, configurable: true });
globalThis.location = new URL("https://site.test/");
const state = { dataset: {}, textContent: "" };
await Promise.all([keepOffline("slow.onnx", state), keepOffline(null, state)]);
give([asked, state.textContent]);
process.exit();
"""


def scene(script: str, path: str | None, *, storage: str = "works", network: str = "up", **given: Any) -> Any:
    """What `script` gives: the storage works, is full or broken; the network is up, down, cut or lacks the file."""
    return evaluate(
        SCENE + script,
        {"stored": ["index.html"], "mode": "cors", "path": path, "storage": storage, "network": network, **given},
    )


@pytest.mark.parametrize(
    ("storage", "network", "found", "kept"),
    [
        ("works", "up", [200, "new"], "new"),
        ("works", "missing", [404, "new"], "old"),
        ("works", "down", [200, "old"], "old"),
        ("works", "cut", [200, "old"], "old"),
        ("full", "up", [200, "new"], "old"),
        ("full", "down", [200, "old"], "old"),
        ("full", "cut", [200, "old"], "old"),
        ("broken", "up", [200, "new"], "old"),
        ("broken", "down", [0, "no network"], "old"),
    ],
)
def test_what_the_network_answers_is_taken_whatever_the_storage_does(
    storage: str, network: str, found: list[Any], kept: str
) -> None:
    assert scene(ASK, "index.html", storage=storage, network=network) == [found, kept]


def test_one_page_is_kept_for_every_model_and_nothing_that_was_not_asked_for() -> None:
    assert scene(ASK, "index.html?model=a.onnx", mode="navigate") == [[200, "new"], "new"]
    assert scene(ASK, "index.html?model=a.onnx") == [[200, "new"], "old"]
    assert scene(ASK, "other", network="down") == [[0, "no network"], "old"]


@pytest.mark.parametrize(
    ("storage", "network", "kept", "names"),
    [
        ("works", "up", True, ["index.html", "new.onnx"]),
        ("works", "down", False, ["index.html"]),
        ("full", "up", False, ["index.html"]),
        ("works", "cut", False, ["index.html"]),
        ("broken", "up", False, ["index.html", "old.onnx"]),
    ],
)
def test_a_page_is_told_whether_its_model_is_kept(storage: str, network: str, kept: bool, names: list[str]) -> None:
    stored = ["index.html", "old.onnx"]
    assert scene(KEEP, "new.onnx", storage=storage, network=network, stored=stored) == [[{"kept": kept}], names]


def test_the_page_is_kept_with_a_model_from_a_file_and_a_model_without_a_network() -> None:
    stored = ["index.html", "old.onnx"]
    assert scene(KEEP, None, stored=stored) == [[{"kept": True}], ["index.html"]]
    assert scene(KEEP, "old.onnx", network="down", stored=stored) == [[{"kept": True}], stored]


@pytest.mark.parametrize(
    ("registration", "kept", "expected"),
    [
        ("installed", True, ["ready", "Works offline: page and model are kept here."]),
        ("first", True, ["ready", "Works offline: page and model are kept here."]),
        ("installed", False, ["none", "The model could not be kept for offline use."]),
        ("failing", True, ["none", "Needs the network at each visit: the browser could not keep the page."]),
        ("failed", True, ["none", "Needs the network at each visit: the browser could not keep the page."]),
    ],
)
def test_the_page_says_whether_it_works_offline(registration: str, kept: bool, expected: list[str]) -> None:
    assert evaluate(OFFLINE, {"registration": registration, "kept": kept}) == expected


def test_of_two_models_the_page_speaks_of_the_one_that_was_opened_last() -> None:
    asked, shown = evaluate(IN_HASTE, None)
    assert asked == ["https://site.test/slow.onnx", None]
    assert shown == "The page works offline; open the file again after a reload."
