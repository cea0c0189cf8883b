"""The engine says what transformers says: every family and precision, both kinds of kernels, with adapters.

Where weights are packed, transformers gets the numbers that they stand for.
"""

import copy
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import peft
import pytest
import torch
import transformers
from torch import Tensor

from byollm.engine import Engine, SamplingParams
from byollm.engine.pieces import Piece
from byollm.engine.runner import Runner, make_runner
from byollm.modeling import Decoder, DecoderConfig, load_adapter
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedEmbedding, QuantizedLinear
from byollm.modeling.stored_tensors import stored_tensors
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import VOCAB
from tests.engine.support import collect, needs_kernels, run
from tests.modeling.variants import FAMILIES, VARIANTS, hf_config

Precision = Literal["float32", "bfloat16", "int8", "int4", "nf4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SCHEMES = {"int8": Scheme("int8", 32), "int4": Scheme("int4", 32), "nf4": Scheme("nf4", 64)}
KERNELS = [pytest.param("native", marks=needs_kernels), "torch"]

FAR = {
    ("native", "float32"): 1e-5,
    ("native", "bfloat16"): 0.04,  # transformers rounds every activation, the kernels few or none
    ("native", "int8"): 0.04,  # the kernels round activations to bytes
    ("native", "int4"): 0.04,
    ("native", "nf4"): 0.015,  # the kernels keep weights in bfloat16
    ("torch", "float32"): 1e-5,
    ("torch", "bfloat16"): 0.05,
    ("torch", "int8"): 1e-5,
    ("torch", "int4"): 1e-5,
    ("torch", "nf4"): 1e-5,
}
"""How far logits may be from transformers' with the same numbers for weights, as a share of their size."""

FAR_FROM_WHOLE = {"bfloat16": 0.03, "int8": 0.04, "int4": 0.45, "nf4": 0.6}
"""The same from transformers' with the weights before they were rounded. Random ones suffer much by that."""

TEXTS = [
    torch.randint(0, 131, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (1, 17, 40, 23)
]


@cache
def whole(variant: str) -> Any:
    """transformers' model of a variant, every parameter drawn at random, biases and norms too."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(hf_config(variant), attn_implementation="eager")
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name or ".ln_" in name
        torch.nn.init.normal_(parameter, mean=1.0 if is_norm and name.endswith("weight") else 0, std=0.15)
    return model.eval().requires_grad_(False)


@cache
def ours(variant: str, precision: Precision) -> Decoder:
    """The same model as we have it."""
    decoder = Decoder(DecoderConfig.from_hf(hf_config(variant).to_dict())).eval()
    parameters, given = decoder.state_dict(), whole(variant).state_dict()
    for stored in stored_tensors(decoder.config, parameters):
        stored.unpack(given[stored.name], parameters)
    if precision in SCHEMES:
        pack_decoder(decoder, SCHEMES[precision])
    return decoder.bfloat16() if precision == "bfloat16" else decoder


@cache
def theirs(variant: str, precision: Precision) -> Any:
    """transformers' model with the numbers that ours holds."""
    reference = copy.deepcopy(whole(variant))
    if precision == "bfloat16":
        return reference.bfloat16()
    decoder = ours(variant, precision)
    numbers = {
        f"{name}.weight": module.dequantised(torch.float32)
        for name, module in decoder.named_modules()
        if isinstance(module, QuantizedLinear | QuantizedEmbedding)
    }
    parameters = decoder.state_dict() | numbers
    shapes = Decoder(decoder.config).state_dict()
    stored = stored_tensors(decoder.config, shapes)
    reference.load_state_dict({s.name: s.pack(parameters) for s in stored}, strict=False)
    return reference


def runner_of(variant: str, precision: Precision, kernels: Any) -> Runner[Any]:
    return make_runner(ours(variant, precision), 1, EngineSettings(kernels=kernels, threads=1))


def read(runner: Runner[Any], slots: Sequence[int] = (-1, -1, -1, -1)) -> list[Tensor]:
    """Compute the texts side by side, in chunks; returns their logits."""
    blocks = [range(4 * i + 3, 4 * i - 1, -1) for i in range(len(TEXTS))]
    cache, found = runner.new_cache(4 * len(TEXTS)), [list[Tensor]() for _ in TEXTS]
    for first, last in pairwise((0, 1, 7, 20, 21, 40)):
        going_on = [i for i, text in enumerate(TEXTS) if len(text) > first]
        pieces = [Piece(TEXTS[i][first:last], first, blocks[i], slots[i]) for i in going_on]
        logits = runner.read_logits(pieces, cache)
        for i, rows in zip(going_on, logits.split([len(piece.tokens) for piece in pieces]), strict=True):
            found[i].append(rows)
    return [torch.cat(rows) for rows in found]


@torch.inference_mode()
def expect(reference: Any) -> list[Tensor]:
    logits = [reference(torch.tensor([text])).logits[0].float() for text in TEXTS]
    assert torch.cat(logits).std() > 0.3, "the reference must say something"
    return logits


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return float((torch.cat([*found]) - torch.cat([*expected])).norm() / torch.cat([*expected]).norm())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_logits_are_those_of_transformers(variant: str, kernels: str) -> None:
    found = read(runner_of(variant, "float32", kernels))
    for logits, expected in zip(found, expect(whole(variant)), strict=True):
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_fewer_bits_are_near_those_of_transformers(
    family: str, precision: Precision, kernels: str
) -> None:
    found = read(runner_of(family, precision, kernels))
    assert distance(found, expect(theirs(family, precision))) < FAR[kernels, precision]
    assert distance(found, expect(whole(family))) < FAR_FROM_WHOLE[precision]


@pytest.fixture(scope="module")
def adapted(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Precision], tuple[Path, list[Tensor]]]:
    """Two adapters in a directory, and what PEFT gives with one, the other, none, and the first again."""

    @cache
    def make(family: str, precision: Precision) -> tuple[Path, list[Tensor]]:
        directory = tmp_path_factory.mktemp("adapters")
        plain = expect(theirs(family, precision))
        torch.manual_seed(2)
        everywhere: dict[str, Any] = {"target_modules": "all-linear", "init_lora_weights": False}
        small = peft.LoraConfig(r=3, lora_alpha=6, **everywhere)
        model = peft.get_peft_model(copy.deepcopy(theirs(family, precision)), small, "small").eval()
        model.add_adapter("large", peft.LoraConfig(r=20, use_rslora=True, **everywhere))
        model.save_pretrained(directory)
        logits = {}
        for name in ("small", "large"):
            model.set_adapter(name)
            logits[name] = expect(model)
            assert distance(logits[name], plain) > 0.1, "it must add something"
        return directory, [logits["small"][0], logits["large"][1], plain[2], logits["small"][3]]

    return make


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int4", "nf4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_mixed_in_one_batch_add_what_peft_adds(
    family: str, precision: Precision, kernels: str, adapted: Callable[..., tuple[Path, list[Tensor]]]
) -> None:
    directory, expected = adapted(family, precision)
    runner = runner_of(family, precision, kernels)
    before = read(runner)
    for slot, name in enumerate(("small", "large")):
        runner.set_adapter(slot, load_adapter(directory / name, runner.config, name))
    for logits, wanted in zip(read(runner, [0, 1, -1, 0]), expected, strict=True):
        assert distance([logits], [wanted]) < FAR[kernels, precision]
    for slot in range(2):
        runner.set_adapter(slot, None)
    assert distance(read(runner, [0, 1, -1, 0]), before) == 0, "what is taken out must be gone"


@torch.inference_mode()
def assert_greedy(reference: Any, prompt: list[int], answer: list[int]) -> None:
    """Each token of an answer has to be the best that transformers finds after those before it.

    Where two are as good but for the rounding, which differs between processors, either may be it.
    """
    scores = reference(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    chosen = scores.gather(-1, torch.tensor(answer)[:, None])[:, 0]
    torch.testing.assert_close(chosen, scores.amax(-1), rtol=0, atol=1e-5 * float(scores.abs().max()))


def workload(count: int) -> list[tuple[list[int], int]]:
    """Prompts of mixed lengths, some over several chunks, and the lengths of their answers."""
    draw = random.Random(count)
    lengths = [draw.choice([1, 3, 9, 15, 16, 17, 30, 45, 64, 90]) for _ in range(count)]
    return [
        ([draw.randrange(VOCAB) for _ in range(length)], draw.choice([1, 2, 7, 20, 50])) for length in lengths
    ]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_transformers(
    family: str,
    kernels: str,
    family_model: Callable[[str], tuple[Any, Decoder]],
    make_engine: Callable[..., Engine],
) -> None:
    reference, decoder = family_model(family)
    engine = make_engine(model=decoder, max_batch_tokens=20, kernels=kernels)
    for prompt, tokens in workload(32)[:8]:
        engine.add_request("a", prompt, SamplingParams(temperature=0, max_tokens=tokens))
        answer = run(engine)["a", 0].token_ids
        assert len(answer) == tokens
        assert_greedy(reference, prompt, answer)


@pytest.mark.parametrize("family", FAMILIES)
def test_so_they_are_among_31_neighbours_with_preemptions(
    family: str,
    family_model: Callable[[str], tuple[Any, Decoder]],
    make_engine: Callable[..., Engine],
) -> None:
    """All at once and in a cache too small for them, with arrivals between the steps."""
    reference, decoder = family_model(family)
    engine = make_engine(model=decoder, cache_blocks=14, max_running=16, max_batch_tokens=40)
    merged: dict[Any, Any] = {}
    for name, (prompt, tokens) in enumerate(workload(32)):
        engine.add_request(str(name), prompt, SamplingParams(temperature=0, max_tokens=tokens))
        if name % 4 == 3:
            collect(merged, engine.step())
            engine.scheduler.check_invariants()
    while engine.has_unfinished():
        collect(merged, engine.step())
        engine.scheduler.check_invariants()
    assert engine.stats().preemptions > 0
    for name, (prompt, tokens) in enumerate(workload(32)):
        answer = merged[str(name), 0].token_ids
        assert len(answer) == tokens
        assert_greedy(reference, prompt, answer)
    assert engine.stats().free_blocks == 14
