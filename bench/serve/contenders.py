"""Who can be measured here, and what every one of them can do."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Setup:
    """What all contenders of a comparison share.

    Attributes:
        model: the model's directory.
        peers: where the peers' environments are, and what is made for them.
        threads: CPU threads of each.
        patience: seconds that one may take to become ready, or for one run.
    """

    model: Path
    peers: Path
    threads: int
    patience: float

    def variables(self, contender: "Contender") -> dict[str, str]:
        """The environment variables with which a contender is at its best, and keeps what it compiles."""
        if contender.environment != "vllm":
            return {}
        cache = (self.peers / "converted" / "vllm").resolve()
        return {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{self.threads - 1}",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CACHE_ROOT": str(cache),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "LD_PRELOAD": str((self.peers / "vllm" / "lib" / "libiomp5.so").resolve()),
            "HF_HUB_OFFLINE": "1",
        }

    def request(self, weights: str) -> str:
        """What scripts of `workers` are told, as JSON."""
        return json.dumps(
            {
                "model": str(self.model.resolve()),
                "weights": weights,
                "threads": self.threads,
                "cache": str((self.peers / "converted" / self.model.name).resolve()),
                "source": str((self.peers / "llama.cpp").resolve()),
            }
        )


@dataclass(frozen=True)
class Contender:
    """A way to serve a model.

    Attributes:
        name: what tables call it.
        program: a script of `workers`; or the name of a server.
        weights: in its own words, as its program understands them.
        environment: its directory in the directory of peers; None for this environment.
        narrow: whether its weights have fewer than 16 bits.
    """

    name: str
    program: str
    weights: str
    environment: str | None = None
    narrow: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is what this repository makes."""
        return self.environment is None and self.name.startswith("byollm")

    @property
    def serves(self) -> bool:
        """Whether it is a server."""
        return not self.program.endswith(".py")

    def python(self, peers: Path) -> Path:
        """Return the interpreter of its environment."""
        if self.environment is None:
            return Path(sys.executable)
        return peers.resolve() / self.environment / "bin" / "python"

    def installed(self, peers: Path) -> bool:
        """Whether it can be started."""
        python = self.python(peers)
        return python.exists() and (
            self.program != "llama-server" or (python.parent / "llama-server").exists()
        )


ENGINES = (
    Contender("byollm bf16", "with_byollm.py", "bf16"),
    Contender("byollm int8", "with_byollm.py", "int8", narrow=True),
    Contender("byollm int4", "with_byollm.py", "int4", narrow=True),
    Contender("transformers generate", "with_transformers.py", "float32"),
    Contender("transformers generate_batch", "with_generate_batch.py", "float32"),
    Contender("llama.cpp bf16", "with_llama_cpp.py", "bf16", "llama"),
    Contender("llama.cpp q8_0", "with_llama_cpp.py", "q8_0", "llama", narrow=True),
    Contender("llama.cpp q4_0", "with_llama_cpp.py", "q4_0", "llama", narrow=True),
    Contender("vLLM bf16", "with_vllm.py", "bfloat16", "vllm"),
    Contender("vLLM float32", "with_vllm.py", "float32", "vllm"),
    Contender("OpenVINO bf16", "with_openvino.py", "fp16", "openvino"),
    Contender("OpenVINO int8", "with_openvino.py", "int8", "openvino", narrow=True),
)
SERVERS = (
    ENGINES[0],  # what its server is to be measured by
    Contender("byollm serve", "byollm", "bf16"),
    Contender("llama-server bf16", "llama-server", "bf16", "llama"),
    Contender("vLLM serve bf16", "vllm", "bfloat16", "vllm"),
    Contender("vLLM serve float32", "vllm", "float32", "vllm"),
)


@dataclass(frozen=True)
class Reply:
    """What answering some prompts took.

    Attributes:
        start: when they were given in.
        times: when something came out, for each of them: every token, or every event of a stream.
        tokens: how many tokens came out.
    """

    start: float
    times: list[list[float]]
    tokens: int

    @property
    def speed(self) -> float:
        """Tokens/s, until the last of them."""
        return self.tokens / (max(each[-1] for each in self.times) - self.start)


class ContenderError(Exception):
    """A contender that did not start, did not answer, or answered wrongly."""


class Running(Protocol):
    """A contender that is loaded and waits for work."""

    contender: Contender
    pid: int

    def generate(self, prompts: list[list[int]], tokens: int) -> Reply:
        """Answer prompts greedily, each with so many tokens.

        Raises:
            ContenderError: it could not.
        """

    def close(self) -> None:
        """End it."""
