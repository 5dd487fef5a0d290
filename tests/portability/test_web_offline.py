"""The browser example's service worker and its client, in node: full storage and failing networks."""

from typing import Any

import pytest
from support.web.javascript import evaluate

# A service worker with a stand-in storage and network, which `given` configures; and the page that uses it.
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
# Two models are opened at once; the worker answers the first late, as while it is loading.
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


def run_scene(script: str, path: str | None, *, storage: str = "works", network: str = "up", **given: Any) -> Any:
    """The result of `script`.

    `storage` is `works`, `full` or `broken`; `network` is `up`, `down`, `cut` or `missing` (404).
    """
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
def test_a_response_of_the_network_is_used_even_if_the_storage_fails(
    storage: str, network: str, found: list[Any], kept: str
) -> None:
    assert run_scene(ASK, "index.html", storage=storage, network=network) == [found, kept]


def test_one_page_is_stored_for_every_model_and_no_other_address() -> None:
    assert run_scene(ASK, "index.html?model=a.onnx", mode="navigate") == [[200, "new"], "new"]
    assert run_scene(ASK, "index.html?model=a.onnx") == [[200, "new"], "old"]
    assert run_scene(ASK, "other", network="down") == [[0, "no network"], "old"]


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
def test_the_page_learns_whether_its_model_is_stored(storage: str, network: str, kept: bool, names: list[str]) -> None:
    stored = ["index.html", "old.onnx"]
    assert run_scene(KEEP, "new.onnx", storage=storage, network=network, stored=stored) == [[{"kept": kept}], names]


def test_stored_files_stay_with_a_model_from_disk_and_without_a_network() -> None:
    stored = ["index.html", "old.onnx"]
    assert run_scene(KEEP, None, stored=stored) == [[{"kept": True}], ["index.html"]]
    assert run_scene(KEEP, "old.onnx", network="down", stored=stored) == [[{"kept": True}], stored]


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
def test_the_page_shows_whether_it_works_offline(registration: str, kept: bool, expected: list[str]) -> None:
    assert evaluate(OFFLINE, {"registration": registration, "kept": kept}) == expected


def test_the_status_is_that_of_the_last_opened_model() -> None:
    asked, shown = evaluate(IN_HASTE, None)
    assert asked == ["https://site.test/slow.onnx", None]
    assert shown == "The page works offline; open the file again after a reload."
