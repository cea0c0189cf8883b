"""Small parts that several test files use."""

import asyncio
import os
import random
from collections.abc import Callable, Sequence

import pytest

from byollm.engine import Engine, Output, OutputStream
from byollm.engine.request import UNREAD, Request
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.speculation import Drafter
from byollm.engine.text_stream import TextStream
from byollm.kernels.cpu import load_library

needs_kernels = pytest.mark.skipif(
    load_library() is None and "CI" not in os.environ, reason="no C++ compiler, AVX2 or AVX-512 here"
)


def make_request(
    name: str = "a", prompt: int | list[int] = 4, max_tokens: int = 8, seed: int = 0, **params: object
) -> Request:
    """A sequence with a prompt of given tokens, or of that many, which differ from name to name."""
    first = sum(map(ord, name)) % 100
    tokens = list(range(first, first + prompt)) if isinstance(prompt, int) else list(prompt)
    return Request(
        request_id=name,
        index=0,
        tokens=tokens,
        prompt_length=len(tokens),
        params=SamplingParams(max_tokens=max_tokens, **params),  # type: ignore[arg-type]
        seed=seed,
        max_tokens=max_tokens,
        text=TextStream(None),
    )


def run(engine: Engine, check: bool = True) -> dict[tuple[str, int], Output]:
    """Step until all is done; returns the increments of each sequence merged into one."""
    merged: dict[tuple[str, int], Output] = {}
    while engine.has_unfinished():
        collect(merged, engine.step())
        if check:
            engine.scheduler.check_invariants()
    return merged


def collect(merged: dict[tuple[str, int], Output], outputs: list[Output]) -> None:
    """Merge increments into those before them."""
    for output in outputs:
        key = (output.request_id, output.index)
        if key in merged:
            assert merged[key].finish_reason is None, "an increment after the last one"
            merged[key].merge(output)
        else:
            merged[key] = output


class Oracle(Drafter):
    """Proposes what it is told the sequences will say, now and then a little wrong."""

    def __init__(self, sequences: Sequence[list[int]], wrong: float = 0.2) -> None:
        super().__init__(8, 3)
        self._sequences = list(sequences)
        self._wrong = wrong
        self._random = random.Random(0)

    def propose(self, running: Sequence[Request]) -> dict[Request, list[int]]:
        drafts = {}
        for request in running:
            known = len(request.tokens) - (request.tokens[-1] == UNREAD)
            for sequence in self._sequences:
                if sequence[:known] == request.tokens[:known] and request.remaining == 1:
                    room = request.max_tokens - request.completion_tokens - 1
                    draft = sequence[known : known + min(room, self._random.randint(0, 8))]
                    drafts[request] = [t if self._random.random() > self._wrong else 3 for t in draft]
        return drafts


async def read(stream: OutputStream) -> dict[int, Output]:
    """Read a stream to its end; returns the increments of each sequence merged into one."""
    merged: dict[tuple[str, int], Output] = {}
    async for output in stream:
        collect(merged, [output])
    return {index: output for (_, index), output in merged.items()}


async def until(condition: Callable[[], bool]) -> None:
    """Wait, as the event loop goes on, for something to come to pass."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass in 30 s")
