"""`POST /v1/models/reload`: the model is replaced while requests run, and stays if the file cannot be used."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lmtool.runtime import PoolError, Predictor
from lmtool.serve import ModelFile, ServeOptions
from lmtool.serve.engine import Engine
from lmtool.serve.engines import Engines
from lmtool.serve.service import Service
from support.models.networks import artifact_of, network_of
from support.models.subwords import LOUD, WRITING_MERGES, bpe_artifact
from support.pools import PATIENCE_SECONDS, Gate
from support.servers import LocalServer, ServerProcess

RELOAD = "/v1/models/reload"
WORDS = {"old": ["the", "cat", "saw", "a", "dog"], "new": ["the", "tree", "grew", "old", "and", "tall", "here"]}


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """Two artifacts that share a word."""
    tokens = {name: ["<eos>", "<unk>", *words] for name, words in WORDS.items()}
    return {
        name: artifact_of(network_of((len(words),), vocabulary=len(words)), words, "whitespace")
        for name, words in tokens.items()
    }


@pytest.fixture
def path(models: dict[str, bytes], tmp_path: Path) -> Path:
    place = tmp_path / "folder" / "served.onnx"
    place.parent.mkdir()
    place.write_bytes(models["old"])
    return place


Start = Callable[..., LocalServer]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    servers = []

    def begin(**options: Any) -> LocalServer:
        file = ModelFile(path)
        servers.append(LocalServer(file.load(), ServeOptions(**options), file))
        return servers[-1]

    yield begin
    for server in servers:
        server.service.close()


def put(path: Path, data: bytes) -> None:
    """Replace the file at once, as `lmtool export` does."""
    path.with_suffix(".part").write_bytes(data)
    path.with_suffix(".part").replace(path)


def counted(server: LocalServer) -> dict[str, str]:
    lines = server.request("GET", "/metrics").text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_requests_that_run_end_on_the_old_model_which_is_then_freed(
    start: Start,
    path: Path,
    models: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "lmtool.serve")
    server, old, new = start(), Predictor.load(models["old"]), Predictor.load(models["new"])
    freed = weakref.ref(server.service.engine.pool.predictor.session)
    gates = [Gate(server.service.engine.pool.predictor, monkeypatch)]

    async def work(client: httpx.AsyncClient) -> list[Any]:
        fields = {"prompt": "the cat", "seed": 3}
        asked = [client.post("/v1/completions", json={**fields, "stream": stream}) for stream in (False, True)]
        running = [asyncio.ensure_future(answer) for answer in asked]
        await asyncio.to_thread(gates[0].wait_for_a_call)
        put(path, models["new"])
        reload = await client.post(RELOAD, json={})
        first = await client.post("/v1/completions", json={"prompt": "the", "seed": 3})
        assert len(server.service.engines) == 2
        gates[0].open()
        return [reload.json(), first.json(), *[await answer for answer in running]]

    before = server.request("GET", "/v1/models").json()["data"][0]
    reload, first, whole, streamed = server.run(work)
    assert before == {"id": "model", "object": "model", "created": before["created"], "owned_by": "lmtool"} | {
        "sha256": old.artifact.sha256
    }
    assert reload == {**before, "created": reload["created"], "sha256": new.artifact.sha256, "replaced": True}
    assert reload["created"] >= before["created"]
    assert whole.json()["choices"][0]["text"] == text_of(old, "the cat", 3)
    assert whole.json()["system_fingerprint"] == old.artifact.sha256[:12]
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert first["choices"][0]["text"] == text_of(new, "the", 3)
    assert first["system_fingerprint"] == new.artifact.sha256[:12]
    assert caplog.messages == [f"the model {old.artifact.sha256} is replaced by {new.artifact.sha256}"]
    metrics = counted(server)
    assert metrics[f'lmtool_model_info{{model="model",sha256="{new.artifact.sha256}"}}'] == "1.0"
    assert (metrics["lmtool_models"], metrics['lmtool_reloads_total{result="replaced"}']) == ("1.0", "1.0")
    assert float(metrics["lmtool_tokens_read_total"]) > 30  # those of the old model still count
    monkeypatch.undo()
    gates.clear()
    until(lambda: gc.collect() >= 0 and freed() is None)


def text_of(predictor: Predictor, prompt: str, seed: int, max_tokens: int = 16) -> str:
    stream = predictor.stream()
    stream.feed(prompt)
    return "".join(stream.generate(max_tokens, seed=seed))


def until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(PATIENCE_SECONDS * 100):
        if condition():
            return
        waiting.wait(0.01)
    pytest.fail("the condition was not met in time")


@pytest.mark.parametrize("with_leases", [True, False])
def test_no_request_fails_while_models_are_replaced(
    start: Start, path: Path, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, with_leases: bool
) -> None:
    """Without leases, which is the control, requests meet a closed pool."""
    if not with_leases:
        monkeypatch.setattr(Engines, "_close_unused", lambda engines, engine: close_at_once(engines, engine))
    expected = {}
    for data in models.values():
        predictor = Predictor.load(data)
        expected[predictor.artifact.sha256[:12]] = [text_of(predictor, "the", seed, 40) for seed in range(4)]
    server, answers = start(), []

    async def work(client: httpx.AsyncClient) -> None:
        done = asyncio.Event()

        async def ask(number: int) -> None:
            while not done.is_set():
                fields = {"prompt": "the", "max_tokens": 40, "seed": number % 4}
                answers.append((number % 4, await client.post("/v1/completions", json=fields)))

        asking = [asyncio.ensure_future(ask(number)) for number in range(8)]
        for name in ("new", "old") * 3:
            put(path, models[name])
            assert (await client.post(RELOAD, json={})).json()["replaced"] is True
            await asyncio.sleep(0.02)
        done.set()
        await asyncio.gather(*asking)

    server.run(work)
    failed = [answer.status_code for _, answer in answers if answer.status_code != 200]
    if not with_leases:
        assert set(failed) == {503}
        return
    assert not failed
    for seed, answer in answers:
        body = answer.json()
        assert body["choices"][0]["text"] == expected[body["system_fingerprint"]][seed]
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "lmtool-close"])
    assert sum(thread.name == "lmtool-pool" for thread in threading.enumerate()) == 1


def close_at_once(engines: Engines, engine: Engine) -> None:
    if engine is not engines.current:
        engine.pool.close(cancel_waiting=True)


def test_a_file_that_cannot_be_used_leaves_the_old_model(
    start: Start, path: Path, models: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    before = server.request("GET", "/v1/models").json()
    words = ["<eos>", "<unk>", "a", "b"]
    foreign = artifact_of(network_of((3,), vocabulary=4), words, "whitespace", batch_invariant="false")
    damaged = models["new"][:-9] + b"x" * 9
    bad = ((damaged, "it is damaged"), (b"", "it has no lmtool.format"), *[(foreign, "--allow-inexact")] * 2)
    for data, message in bad:
        if path.read_bytes() != data:
            put(path, data)
        answer = server.request("POST", RELOAD, json={})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "model_refused")
        assert error["message"].startswith("the model stays, as its file cannot be used: ")
        assert message in error["message"]
        assert "folder" not in error["message"]  # the server's log has the path
        assert message in caplog.messages[-1]
    path.unlink()
    answer = server.request("POST", RELOAD, json={})
    assert (answer.status_code, "cannot" in answer.json()["error"]["message"]) == (422, True)
    assert str(path) in caplog.messages[-1]
    assert server.request("GET", "/v1/models").json() == before
    assert server.complete(prompt="the", seed=1)["choices"][0]["text"] == text_of(
        Predictor.load(models["old"]), "the", 1
    )
    assert counted(server)['lmtool_reloads_total{result="refused"}'] == "5.0"
    put(path, models["new"])
    assert server.post(RELOAD)["replaced"] is True


def test_the_same_model_again_is_not_replaced(start: Start, path: Path, models: dict[str, bytes]) -> None:
    server = start()
    session, engine = server.post("/v1/sessions")["id"], server.service.engine
    assert server.post(RELOAD)["replaced"] is False
    put(path, models["old"])
    assert server.post(f"{RELOAD}/")["replaced"] is False
    assert server.service.engine is engine
    assert server.request("GET", f"/v1/sessions/{session}").status_code == 200
    assert counted(server)['lmtool_reloads_total{result="unchanged"}'] == "2.0"


def test_sessions_of_a_replaced_model_are_gone(start: Start, path: Path, models: dict[str, bytes]) -> None:
    server = start(max_sessions=2)
    sessions = [server.post("/v1/sessions")["id"] for _ in range(2)]
    server.complete(prompt="the cat", session=sessions[0], max_tokens=0)
    put(path, models["new"])
    server.post(RELOAD)
    for method, at, fields in (
        ("POST", "/v1/completions", {"prompt": "the", "session": sessions[0]}),
        ("POST", "/v1/completions", {"prompt": "the", "session": sessions[1], "stream": True}),
        ("POST", "/v1/suggest", {"session": sessions[0]}),
        ("GET", f"/v1/sessions/{sessions[0]}", None),
        ("DELETE", f"/v1/sessions/{sessions[1]}", None),
    ):
        answer = server.request(method, at, json=fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "model_replaced")
        assert "begin another: POST /v1/sessions" in answer.json()["error"]["message"]
    fresh = [server.post("/v1/sessions")["id"] for _ in range(2)]  # the old ones take no room
    assert server.complete(prompt="the tree", session=fresh[0], seed=1)["choices"][0]["text"] == text_of(
        Predictor.load(models["new"]), "the tree", 1
    )


def test_a_session_in_use_ends_its_request_on_the_old_model(
    start: Start, path: Path, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    gate = Gate(server.service.engine.pool.predictor, monkeypatch)

    async def work(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        fields = {"prompt": "the cat", "seed": 2, "session": (await client.post("/v1/sessions", json={})).json()["id"]}
        running = asyncio.ensure_future(client.post("/v1/completions", json=fields))
        await asyncio.to_thread(gate.wait_for_a_call)
        put(path, models["new"])
        assert (await client.post(RELOAD, json={})).status_code == 200
        gate.open()
        return await running, await client.post("/v1/completions", json=fields)

    ended, later = server.run(work)
    assert ended.json()["choices"][0]["text"] == text_of(Predictor.load(models["old"]), "the cat", 2)
    assert later.json()["error"]["code"] == "model_replaced"


def test_two_reloads_at_once(
    start: Start, path: Path, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, let_go = start(), threading.Event()
    real = ModelFile.load

    def slow(file: ModelFile) -> Predictor:
        assert let_go.wait(PATIENCE_SECONDS)
        return real(file)

    monkeypatch.setattr(ModelFile, "load", slow)
    put(path, models["new"])

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = asyncio.ensure_future(client.post(RELOAD, json={}))
        await asyncio.sleep(0.05)
        second = await client.post(RELOAD, json={})
        assert (await client.post("/v1/completions", json={"prompt": "the"})).status_code == 200
        let_go.set()
        return [await first, second]

    first, second = server.run(work)
    assert first.json()["replaced"] is True
    assert (second.status_code, second.json()["error"]["code"]) == (409, "reload_running")


def test_a_reload_that_is_cancelled_leaves_no_engine_open(
    path: Path, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let_go, made = threading.Event(), threading.Event(), list[Engine]()
    real, file = Service._load_other, ModelFile(path)
    service = Service(file.load(), ServeOptions(), file)

    def slow(service: Service, file: ModelFile) -> Engine | None:
        begun.set()
        assert let_go.wait(PATIENCE_SECONDS)
        engine = real(service, file)
        made.extend([engine] if engine else [])
        return engine

    async def cancel() -> None:
        reload = asyncio.ensure_future(service.reload())
        assert await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        reload.cancel()
        await asyncio.wait((reload,))
        let_go.set()

    monkeypatch.setattr(Service, "_load_other", slow)
    put(path, models["new"])
    asyncio.run(cancel())  # returns when the loading thread has ended
    with pytest.raises(PoolError, match="closed"):
        made[0].pool.open_stream()
    assert asyncio.run(service.reload()) is True  # the file counts as changed still
    service.close()


def test_who_may_replace_the_model(start: Start, predictor: Predictor) -> None:
    guarded = start(api_key="open-sesame", host="0.0.0.0")
    assert guarded.request("POST", RELOAD, json={}).status_code == 401
    key = {"authorization": "Bearer open-sesame"}
    assert guarded.request("POST", RELOAD, json={}, headers=key).status_code == 200
    assert guarded.request("POST", RELOAD, headers=key).status_code == 415  # as a form of a web page sends it
    without_file = LocalServer(predictor, ServeOptions())
    for server, message in ((start(host="0.0.0.0"), "has no key"), (without_file, "without its model's file")):
        status, error = server.refused(RELOAD)
        assert (status, error["code"]) == (403, "reload_not_allowed")
        assert message in error["message"]
    without_file.service.close()


def test_the_command_replaces_its_model(path: Path, models: dict[str, bytes]) -> None:
    with ServerProcess(path) as running, httpx.Client(base_url=running.url) as client:
        first = client.post("/v1/completions", json={"prompt": "the"}).json()
        put(path, models["new"])
        replaced = client.post(RELOAD, json={}).json()
        second = client.post("/v1/completions", json={"prompt": "the"}).json()
        assert (first["model"], second["model"], replaced["id"]) == ("served", "served", "served")
        assert first["system_fingerprint"] != second["system_fingerprint"] == replaced["sha256"][:12]
        code, stderr = running.stop()
    assert code == 143
    assert stderr.count("\n") == 1
    assert f"is replaced by {replaced['sha256']}" in stderr


def test_words_that_never_appear_stay_ruled_out_by_a_model_of_parts_of_words(start: Start, path: Path) -> None:
    server = start(never=("the", "cat"))
    fields = {"prompt": "saw", "max_tokens": 200, "seed": 1}
    assert not {"the", "cat"} & set(server.complete(**fields)["choices"][0]["text"].split())
    put(path, bpe_artifact(WRITING_MERGES, LOUD))
    assert server.post(RELOAD)["replaced"]
    text, free = server.complete(**fields)["choices"][0]["text"], Predictor.load(path).stream()
    free.feed("saw")
    assert " the " in "".join(free.generate(200, seed=1)).lower()  # the positive control
    assert " the " not in text.lower()
