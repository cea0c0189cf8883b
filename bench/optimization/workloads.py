"""What the engine is asked to do, and how fast that was."""

import statistics
import time
from dataclasses import dataclass
from itertools import cycle, islice, pairwise

from bench.serve.rounds import Prompts
from byollm.engine import Engine, SamplingParams

ANSWER = 32  # tokens of an answer
OWN = 16  # tokens that a prompt has of its own behind a shared beginning
LEAST_S = 0.3  # what takes less is done again and again

PASSAGE = (
    "The lighthouse on the northern cape was built in 1871 by forty workers. Its lamp burned oil until "
    "1924, when a cable from the village brought electricity. Today the keeper's house is a small museum."
)


@dataclass(frozen=True)
class Cell:
    """Where a technique is measured.

    Attributes:
        batch: requests at a time.
        context: tokens of a prompt and its answer together.
        prompts: draws prompts.
        adapters: names that the requests take in turn; none: the model as it is.
    """

    batch: int
    context: int
    prompts: Prompts
    adapters: tuple[str, ...] = ()

    def draw(self, count: int | None = None, length: int | None = None) -> list[list[int]]:
        """Random prompts, never the same twice: by default for the whole batch, of the context's length."""
        return self.prompts.draw(count or self.batch, length or self.context - ANSWER)


def answer(engine: Engine, cell: Cell) -> dict[str, float]:
    """Read prompts that are new, and answer prompts that are in the cache."""
    read = decoded = reading = decoding = 0.0
    while min(reading, decoding) < LEAST_S:
        prompts = cell.draw()
        started = time.perf_counter()
        _run(engine, prompts, 1, cell.adapters)
        reading += time.perf_counter() - started
        read += sum(map(len, prompts))
        started = time.perf_counter()
        _run(engine, prompts, ANSWER, cell.adapters)
        decoding += time.perf_counter() - started
        decoded += cell.batch * ANSWER
    return {"decode": decoded / decoding, "read": read / reading}


def share_beginning(engine: Engine, cell: Cell) -> dict[str, float]:
    """Answer requests that begin alike, after one that began so."""
    asked = seconds = 0.0
    firsts: list[float] = []
    while seconds < LEAST_S:
        (common,) = cell.draw(1, cell.context - ANSWER - OWN)
        _run(engine, [common], 1)
        prompts = [common + own for own in cell.draw(length=OWN)]
        started = time.perf_counter()
        times = _run(engine, prompts, ANSWER)
        seconds += time.perf_counter() - started
        asked += cell.batch
        firsts += [each[0] - started for each in times]
    return {"requests": asked / seconds, "first": 1e3 * statistics.median(firsts)}


def copy_text(engine: Engine, cell: Cell) -> dict[str, float]:
    """Go on with a text that repeats itself, and with random tokens, which give nothing to guess."""
    assert engine.tokenizer is not None
    text = engine.tokenizer.encode(PASSAGE)
    length = cell.context - ANSWER
    copies = [list(islice(cycle(text[number:] + text[:number]), length)) for number in range(cell.batch)]
    return {"copying": _speed(engine, copies), "decode": _speed(engine, cell.draw())}


def interrupt(engine: Engine, cell: Cell) -> dict[str, float]:
    """Read one prompt while others are being answered."""
    for number, prompt in enumerate(cell.draw(cell.batch - 1, OWN)):
        engine.add_request(f"other {number}", prompt, _greedy(10 * ANSWER))
    while engine.scheduler.waiting or any(not each.completion_tokens for each in engine.scheduler.running):
        engine.step()
    (prompt,) = cell.draw(1)
    started = time.perf_counter()
    engine.add_request("late", prompt, _greedy(1))
    moments = [started]
    while not any(output.request_id == "late" for output in engine.step()):
        moments.append(time.perf_counter())
    moments.append(time.perf_counter())
    engine.abort_all()
    return {
        "first": 1e3 * (moments[-1] - started),
        "gap": 1e3 * max(later - sooner for sooner, later in pairwise(moments)),
    }


def _speed(engine: Engine, prompts: list[list[int]]) -> float:
    """Tokens/s of answers to prompts that are in the cache."""
    tokens = seconds = 0.0
    _run(engine, prompts, 1)
    while seconds < LEAST_S:
        started = time.perf_counter()
        _run(engine, prompts, ANSWER)
        seconds += time.perf_counter() - started
        tokens += len(prompts) * ANSWER
    return tokens / seconds


def _run(
    engine: Engine, prompts: list[list[int]], tokens: int, adapters: tuple[str, ...] = ()
) -> list[list[float]]:
    """Answer prompts together; return when the tokens of each came."""
    times: dict[str, list[float]] = {str(number): [] for number in range(len(prompts))}
    named = cycle(adapters or (None,))
    for number, (prompt, adapter) in enumerate(zip(prompts, named, strict=False)):
        engine.add_request(str(number), prompt, _greedy(tokens), adapter=adapter)
    while engine.has_unfinished():
        outputs = engine.step()
        now = time.perf_counter()
        for output in outputs:
            times[output.request_id] += [now] * len(output.token_ids)
    assert all(len(each) == tokens for each in times.values()), "an answer is not complete"
    return list(times.values())


def _greedy(tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
