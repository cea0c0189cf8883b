"""What an engine has to be for the worker to step it."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from byollm.engine.messages import EngineInfo
from byollm.engine.outputs import EngineStats, Output
from byollm.engine.sampling_params import SamplingParams

Reading = Generator[None, None, Any]
"""Reads a text, a piece at a time; returns what came of it."""

R = TypeVar("R")


class StepAdapters(Protocol):
    """The adapters of an engine: the methods of `Adapters`, whatever it takes an adapter to be."""

    def find(self, name: str | None) -> Any:
        """Return what requests with the adapter of this name are made with; None for None."""

    def read(self, name: str, directory: Path, pinned: bool) -> tuple[Any, ...]:
        """Read and check an adapter; return the arguments of `add`. Called from any thread."""

    def add(self, *read: Any) -> None:
        """Let requests that come now have an adapter."""

    def remove(self, name: str) -> None:
        """Let an adapter no longer be asked for."""


class StepEngine(Protocol[R]):
    """What the worker steps: the methods of `Engine`, over sequences of whatever kind `R`."""

    @property
    def adapters(self) -> StepAdapters:
        """The adapters that requests can ask for."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""

    def is_prepared(self, params: SamplingParams) -> bool:
        """Whether `make_requests` returns at once."""

    def make_requests(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        salt: str = "",
        adapter: Any = None,
        wanted: Callable[[], bool] = ...,
    ) -> list[R]:
        """Check a call and return its sequences, to be given to `add`. Called from any thread."""

    def add(self, requests: list[R]) -> None:
        """Queue the sequences of one call."""

    def abort(self, request_id: str) -> list[Output]:
        """End a call now; returns its last outputs."""

    def abort_all(self) -> list[Output]:
        """End every call now."""

    def fail_running(self, error: Exception) -> list[Output]:
        """End what a failed step may have damaged; nothing returned means that it cannot go on."""

    def has_unfinished(self) -> bool:
        """Whether a step has anything to do."""

    def step(self) -> list[Output]:
        """Compute one batch and return its increments."""

    def score(self, tokens: Sequence[int], top: int, adapter: Any = None) -> Reading:
        """Find how probable each token of a text is, a piece at a time."""

    def embed(self, texts: Sequence[Sequence[int]], adapter: Any = None) -> Reading:
        """Embed texts, a piece at a time."""

    def stats(self) -> EngineStats:
        """Return counters and gauges."""
