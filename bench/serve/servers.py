"""Servers, asked over HTTP as anybody would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.serve import client, processes
from bench.serve.contenders import Contender, ContenderError, Reply, Setup
from bench.serve.engines import WORKERS

MODEL = "model"  # what each server calls it
SLOTS, LENGTH = 32, 512
POLL_S = 0.02


class Server:
    """A server that has answered once.

    Args:
        contender: which.
        setup: with which model and threads.

    Attributes:
        port: where it listens.
        ready_seconds: from the start of its process to its first answer.

    Raises:
        ContenderError: it ended, or did not answer soon enough.
    """

    def __init__(self, contender: Contender, setup: Setup) -> None:
        self.contender = contender
        self._patience = setup.patience
        self.port = _free_port()
        command, variables = COMMANDS[contender.program](contender, setup, self.port)
        log = setup.peers / f"{contender.name.replace(' ', '-')}.log"
        with log.open("w") as output:
            start = time.perf_counter()
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=os.environ | variables | setup.variables(contender)
            )
        self.pid = self._process.pid
        while not self._answers():
            if self._process.poll() is not None:
                raise ContenderError(f"it ended: {log.read_text()[-800:]}")
            if time.perf_counter() > start + setup.patience:
                self.close()
                raise ContenderError(f"no answer within {setup.patience:.0f} s")
            time.sleep(POLL_S)
        self.ready_seconds = time.perf_counter() - start

    def send(
        self, moments: list[float], prompts: list[list[int]], tokens: int, *, stream: bool
    ) -> list[client.Answer]:
        """Send each prompt at its moment, in seconds from now, for a greedy answer of so many tokens.

        Raises:
            ContenderError: the answers did not come in time.
        """
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        if stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        messages = [client.request(self.port, asked | {"prompt": prompt}) for prompt in prompts]
        try:
            return client.send(self.port, list(zip(moments, messages, strict=True)), self._patience)
        except TimeoutError as error:
            raise ContenderError(str(error)) from None

    def generate(self, prompts: list[list[int]], tokens: int) -> Reply:
        """Stream the answers to all prompts at once."""
        answers = self.send([0.0] * len(prompts), prompts, tokens, stream=True)
        wrong = [(answer.status, answer.tokens) for answer in answers if answer.tokens != tokens]
        if wrong:
            raise ContenderError(f"asked for {tokens} tokens of each, it answered (status, tokens) {wrong}")
        return Reply(answers[0].due, [answer.times for answer in answers], tokens * len(prompts))

    def close(self) -> None:
        """End it, gently if it lets itself."""
        everyone = processes.tree(self.pid)
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for pid in everyone:  # the children of one that has ended too
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(ContenderError):
            return self.send([0.0], [[5]], 1, stream=False)[0].status == 200
        return False


Command = tuple[list[str | Path], dict[str, str]]  # and its environment variables


def _byollm(contender: Contender, setup: Setup, port: int) -> Command:
    command: list[str | Path] = [sys.executable, "-m", "byollm", "serve"]
    # What `with_byollm.py` sets, so that the two can be compared; `default` is what a user has.
    plain = {
        "BYOLLM__ENGINE__DTYPE": "bfloat16",
        "BYOLLM__ENGINE__PREFIX_CACHING": "false",
        "BYOLLM__ENGINE__SPECULATIVE": "off",
    }
    variables = {"BYOLLM__ENGINE__THREADS": str(setup.threads), "BYOLLM__SERVER__MODEL_NAME": MODEL}
    return (
        [*command, "--model", setup.model, "--port", str(port)],
        variables | (plain if contender.weights != "default" else {}),
    )


def _llama(contender: Contender, setup: Setup, port: int) -> Command:
    python = contender.python(setup.peers)
    request: list[str | Path] = [python, WORKERS / "gguf_files.py", setup.request(contender.weights)]
    done = subprocess.run(request, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ContenderError(f"the model could not be converted: {done.stderr[-800:]}")
    file = done.stdout.splitlines()[-1]
    threads = str(setup.threads)
    command: list[str | Path] = [python.with_name("llama-server"), "--model", file, "--port", str(port)]
    command += ["--parallel", str(SLOTS), "--cont-batching", "--ctx-size", str(SLOTS * LENGTH)]
    return [*command, "--threads", threads, "--threads-batch", threads, "--no-cache-prompt", "--no-webui"], {}


def _vllm(contender: Contender, setup: Setup, port: int) -> Command:
    python = contender.python(setup.peers)
    command: list[str | Path] = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", setup.model]
    command += ["--served-model-name", MODEL, "--port", str(port), "--dtype", contender.weights]
    command += ["--max-num-seqs", str(SLOTS), "--max-model-len", str(LENGTH)]
    return [*command, "--no-enable-prefix-caching", "--disable-log-stats"], {}


COMMANDS: dict[str, Callable[[Contender, Setup, int], Command]] = {
    "byollm": _byollm,
    "llama-server": _llama,
    "vllm": _vllm,
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
