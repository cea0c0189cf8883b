"""Bare engines: a process without a server, told what to do through its standard input."""

import contextlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from bench.serve import processes
from bench.serve.contenders import Contender, ContenderError, Reply, Setup

WORKERS = Path(__file__).parent / "workers"
REPLY = "REPLY "


class Engine:
    """A script of `workers` with its model loaded (`workers/worker.py` describes what is said).

    Raises:
        ContenderError: it cannot load the model, or not soon enough.
    """

    def __init__(self, contender: Contender, setup: Setup) -> None:
        self.contender = contender
        self._patience = setup.patience
        self._log = (setup.peers / f"{contender.name.replace(' ', '-')}.log").open("w+")
        self._process = subprocess.Popen(
            [contender.python(setup.peers), WORKERS / contender.program, setup.request(contender.weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | setup.variables(contender),
        )
        self.pid = self._process.pid
        self._read()

    def generate(self, prompts: list[list[int]], tokens: int) -> Reply:
        """Let it answer prompts."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its log says why
            self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
            self._process.stdin.flush()
        reply = self._read()
        counts = [len(times) for times in reply["times"]]
        if counts != [tokens] * len(prompts):
            raise ContenderError(f"asked for {tokens} tokens of each, it made {counts}")
        return Reply(reply["start"], reply["times"], sum(counts))

    def close(self) -> None:
        """End the process."""
        processes.kill(self.pid)
        self._process.communicate()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.perf_counter() + self._patience
        late = threading.Timer(self._patience, processes.kill, [self.pid])
        late.start()
        try:
            for line in self._process.stdout:
                if line.startswith(REPLY):
                    reply: dict[str, Any] = json.loads(line.removeprefix(REPLY))
                    return reply
        finally:
            late.cancel()
        self._log.seek(0)
        if time.perf_counter() > deadline:
            raise ContenderError(f"nothing within {self._patience:.0f} s")
        raise ContenderError(f"it ended: {self._log.read()[-800:]}")
