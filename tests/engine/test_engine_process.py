"""The engine in a process of its own: what it answers, and what is noticed when it or its caller fails."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from byollm.engine import AsyncEngine, Engine, EngineError, SamplingParams
from byollm.engine.engine_process import EngineProcess
from byollm.engine.grammar import Grammar
from byollm.modeling import Decoder, Tokenizer, save_decoder
from byollm.settings.engine import EngineSettings
from tests.engine.support import read, run, until

MakeEngine = Callable[..., Engine]
PROMPT = [5, 9, 40, 7]
GREEDY = SamplingParams(max_tokens=20, temperature=0)
ENDLESS = SamplingParams(max_tokens=250, n=128, seed=1)


@pytest.fixture
def model_directory(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_decoder(decoder, tmp_path / "model", tokenizer)
    return tmp_path / "model"


SMALL = EngineSettings(dtype="float32", cache_blocks=64, max_running=8, max_batch_tokens=64, threads=1)


def test_it_answers_and_a_killed_one_is_noticed(
    model_directory: Path, make_engine: MakeEngine, tokenizer: Tokenizer
) -> None:
    expected = make_engine(tokenizer)
    expected.add_request("", PROMPT, GREEDY)
    tokens = run(expected)["", 0].token_ids
    core = min(os.sched_getaffinity(0))

    async def main() -> None:
        process = EngineProcess(
            model_directory, SMALL.model_copy(update={"cores": frozenset({core}), "max_running": 1})
        )
        engine = AsyncEngine(process, 60)
        await engine.start()
        assert (await read(engine.generate(PROMPT, GREEDY)))[0].token_ids == tokens
        assert os.sched_getaffinity(process.pid) == {core}
        grammar = Grammar("regex", "[0-9]{4}")
        constrained = await read(engine.generate(PROMPT, SamplingParams(max_tokens=20, grammar=grammar)))
        assert constrained[0].text.isdigit()
        assert len(constrained[0].text) == 4
        wrong = Grammar("regex", "(")
        refused = await read(engine.generate(PROMPT, SamplingParams(n=2, grammar=wrong)))
        assert {output.blames for output in refused.values()} == {"grammar"}
        os.kill(process.pid, signal.SIGTERM)  # as the whole group gets it; the other side decides
        stream = engine.generate(PROMPT, ENDLESS)
        await anext(stream)
        os.kill(process.pid, signal.SIGKILL)
        assert "error" in {output.finish_reason for output in (await read(stream)).values()}
        await until(lambda: not engine.healthy)
        await engine.stop()

    asyncio.run(main())


def test_a_stopped_process_counts_as_wedged_until_it_goes_on(model_directory: Path) -> None:
    async def main() -> None:
        process = EngineProcess(model_directory, SMALL.model_copy(update={"stall_seconds": 0.5}))
        engine = AsyncEngine(process, 0.5)
        await engine.start()
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: not engine.healthy)
        os.kill(process.pid, signal.SIGCONT)
        await until(lambda: engine.healthy)
        await engine.stop()

    asyncio.run(main())


def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(model_directory: Path) -> None:
    (model_directory / "model.safetensors").unlink()

    async def main() -> None:
        engine = AsyncEngine(EngineProcess(model_directory, SMALL), 60)
        with pytest.raises(EngineError, match=r"model\.safetensors"):
            await engine.start()
        await engine.stop()

    asyncio.run(main())


def test_cores_that_are_not_there_are_refused(model_directory: Path) -> None:
    async def main() -> None:
        settings = SMALL.model_copy(update={"cores": frozenset({100_000})})
        engine = AsyncEngine(EngineProcess(model_directory, settings), 60)
        with pytest.raises(EngineError, match=r"engine\.cores: \[100000\] has none"):
            await engine.start()
        await engine.stop()

    asyncio.run(main())
