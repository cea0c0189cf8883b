"""Who can be measured here, and how each is started."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).parent / "workers"
REPLY = "REPLY "


@dataclass(frozen=True)
class Contender:
    """A way to serve a model.

    Attributes:
        name: what tables call it.
        worker: its script.
        weights: in its own words, as its script understands them.
        environment: its directory in the directory of peers; None for this environment.
        narrow: whether its weights have fewer than 16 bits.
    """

    name: str
    worker: str
    weights: str
    environment: str | None = None
    narrow: bool = False

    def python(self, peers: Path) -> Path:
        """Return the interpreter of its environment."""
        return (
            Path(sys.executable) if self.environment is None else peers / self.environment / "bin" / "python"
        )


OURS = (
    Contender("byollm bf16", "with_byollm.py", "bf16"),
    Contender("byollm int8", "with_byollm.py", "int8", narrow=True),
    Contender("byollm int4", "with_byollm.py", "int4", narrow=True),
)
PEERS = (
    Contender("transformers generate", "with_transformers.py", "float32"),
    Contender("llama.cpp bf16", "with_llama_cpp.py", "bf16", "llama"),
    Contender("llama.cpp q8_0", "with_llama_cpp.py", "q8_0", "llama", narrow=True),
    Contender("llama.cpp q4_0", "with_llama_cpp.py", "q4_0", "llama", narrow=True),
    Contender("vLLM bf16", "with_vllm.py", "bfloat16", "vllm"),
    Contender("vLLM float32", "with_vllm.py", "float32", "vllm"),
    Contender("OpenVINO bf16", "with_openvino.py", "bf16", "openvino"),
    Contender("OpenVINO float32", "with_openvino.py", "f32", "openvino"),
)


class Worker:
    """A contender's process, loaded and waiting for work."""

    def __init__(self, contender: Contender, model: Path, peers: Path, threads: int) -> None:
        self.contender = contender
        request = {
            "model": str(model.resolve()),
            "weights": contender.weights,
            "threads": threads,
            "cache": str((peers / "converted" / model.name).resolve()),
            "source": str((peers / "llama.cpp").resolve()),
        }
        self._log = (peers / f"{contender.name.replace(' ', '-')}.log").open("w+")
        self._process = subprocess.Popen(
            [contender.python(peers), WORKERS / contender.worker, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.pid = self._process.pid
        self.ready_seconds = float(self._read()["ready"])

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """Let it answer prompts; return its reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(REPLY):
                reply: dict[str, Any] = json.loads(line.removeprefix(REPLY))
                return reply
        self._log.seek(0)
        raise RuntimeError(f"{self.contender.name} ended:\n{self._log.read()[-3000:]}")
