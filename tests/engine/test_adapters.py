"""Answers with LoRA adapters that PEFT made, held against PEFT's merged models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from byollm.engine import Engine, SamplingParams
from byollm.engine.errors import UnknownAdapterError
from byollm.modeling import AdapterError, Decoder
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.settings import REPOSITORY
from byollm.settings.engine import EngineSettings
from tests.adapters import make_adapter, merged
from tests.engine.support import needs_kernels, run

PROMPT = list(range(40, 75))
GREEDY = SamplingParams(max_tokens=10, temperature=0)
KERNELS = ["torch", pytest.param("native", marks=needs_kernels)]
NAMES = ("low", "high", "partial")

Model = tuple[Any, Decoder]


@pytest.fixture(scope="session")
def adapters(
    family_model: Callable[[str], Model], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A directory with three adapters of a family: of rank 2 and 8, and one of some layers only."""

    def make(family: str) -> Path:
        directory = tmp_path_factory.mktemp(f"adapters-{family}")
        model, _ = family_model(family)
        some = ["c_attn"] if family == "gpt2" else ["q_proj", "down_proj"]
        make_adapter(model, directory / "low", 1, r=2, lora_alpha=3)
        make_adapter(model, directory / "high", 2, r=8, use_rslora=True)
        make_adapter(model, directory / "partial", 3, target_modules=some)
        return directory

    return make


@pytest.fixture(scope="session")
def qwen3(adapters: Callable[[str], Path]) -> Path:
    return adapters("qwen3")


def answer(engine: Engine, adapter: str | None = None, prompt: list[int] = PROMPT) -> list[int]:
    engine.add_request("alone", prompt, GREEDY, adapter=adapter)
    return run(engine)["alone", 0].token_ids


def expected(model: Any, prompt: list[int] = PROMPT) -> list[int]:
    out = model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=None)
    return [int(token) for token in out[0, len(prompt) :]]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("family", ["qwen3", "stablelm", "gpt2"])
def test_answers_are_those_of_the_merged_model_alone_and_in_a_mixed_batch(
    family: str,
    kernels: str,
    family_model: Callable[[str], Model],
    adapters: Callable[[str], Path],
    make_engine: Callable[..., Engine],
) -> None:
    reference, decoder = family_model(family)
    directory = adapters(family)
    engine = make_engine(model=decoder, kernels=kernels, threads=1)
    wanted = {None: expected(reference)}
    for name in NAMES:
        engine.adapters.load(name, directory / name)
        wanted[name] = expected(merged(reference, directory / name))
    assert len({tuple(tokens) for tokens in wanted.values()}) > 2
    for name in (None, *NAMES):
        engine.add_request(str(name), PROMPT, GREEDY, adapter=name)
    together = run(engine)
    for name in (None, *NAMES):
        assert together[str(name), 0].token_ids == wanted[name], name
        assert answer(engine, name) == wanted[name], name


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", ["int8", "int4", "nf4"])
def test_adapters_stand_on_packed_weights(
    kind: Any,
    kernels: str,
    qwen3: Path,
    family_model: Callable[[str], Model],
    make_engine: Callable[..., Engine],
) -> None:
    import copy

    decoder = copy.deepcopy(family_model("qwen3")[1])
    pack_decoder(decoder, Scheme(kind, 64 if kind == "nf4" else 32))
    engine = make_engine(model=decoder, kernels=kernels, threads=1)
    before = answer(engine)
    for name in NAMES:
        engine.adapters.load(name, qwen3 / name)
    answers = [answer(engine, name) for name in NAMES]
    assert all(tokens != before for tokens in answers)
    for name in (None, *NAMES):
        engine.add_request(str(name), PROMPT, GREEDY, adapter=name)
    together = run(engine)
    assert [together[str(name), 0].token_ids for name in NAMES] == answers
    assert together["None", 0].token_ids == before


def test_prefixes_are_shared_by_those_of_one_version_only(
    qwen3: Path, family_model: Callable[[str], Model], make_engine: Callable[..., Engine]
) -> None:
    reference, decoder = family_model("qwen3")
    engine = make_engine(model=decoder)

    def cached(adapter: str | None) -> int:
        engine.add_request("a", PROMPT, GREEDY, adapter=adapter)
        output = run(engine)["a", 0]
        source = None if adapter is None else versions[adapter]
        model = reference if source is None else merged(reference, qwen3 / source)
        assert output.token_ids == expected(model)
        return output.cached_tokens

    versions = {"x": "low", "y": "high"}
    for name, source in versions.items():
        engine.adapters.load(name, qwen3 / source)
    assert [cached(name) for name in (None, "x", "y")] == [0, 0, 0]
    assert [cached(name) for name in (None, "x", "y")] == [32, 32, 32]
    versions["x"] = "high"
    engine.adapters.load("x", qwen3 / "high")
    assert cached("x") == 0
    assert cached("x") == 32


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_replaced_adapter_serves_those_under_way_to_their_end(
    kernels: str, qwen3: Path, family_model: Callable[[str], Model], make_engine: Callable[..., Engine]
) -> None:
    reference, decoder = family_model("qwen3")
    engine = make_engine(model=decoder, kernels=kernels, threads=1, adapter_slots=2)
    engine.adapters.load("a", qwen3 / "low")
    engine.add_request("old", PROMPT, GREEDY, adapter="a")
    first = engine.step()
    engine.adapters.load("a", qwen3 / "high")
    engine.add_request("new", PROMPT, GREEDY, adapter="a")
    second = engine.step()
    engine.adapters.remove("a")
    outputs = run(engine)
    old = [t for o in (*first, *second) if o.request_id == "old" for t in o.token_ids]
    new = [t for o in second if o.request_id == "new" for t in o.token_ids]
    assert old + outputs["old", 0].token_ids == expected(merged(reference, qwen3 / "low"))
    assert new + outputs["new", 0].token_ids == expected(merged(reference, qwen3 / "high"))
    with pytest.raises(UnknownAdapterError):
        engine.add_request("late", PROMPT, GREEDY, adapter="a")
    assert engine.scheduler.slots.held() == {}
    assert answer(engine) == expected(reference)


def test_twenty_adapters_go_through_four_slots(
    tmp_path: Path, family_model: Callable[[str], Model], make_engine: Callable[..., Engine]
) -> None:
    reference, decoder = family_model("llama")
    engine = make_engine(model=decoder, threads=1, adapter_slots=4)
    for number in range(20):
        directory = make_adapter(reference, tmp_path / str(number), number, r=1 + number % 8)
        engine.adapters.load(str(number), directory)
    prompts = {number: PROMPT[: 5 + number] for number in range(20)}
    for number in [*range(20), *range(20)]:
        name = f"{number} {engine.has_unfinished()} {len(engine.scheduler.waiting)}"
        engine.add_request(name, prompts[number], GREEDY, adapter=str(number))
    outputs = run(engine)
    assert len(outputs) == 40
    for (name, _), output in outputs.items():
        number = int(name.split()[0])
        if number % 7 == 0:  # a reference takes its time
            assert output.token_ids == expected(merged(reference, tmp_path / str(number)), prompts[number])
        twins = [o.token_ids for (n, _), o in outputs.items() if n.split()[0] == name.split()[0]]
        assert twins[0] == twins[1]
    assert len({tuple(output.token_ids) for output in outputs.values()}) > 15


@pytest.mark.parametrize("kernels", KERNELS)
def test_texts_are_scored_and_embedded_with_an_adapter(
    kernels: str, qwen3: Path, family_model: Callable[[str], Model], make_engine: Callable[..., Engine]
) -> None:
    reference, decoder = family_model("qwen3")
    engine = make_engine(model=decoder, kernels=kernels, threads=1)
    engine.adapters.load("a", qwen3 / "low")

    def finish(reading: Any) -> Any:
        while True:
            try:
                next(reading)
            except StopIteration as end:
                return end.value

    adapter = engine.adapters.find("a")
    logits = merged(reference, qwen3 / "low")(torch.tensor([PROMPT])).logits[0].log_softmax(-1)
    scores = finish(engine.score(PROMPT, 1, adapter))
    wanted = [float(row[token]) for row, token in zip(logits, PROMPT[1:], strict=False)]
    assert [score.logprob for score in scores] == pytest.approx(wanted, abs=1e-3)
    plain, changed = (finish(engine.embed([PROMPT], which)) for which in (None, adapter))
    assert plain != changed
    assert engine.scheduler.slots.held() == {}


def test_a_slot_that_cannot_be_filled_fails_only_those_who_need_it(
    qwen3: Path,
    family_model: Callable[[str], Model],
    make_engine: Callable[..., Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference, decoder = family_model("qwen3")
    engine = make_engine(model=decoder, kernels="torch")
    engine.adapters.load("good", qwen3 / "low")
    engine.adapters.load("bad", qwen3 / "high")
    bad = engine.adapters.find("bad")
    assert bad is not None
    put = engine.runner.set_adapter

    def full(slot: int, adapter: Any) -> None:
        if adapter is bad.weights:
            raise MemoryError
        put(slot, adapter)

    monkeypatch.setattr(engine.adapters, "_put", full)
    for name in ("good", "bad"):
        engine.add_request(name, PROMPT, GREEDY, adapter=name)
    outputs = run(engine)
    assert outputs["bad", 0].finish_reason == "error"
    assert outputs["good", 0].token_ids == expected(merged(reference, qwen3 / "low"))
    monkeypatch.undo()
    monkeypatch.setattr(engine.adapters, "_put", put)
    assert answer(engine, "bad") == expected(merged(reference, qwen3 / "high"))


def test_a_bad_adapter_leaves_the_one_that_is_there(
    tmp_path: Path, qwen3: Path, family_model: Callable[[str], Model], make_engine: Callable[..., Engine]
) -> None:
    _, decoder = family_model("qwen3")
    engine = make_engine(model=decoder)
    engine.adapters.load("a", qwen3 / "low")
    before = answer(engine, "a")
    broken = {name: tensor * torch.nan for name, tensor in load_file(weights(qwen3 / "low")).items()}
    (tmp_path / "adapter_config.json").write_bytes((qwen3 / "low" / "adapter_config.json").read_bytes())
    save_file(broken, weights(tmp_path))
    with pytest.raises(AdapterError, match="not finite"):
        engine.adapters.load("a", tmp_path)
    assert answer(engine, "a") == before


def weights(directory: Path) -> Path:
    return directory / "adapter_model.safetensors"


def test_the_bundled_model_answers_with_an_adapter(tmp_path: Path) -> None:
    bundled = REPOSITORY / "models" / "byollm-tiny"
    reference = AutoModelForCausalLM.from_pretrained(bundled, dtype=torch.float32).eval()
    make_adapter(reference, tmp_path)
    settings = EngineSettings(dtype="float32", threads=1, max_context=128, max_running=2)
    engine = Engine.load(bundled, settings)
    engine.adapters.load("a", tmp_path)
    for name in (None, "a"):
        engine.add_request(str(name), PROMPT, GREEDY, adapter=name)
    outputs = run(engine)
    assert outputs["None", 0].token_ids == expected(reference)
    assert outputs["a", 0].token_ids == expected(merged(reference, tmp_path))
