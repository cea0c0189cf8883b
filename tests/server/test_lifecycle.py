"""From the first socket to the last answer: loading, limits, draining, dying."""

import http.client
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

import byollm.server
from byollm.engine import EngineError
from byollm.server import ServerError
from byollm.server.process import bundled_model
from byollm.settings.engine import EngineSettings
from byollm.settings.server import ServerSettings
from tests.server.support import ENDLESS, PATIENCE_S, Server, body, serving, wait_for

LONG: dict[str, Any] = {
    "model": "tiny",
    "prompt": "hi",
    "max_tokens": 600,
    "extra_body": {"ignore_eos": True},
}
BODY: dict[str, Any] = {"model": "tiny", "prompt": "hi", "max_tokens": 600, "ignore_eos": True}


def ask(server: Server, asked: dict[str, Any] = BODY) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=asked, timeout=PATIENCE_S)


def get(server: Server, path: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", timeout=PATIENCE_S)


def error_code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_while_it_loads_it_answers_that_it_is_not_ready_and_can_be_stopped(
    model_directory: Path, tmp_path: Path
) -> None:
    with serving(model_directory, tmp_path / "log", ready=False) as server:
        os.kill(server.engine, signal.SIGSTOP)  # it does not get ready meanwhile
        ping = get(server, "/ping")
        assert (ping.status_code, ping.json()) == (503, {"status": "loading"})
        asked = ask(server)
        assert (asked.status_code, error_code(asked)) == (503, "model_loading")
        assert int(asked.headers["retry-after"]) >= 1
        assert get(server, "/health").json()["model_loaded"] is False
        assert get(server, "/v1/models").status_code == 503
        assert get(server, "/metrics").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(25) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""  # it does not say that it serves


def test_sigterm_finishes_what_runs_and_refuses_what_comes(model_directory: Path, tmp_path: Path) -> None:
    settings = {"server__keep_alive_s": 0.1, "engine__stall_seconds": 60}
    with serving(model_directory, tmp_path / "log", **settings) as server, server.client() as client:
        os.kill(server.engine, signal.SIGSTOP)  # nothing ends meanwhile
        plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        plain.request("POST", "/v1/completions", json.dumps(BODY | {"max_tokens": 50, "n": 4}))
        stream = client.completions.create(stream=True, **LONG | {"max_tokens": 50})  # second, and let in
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.ping() == 503)
        refused = ask(server)
        assert (refused.status_code, error_code(refused)) == (503, "shutting_down")
        assert "retry-after" in refused.headers
        os.kill(server.engine, signal.SIGCONT)
        *_, last = stream
        assert last.choices[0].finish_reason == "length"
        assert plain.getresponse().status == 200
        plain.close()
        assert server.process.wait(25) == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def narrow(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with room for one sequence at a time, three requests, and little patience."""
    with serving(
        model_directory,
        tmp_path_factory.mktemp("narrow") / "log",
        engine__max_running=1,
        server__max_requests=2,
        server__request_timeout_s=0.8,
        server__stream_timeout_s=3.0,
        server__keep_alive_s=0.2,
        server__drain_s=0.3,
        server__model_name="org/named",
    ) as server:
        yield server


TOO_LONG = ENDLESS | {"model": "org/named"}  # one answer after the other


def test_a_configured_name_is_the_models(narrow: Server) -> None:
    with narrow.client() as client:
        assert client.models.retrieve("org/named").id == "org/named"
    assert ask(narrow).status_code == 404


def test_an_answer_that_takes_too_long_is_given_up(narrow: Server) -> None:
    late = ask(narrow, TOO_LONG)
    assert (late.status_code, error_code(late)) == (504, "timeout")
    narrow.wait_until_idle()
    assert narrow.metric("request_failure_total", reason="timeout") == 1


def test_one_runs_one_waits_and_the_third_is_turned_away(narrow: Server) -> None:
    asked = json.dumps(TOO_LONG | {"stream": True})
    connections = [http.client.HTTPConnection("127.0.0.1", narrow.port, timeout=PATIENCE_S) for _ in range(3)]
    os.kill(narrow.process.pid, signal.SIGSTOP)  # all three are there before it looks at one
    for connection in connections:
        connection.request("POST", "/v1/completions", asked)
    os.kill(narrow.process.pid, signal.SIGCONT)
    answers = [connection.getresponse() for connection in connections]
    refused, *streams = sorted(answers, key=lambda answer: -answer.status)
    error = json.loads(refused.read())["error"]
    assert (refused.status, error["code"], error["type"]) == (429, "queue_full", "rate_limit_error")
    assert refused.headers["retry-after"] == "1"
    texts = [stream.read().decode() for stream in streams]
    for text in texts:
        last = text.removesuffix("\n\n").split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert "[DONE]" not in text
    assert any(text.startswith(": keep-alive\n\n") for text in texts)
    for connection in connections:
        connection.close()
    narrow.wait_until_idle()
    assert narrow.metric("request_failure_total", reason="overloaded") == 1


def test_what_outlasts_the_drain_is_told_so(narrow: Server) -> None:
    with narrow.client() as client:
        stream = client.completions.create(stream=True, **body(TOO_LONG))
        next(stream)
        narrow.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
    assert narrow.process.wait(25) == 0


WEDGE = """
import sys, time

class Wedging:  # an engine that stops at the fifth token, whoever imports it

    def find_spec(self, name, path=None, target=None):
        if name == "byollm.engine.worker":
            sys.meta_path.remove(self)
            from byollm.engine import Engine

            step = Engine.step

            def wedged(self):
                if self.stats().generation_tokens_total >= 5:
                    time.sleep(3600)
                return step(self)

            Engine.step = wedged

sys.meta_path.insert(0, Wedging())
"""


@pytest.mark.parametrize("sleep", ["time.sleep", "__import__('ctypes').PyDLL(None).sleep"])
def test_a_wedged_engine_turns_unhealthy_and_ends_the_process(
    sleep: str, model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second way never gives the interpreter lock back."""
    (tmp_path / "sitecustomize.py").write_text(WEDGE.replace("time.sleep", sleep))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        serving(model_directory, tmp_path / "log", engine__stall_seconds=1.5) as server,
        server.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(lambda: list(client.completions.create(stream=True, **LONG)))
        wait_for(lambda: server.ping() == 503)
        # In the stream, or in its place where it had not begun.
        with pytest.raises(openai.APIError, match="engine has failed"):
            asked.result()
        assert server.process.wait(25) == 1
    log = server.log.read_text()
    assert "error: the engine died or is wedged" in log
    assert "in wedged" in log  # where it stands


def test_a_killed_engine_ends_streams_with_an_error_and_the_process(
    model_directory: Path, tmp_path: Path
) -> None:
    with serving(model_directory, tmp_path / "log") as server, server.client() as client:
        asked = body(ENDLESS | {"n": 20})  # all of them run
        streams = [client.completions.create(stream=True, **asked) for _ in range(3)]
        for stream in streams:
            next(stream)
        os.kill(server.engine, signal.SIGKILL)
        wait_for(lambda: server.ping() == 503)
        refused = ask(server)
        assert (refused.status_code, error_code(refused)) == (503, "engine_failed")
        for stream in streams:
            with pytest.raises(openai.APIError, match="engine"):
                list(stream)
        assert server.process.wait(25) == 1
    assert "error: the engine died or is wedged" in server.log.read_text()


def test_an_engine_does_not_outlive_its_server(model_directory: Path, tmp_path: Path) -> None:
    with serving(model_directory, tmp_path / "log") as server:
        engine = psutil.Process(server.engine)
        server.process.kill()
        wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (None, ServerError, "no config.json"),
        ('{"model_type": "bert"}', byollm.settings.ByollmError, "bert"),
    ],
)
def test_a_directory_that_holds_no_model_is_refused(
    tmp_path: Path, config: str | None, error: type[Exception], words: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(error, match=words):
        byollm.server.serve(ServerSettings(model=tmp_path, port=0), EngineSettings(), print)


def test_without_a_model_the_bundled_one_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byollm.server.process.MODELS", tmp_path)
    with pytest.raises(ServerError, match="--model"):
        bundled_model()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").touch()
    assert bundled_model() == tmp_path / "ours"


def test_a_model_without_weights_is_refused(model_directory: Path, tmp_path: Path) -> None:
    for file in model_directory.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EngineError, match=r"model\.safetensors"):
        byollm.server.serve(ServerSettings(model=tmp_path, port=0), EngineSettings(), print)
    with pytest.raises(ServerError, match="no model directory"):
        byollm.server.serve(ServerSettings(model=tmp_path / "none", port=0), EngineSettings(), print)


def test_loading_time_is_not_spent_on_the_socket(model_directory: Path, tmp_path: Path) -> None:
    """Whatever is slow to import is imported after the socket listens."""
    script = (
        "import sys, byollm.server; print(sorted({'torch', 'tokenizers', 'transformers'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
