import asyncio
import gc

import pytest
from torch import Tensor

from byollm.engine import (
    AdmissionError,
    AsyncEngine,
    EngineClosedError,
    EngineError,
    Output,
    QueueFullError,
    SamplingParams,
)
from byollm.engine.messages import Progress
from byollm.modeling import Decoder
from tests.engine.beside import GREEDY, LONG, PROMPT, Beside, Gated, MakeEngine, Stepped, running
from tests.engine.support import read, run, until


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
        model = Stepped(decoder)
        async with running(make_engine(model=model)) as engine:
            stream = engine.generate(PROMPT, LONG)
            for count in range(1, 4):
                model.allowed.release()
                output = await anext(stream)
                assert output.finish_reason is None
                assert output.completion_tokens >= count
            model.allowed.release(1000)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["close", "cancel", "drop"])
def test_reader_who_goes_away_frees_the_blocks(way: str, make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Stepped(decoder)
        async with running(make_engine(model=model)) as engine:
            model.allowed.release()
            stream = engine.generate(PROMPT, LONG)
            await anext(stream)  # it cannot end by itself
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
            beside = engine._peer
            assert isinstance(beside, Beside)
            await until(lambda: beside.told.handed_on == 2)  # the call, and that nobody reads it any more
            steps = model.steps
            model.allowed.release(1000)
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


def test_increments_within_an_interval_come_together(make_engine: MakeEngine, decoder: Decoder) -> None:
    async def main() -> None:
        model = Stepped(decoder)
        async with running(make_engine(model=model), interval=3600) as engine:
            asked = SamplingParams(max_tokens=20, temperature=0)
            model.allowed.release(20)
            await read(engine.generate(PROMPT, asked))  # from here on, none is due for an hour
            while model.allowed.acquire(blocking=False):
                pass
            stream = engine.generate(PROMPT, asked)
            model.allowed.release()
            first = await anext(stream)  # it does not wait for the next step, nor for the hour
            model.allowed.release(1000)
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
        model = Stepped(decoder)
        engine = AsyncEngine(Beside(make_engine(model=model, max_running=1)), 60)
        await engine.start()
        runs, waits = engine.generate(PROMPT, LONG), engine.generate(PROMPT, LONG)
        model.allowed.release()
        first = await anext(runs)
        assert not await engine.drain(0.01)
        stopping = asyncio.create_task(engine.stop())
        while not stopping.done():  # it may take some steps before it hears of it
            model.allowed.release()
            await asyncio.sleep(0.01)
        await stopping
        assert (await read(runs))[0].finish_reason == "abort"
        assert (await read(waits))[0].finish_reason == "abort"
        assert first.finish_reason is None
        assert engine.stats().free_blocks == 64

    asyncio.run(main())


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
