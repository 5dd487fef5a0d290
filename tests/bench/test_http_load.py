"""The measurement of a server: load, overload and recovery, by a client that reads what it should."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import http_load
import pytest
from common import http_client
from common.http_client import HttpClient, Reply, ServerProcess
from common.program import run_program
from http_load import Phase, passed
from lmtool.bench.errors import BenchError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from Linux's /proc")
MEGABYTE = 1_000_000


def program(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["http_load", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_program(http_load.main)
    return ended.value.code


def test_a_server_takes_its_load_refuses_the_rest_and_recovers(
    artifact_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "load.json"
    arguments = ["--model", artifact_path, "--clients", 3, "--slots", 3, "--seconds", 0.9, "--json", file]
    assert program(monkeypatch, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["load", "overload", "recovery"]
    report = json.loads(file.read_text())
    assert (report["format"], report["slots"]) == (1, 3)
    load, overload, recovery = report["phases"]
    assert [phase["clients"] for phase in report["phases"]] == [3, 9, 3]
    assert set(load["statuses"]) == set(recovery["statuses"]) == {"200"}
    assert set(overload["statuses"]) == {"200", "429"}
    assert 0 < overload["refused"] < 1
    for phase in report["phases"]:
        assert phase["failures"] == 0
        assert 0 < phase["latency"]["p50"] <= phase["latency"]["p99"] <= phase["latency"]["longest"] < 60
        assert 0 < phase["first_event"]["p50"] < phase["latency"]["longest"]
        assert phase["tokens_per_second"] > 5 * phase["requests_per_second"]
        assert min(phase["processor_seconds"]) > 0 or sys.platform != "linux"
    sizes = [size for phase in report["phases"] for size in phase["resident_bytes"]]
    assert len(sizes) == 9
    assert max(sizes) - sizes[0] < 50 * MEGABYTE


def test_impossible_measurements_are_refused_with_a_reason(
    tmp_path: Path, artifact_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program(monkeypatch, "--model", artifact_path, "--slots", 4) == 2
    assert "slots is 4, expected 1 client or more, as many slots" in capsys.readouterr().err.replace(
        "seconds is 60.0, ", ""
    )
    assert program(monkeypatch, "--model", tmp_path / "none.onnx") == 1
    with pytest.raises(BenchError, match="the server did not start: error: cannot read .*none.onnx"):
        ServerProcess(tmp_path / "none.onnx", 1, 1).__enter__()


def test_a_server_that_says_much_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    program = 'import sys; sys.stderr.write("x" * 1_000_000); print(\'{"url": "http://127.0.0.1:80"\\n}\', flush=True)'
    real = subprocess.Popen
    monkeypatch.setattr(
        http_client.subprocess, "Popen", lambda command, **options: real([command[0], "-c", program], **options)
    )
    with ServerProcess(Path("none"), 1, 1) as server:
        assert server.port == 80


def phase_of(*statuses: int, megabytes: int = 100) -> Phase:
    phase = Phase("load", 1, 1.0, resident=[MEGABYTE, MEGABYTE, megabytes * MEGABYTE])
    for status in statuses:
        phase.record("completion", Reply(status, b"", 0.1, None))
    return phase


def test_a_server_that_refuses_only_in_the_overload_passes() -> None:
    assert passed([phase_of(200), phase_of(200, 429), phase_of(200)])
    assert passed([phase_of(200), phase_of(429), phase_of(200, 200)])
    assert passed([phase_of(200), phase_of(429, megabytes=900), phase_of(200, megabytes=140)])


@pytest.mark.parametrize(
    "phases",
    [
        [phase_of(200), phase_of(200), phase_of(200)],
        [phase_of(200), phase_of(200, 429), phase_of(200, 500)],
        [phase_of(200), phase_of(200, 429), phase_of(200, 429)],
        [phase_of(200), phase_of(200, 429), phase_of(429)],
        [phase_of(200), phase_of(200, 429), phase_of()],
        [phase_of(200, 429), phase_of(200, 429), phase_of(200)],
        [phase_of(), phase_of(200, 429), phase_of(200)],
        [phase_of(200), phase_of(200, 429), phase_of(200, megabytes=141)],
    ],
    ids=["none refused", "failure", "refused after", "only refused", "none after", "refused before", "none", "growth"],
)
def test_a_server_that_fails_does_not_recover_or_grows_does_not_pass(phases: list[Phase]) -> None:
    assert not passed(phases)


def test_broken_connections_and_streams_do_not_pass() -> None:
    broken = phase_of(200, 429)
    broken.errors["ConnectionResetError"] += 1
    assert not passed([phase_of(200), broken, phase_of(200)])
    cut = phase_of(429)
    cut.record("stream", Reply(200, b"data: {}\n\n", 0.1, 0.1))
    assert not passed([phase_of(200), cut, phase_of(200)])


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok", False)),
    (b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", (429, b"", False)),
    (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n",
        (200, b"data: a\n\ndata: b\n\n", True),
    ),
]


def test_the_client_reads_lengths_chunks_and_ends() -> None:
    async def main() -> None:
        answers = iter([data for data, _ in ANSWERS] + [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"])
        connections = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.read(1000):
                data = next(answers)
                writer.write(data)
                if b"close" in data or data.endswith(b"cut"):
                    break
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            client = HttpClient("127.0.0.1", server.sockets[0].getsockname()[1])
            for _, expected in ANSWERS:
                reply = await client.send(client.request("/path", b"{}"))
                assert (reply.status, reply.body, reply.first_event is not None) == expected
            with pytest.raises(EOFError):
                await client.send(client.request("/path", b"{}"))
            assert connections == 2
            await client.close()

    asyncio.run(main())
