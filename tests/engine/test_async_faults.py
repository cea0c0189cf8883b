"""What goes wrong in an engine ends what it has to, and nothing else."""

import asyncio

import pytest

from byollm.engine import (
    AsyncEngine,
    Engine,
    EngineClosedError,
    Output,
    SamplingParams,
)
from byollm.modeling import Decoder
from byollm.settings.engine import EngineSettings
from tests.engine.beside import GREEDY, LONG, PROMPT, Beside, Gated, MakeEngine, running
from tests.engine.support import read, until


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
        model = Gated(decoder)
        model.gate.clear()
        broken = Inconsistent(model, None, EngineSettings(cache_blocks=64, max_running=1))
        async with running(broken) as engine:
            runs = engine.generate(PROMPT, LONG)
            assert await asyncio.to_thread(model.entered.wait, 30)
            broken.faults = 1
            waits = engine.generate(PROMPT, GREEDY)
            model.gate.set()
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
            await until(lambda: engine.healthy)  # idle is healthy, if it gets the processor
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
