import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from torch import Tensor

from byollm.engine import (
    AdmissionError,
    AsyncEngine,
    Engine,
    EngineClosedError,
    EngineError,
    Output,
    QueueFullError,
    SamplingParams,
)
from byollm.engine.messages import Progress
from byollm.engine.worker import serve
from byollm.modeling import Decoder
from byollm.settings.engine import EngineSettings
from tests.engine.support import read, run, until

MakeEngine = Callable[..., Engine]
PROMPT = [5, 9, 40, 7]
GREEDY = SamplingParams(max_tokens=20, temperature=0)
LONG = SamplingParams(max_tokens=200, temperature=0)


class Gated(Decoder):
    """A model whose steps wait at a gate, so that a test decides when one happens."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config)
        self.load_state_dict(decoder.state_dict())
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.steps = 0
        self.fault: BaseException | None = None

    def forward(self, tokens: Tensor, positions: Tensor, attend: Any = None) -> Tensor:
        self.entered.set()
        self.steps += 1
        assert self.gate.wait(30)
        if self.fault is not None:
            raise self.fault
        return super().forward(tokens, positions, attend)


class Beside:
    """An engine in a thread of this process, so that a test can reach into it."""

    def __init__(self, engine: Engine, stall_seconds: float = 60, interval: float = 0) -> None:
        self.link, self._theirs = socket.socketpair()
        self.engine = engine
        settings = EngineSettings(max_running=8, max_batch_tokens=16, stall_seconds=stall_seconds)
        self.settings = settings.model_copy(update={"stream_interval_s": interval})  # also a longer one
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        with self._theirs, self._theirs.makefile("rb") as file, suppress(LookupError, SystemExit):
            try:
                serve(self.engine, self._theirs, file, self.settings)
            finally:
                self._theirs.shutdown(socket.SHUT_RDWR)

    def dump(self) -> None:
        pass

    def end(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive()


@asynccontextmanager
async def running(
    engine: Engine, stall_seconds: float = 60, interval: float = 0
) -> AsyncIterator[AsyncEngine]:
    subject = AsyncEngine(Beside(engine, stall_seconds, interval), stall_seconds)
    await subject.start()
    try:
        yield subject
    finally:
        await subject.stop()


def test_answers_are_those_of_the_engine_whatever_runs_beside(make_engine: MakeEngine) -> None:
    params = [SamplingParams(max_tokens=5 + i, seed=i, n=1 + i % 3, temperature=i % 2) for i in range(12)]
    plain = make_engine()
    for i, asked in enumerate(params):
        plain.add_request(str(i), [i + 1] * (3 + 5 * i), asked)
    expected = run(plain)

    async def main() -> list[dict[int, Output]]:
        async with running(make_engine()) as engine:
            streams = [engine.generate([i + 1] * (3 + 5 * i), asked) for i, asked in enumerate(params)]
            return await asyncio.gather(*map(read, streams))

    answers = asyncio.run(main())
    for i, answer in enumerate(answers):
        assert {index: output.token_ids for index, output in answer.items()} == {
            index: output.token_ids for (name, index), output in expected.items() if name == str(i)
        }
        assert all(output.finish_reason == "length" for output in answer.values())


def test_increments_stream_while_the_answer_is_made(make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Gated(decoder)
        model.gate.clear()
        async with running(make_engine(model=model)) as engine:
            stream = engine.generate(PROMPT, LONG)  # too long to end while the gate is open for a moment
            for count in range(1, 4):
                assert await asyncio.to_thread(model.entered.wait, 30)
                model.entered.clear()
                model.gate.set()  # one step, or a few
                output = await anext(stream)
                model.gate.clear()
                assert output.finish_reason is None
                assert output.completion_tokens >= count
            model.gate.set()

    asyncio.run(main())


@pytest.mark.parametrize("way", ["close", "cancel", "drop"])
def test_reader_who_goes_away_frees_the_blocks(way: str, make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Gated(decoder)
        async with running(make_engine(model=model)) as engine:
            stream = engine.generate(PROMPT, LONG)
            await anext(stream)
            model.gate.clear()  # it cannot end by itself
            if way == "close":
                await stream.aclose()
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
            elif way == "cancel":
                task = asyncio.create_task(read(stream))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            del stream
            if way == "drop":
                gc.collect()
            await asyncio.sleep(0)
            steps = model.steps
            model.gate.set()
            await until(lambda: engine.stats().free_blocks == 64)
            assert model.steps <= steps + 2  # the step about to begin, and at most one more
            assert (await read(engine.generate(PROMPT, GREEDY)))[0].finish_reason == "length"

    asyncio.run(main())


def test_slow_reader_stalls_nobody_and_keeps_one_increment(make_engine: MakeEngine) -> None:
    async def main() -> None:
        async with running(make_engine()) as engine:
            slow = engine.generate(PROMPT, SamplingParams(max_tokens=100, temperature=0, n=2))
            quick = await read(engine.generate(PROMPT, GREEDY))
            await until(lambda: engine.stats().running == 0)
            await asyncio.sleep(0)
            first, second = await anext(slow), await anext(slow)
            assert {first.index, second.index} == {0, 1}
            assert len(first.token_ids) == len(second.token_ids) == 100
            assert first.token_ids[:20] == quick[0].token_ids
            assert first.finish_reason == "length"
            with pytest.raises(StopAsyncIteration):
                await anext(slow)

    asyncio.run(main())


def test_whole_answers_come_in_one_piece_beside_streams(make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        async with running(make_engine(max_running=8)) as engine:
            asked = SamplingParams(max_tokens=20, seed=1, n=2)
            streams = [engine.generate(PROMPT, asked, whole=whole) for whole in (True, False)]
            whole, pieces = [[output async for output in stream] for stream in streams]
            assert [len(output.token_ids) for output in whole] == [20, 20]
            assert all(output.seconds > 0 for output in whole)
            for index in range(2):
                tokens = [token for output in pieces if output.index == index for token in output.token_ids]
                assert [each.token_ids for each in whole if each.index == index] == [tokens]
            given_up = engine.generate(PROMPT, LONG, whole=True)
            await asyncio.sleep(0)
            await given_up.aclose()
            await until(lambda: engine.stats().free_blocks == 64)

    asyncio.run(main())


def test_increments_within_an_interval_come_together(
    make_engine: MakeEngine, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        model, steps = Gated(decoder), threading.Semaphore(0)
        async with running(make_engine(model=model), interval=3600) as engine:
            asked = SamplingParams(max_tokens=20, temperature=0)
            await read(engine.generate(PROMPT, asked))  # from here on, none is due for an hour
            monkeypatch.setattr(model.gate, "wait", lambda seconds: steps.acquire(timeout=seconds))
            stream = engine.generate(PROMPT, asked)
            steps.release()
            first = await anext(stream)  # it does not wait for the next step, nor for the hour
            steps.release(1000)
            rest = [output async for output in stream]
            assert [len(output.token_ids) for output in (first, *rest)] == [1, 19]
            several = await read(engine.generate(PROMPT, SamplingParams(max_tokens=200, n=3, seed=1)))
            assert {len(output.token_ids) for output in several.values()} == {200}

    asyncio.run(main())


def test_a_step_comes_in_one_message(make_engine: MakeEngine) -> None:
    async def main() -> tuple[int, int]:
        async with running(make_engine()) as engine:
            deliver, messages = engine._deliver, [0]

            def counting(progress: Progress) -> None:
                messages[0] += bool(progress.outputs)
                deliver(progress)

            engine._deliver = counting  # type: ignore[method-assign]
            await asyncio.gather(*(read(engine.generate(PROMPT, GREEDY)) for _ in range(8)))
            return messages[0], engine.stats().steps_total

    messages, steps = asyncio.run(main())
    assert 0 < messages <= steps


def test_refusals_come_at_the_call(make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Gated(decoder)
        model.gate.clear()
        async with running(make_engine(model=model, max_running=1, max_waiting=1)) as engine:
            with pytest.raises(AdmissionError, match="can never fit"):
                engine.generate(PROMPT, SamplingParams(max_tokens=9999))
            first = engine.generate(PROMPT, GREEDY, "first")
            with pytest.raises(AdmissionError, match="'first' is running"):
                engine.generate(PROMPT, GREEDY, "first")
            with pytest.raises(QueueFullError):
                engine.generate(PROMPT, SamplingParams(n=2))
            second = engine.generate(PROMPT, GREEDY)
            with pytest.raises(QueueFullError):
                engine.generate(PROMPT, GREEDY)
            await second.aclose()
            model.gate.set()
            await read(first)
            await until(lambda: engine.stats().waiting == 0)
            await read(engine.generate(PROMPT, GREEDY))

    asyncio.run(main())


def test_engine_that_does_not_run_takes_nothing(make_engine: MakeEngine) -> None:
    async def main() -> None:
        engine = AsyncEngine(Beside(make_engine()), 60)
        assert not engine.healthy
        with pytest.raises(EngineClosedError):
            engine.generate(PROMPT, GREEDY)
        await engine.start()
        assert engine.healthy
        with pytest.raises(EngineError, match="started before"):
            await engine.start()
        await engine.stop()
        assert not engine.healthy
        with pytest.raises(EngineClosedError):
            engine.generate(PROMPT, GREEDY)
        with pytest.raises(EngineClosedError):
            await engine.score(PROMPT, 0)

    asyncio.run(main())


def test_second_event_loop_is_refused(make_engine: MakeEngine) -> None:
    async def main() -> None:
        async with running(make_engine()) as engine:

            async def call() -> None:
                engine.generate(PROMPT, GREEDY)

            with pytest.raises(EngineError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, call())

    asyncio.run(main())


def test_drain_finishes_what_was_taken_and_takes_no_more(make_engine: MakeEngine) -> None:
    async def main() -> None:
        async with running(make_engine(max_running=2)) as engine:
            streams = [engine.generate(PROMPT, GREEDY) for _ in range(5)]
            assert await engine.drain(30)
            with pytest.raises(EngineClosedError):
                engine.generate(PROMPT, GREEDY)
            assert engine.healthy
            for stream in streams:
                assert (await read(stream))[0].completion_tokens == 20

    asyncio.run(main())


def test_drain_that_takes_too_long_says_so_and_stop_ends_the_rest(
    make_engine: MakeEngine, decoder: Decoder
) -> None:
    async def main() -> None:
        model = Gated(decoder)
        engine = AsyncEngine(Beside(make_engine(model=model, max_running=1)), 60)
        await engine.start()
        runs, waits = engine.generate(PROMPT, LONG), engine.generate(PROMPT, LONG)
        first = await anext(runs)
        model.gate.clear()
        assert not await engine.drain(0.01)
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0.05)
        model.gate.set()
        await stopping
        assert (await read(runs))[0].finish_reason == "abort"
        assert (await read(waits))[0].finish_reason == "abort"
        assert first.finish_reason is None
        assert engine.stats().free_blocks == 64

    asyncio.run(main())


def test_failed_step_ends_its_requests_and_the_engine_goes_on(
    make_engine: MakeEngine, decoder: Decoder
) -> None:
    async def main() -> None:
        model = Gated(decoder)
        async with running(make_engine(model=model)) as engine:
            model.fault = RuntimeError("no luck")
            answers = await asyncio.gather(*(read(engine.generate(PROMPT, GREEDY)) for _ in range(3)))
            assert {answer[0].finish_reason for answer in answers} == {"error"}
            assert engine.healthy
            model.fault = None
            assert (await read(engine.generate(PROMPT, GREEDY)))[0].finish_reason == "length"
            assert engine.stats().free_blocks == 64

    asyncio.run(main())


class Inconsistent(Engine):
    """An engine that fails in its own books, where no request is to blame."""

    faults = 0

    def step(self) -> list[Output]:
        if self.faults and self.stats().waiting:
            self.faults -= 1
            raise LookupError("the books do not balance")
        return super().step()


def test_fault_of_the_engine_itself_ends_what_runs_and_spares_what_waits(decoder: Decoder) -> None:
    async def main() -> None:
        broken = Inconsistent(decoder, None, EngineSettings(cache_blocks=64, max_running=1))
        async with running(broken) as engine:
            runs = engine.generate(PROMPT, LONG)
            await anext(runs)
            broken.faults = 1
            waits = engine.generate(PROMPT, GREEDY)
            assert (await read(runs))[0].finish_reason == "error"
            assert (await read(waits))[0].finish_reason == "length"
            assert engine.healthy

    asyncio.run(main())


def test_fault_that_would_come_for_ever_ends_the_engine(decoder: Decoder) -> None:
    async def main() -> None:
        broken = Inconsistent(decoder, None, EngineSettings(cache_blocks=64))
        broken.faults = 10
        async with running(broken) as engine:
            assert (await read(engine.generate(PROMPT, GREEDY)))[0].finish_reason == "error"
            await until(lambda: not engine.healthy)

    asyncio.run(main())


def test_dead_engine_is_unhealthy_and_ends_all_streams(make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Gated(decoder)
        async with running(make_engine(model=model, max_running=1)) as engine:
            model.gate.clear()
            runs, waits = (engine.generate(PROMPT, SamplingParams(n=2)) for _ in range(2))
            await asyncio.to_thread(model.entered.wait)
            model.fault = SystemExit(3)
            model.gate.set()
            for stream in (runs, waits):
                answer = await read(stream)
                assert {output.finish_reason for output in answer.values()} == {"error"}
                assert answer[1].error == "the engine died; its log has the details"
                assert answer[1].prompt_tokens == 4
            await until(lambda: not engine.healthy)
            with pytest.raises(EngineClosedError):
                engine.generate(PROMPT, GREEDY)
            assert await engine.drain(1)

    asyncio.run(main())


def test_step_that_does_not_end_is_unhealthy_until_it_does(make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Gated(decoder)
        async with running(make_engine(model=model), stall_seconds=0.3) as engine:
            await asyncio.sleep(0.5)
            assert engine.healthy  # idle is healthy
            model.gate.clear()
            stream = engine.generate(PROMPT, GREEDY)
            await until(lambda: not engine.healthy)
            model.gate.set()
            await read(stream)
            await until(lambda: engine.healthy)

    asyncio.run(main())


def test_an_engine_whose_caller_is_gone_ends(make_engine: MakeEngine) -> None:
    beside = Beside(make_engine())

    async def main() -> None:
        engine = AsyncEngine(beside, 60)
        await engine.start()
        engine.generate(PROMPT, LONG)

    asyncio.run(main())
    beside.link.close()
    beside.end()


def test_texts_are_read_while_answers_grow(make_engine: MakeEngine, decoder: Decoder) -> None:
    text = PROMPT * 10  # three pieces of 16 tokens

    async def main() -> None:
        async with running(make_engine()) as engine:
            stream = engine.generate(PROMPT, LONG)
            scores, vectors = await asyncio.gather(engine.score(text, 1), engine.embed([text, PROMPT]))
            assert engine.stats().steps_total >= 3  # never two pieces without a step between
            assert [entry.token_id for entry in scores] == text[1:]
            assert [len(vector) for vector in vectors] == [4 * 32] * 2
            await stream.aclose()
            reading = asyncio.create_task(engine.score(text * 5, 0))
            await asyncio.sleep(0)
            reading.cancel()
            assert (await read(engine.generate(PROMPT, GREEDY)))[0].finish_reason == "length"
            with pytest.raises(AdmissionError, match="9999"):
                await engine.embed([[9999]])

            def broken(*_: object) -> Tensor:
                raise MemoryError

            beside = engine._peer
            assert isinstance(beside, Beside)
            beside.engine.runner.read_hidden = broken  # type: ignore[method-assign]
            with pytest.raises(EngineError, match="MemoryError"):
                await engine.embed([PROMPT])
            assert engine.healthy

    asyncio.run(main())
