"""The GPU's runner beside the plain one: on a GPU where there is one, else in Triton's interpreter."""

import copy
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from byollm.engine import Engine, SamplingParams
from byollm.engine.cuda_graph import CudaGraphs, Work, repeat
from byollm.engine.gpu_runner import BUCKETS, GpuRunner
from byollm.engine.kv_cache import KVCache
from byollm.engine.model_runner import ModelRunner
from byollm.engine.pieces import Piece
from byollm.engine.request import UNREAD, Request
from byollm.engine.scheduler import Chunk
from byollm.kernels.gpu import lora
from byollm.kernels.packed import Scheme
from byollm.modeling import Adapter, Decoder, DecoderConfig
from byollm.modeling.adapter import LoraPair
from byollm.modeling.packed_decoder import pack_decoder
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import make_decoder
from tests.engine.support import make_request, run
from tests.modeling.variants import hf_config

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
FEATURES = (
    "qwen3 tied",
    "qwen2 sliding in one layer",
    "llama all heads",
    "mistral sliding",
    "stablelm biases",
    "stablelm half rotary",
    "gpt2",
)
BLOCKS = 12


def small(variant: str) -> Decoder:
    """A random decoder of two layers, whose answers vary."""
    config = DecoderConfig.from_hf(hf_config(variant).to_dict())
    kept = tuple(layer for layer in config.sliding_layers if layer < 2)
    config = replace(
        config, layers=2, sliding_layers=kept, sliding_window=config.sliding_window if kept else None
    )
    torch.manual_seed(0)
    decoder = Decoder(config)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.mul_(10) if "norm" not in name else parameter.add_(torch.randn_like(parameter) / 5)
            if name.endswith("bias"):
                parameter.normal_()
    return decoder.to(DEVICE)


class Capture:
    """Counts what is made repeatable, and does it once, as the capture of a graph does."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        self.captured += 1
        again = repeat(work)
        again()

        def replay() -> Tensor:
            self.replayed += 1
            return again()

        return replay


def fused(decoder: Decoder, capture: Callable[[Work], Work] = repeat) -> GpuRunner:
    return GpuRunner(decoder, BLOCKS, 8, decoder.config.max_positions, 2, capture)


def plain(decoder: Decoder) -> ModelRunner:
    cache = KVCache(decoder.config, BLOCKS, decoder.dtype, decoder.device)
    return ModelRunner(copy.deepcopy(decoder), cache)


def requests(*lengths: int) -> list[Request]:
    """Sequences with prompts of these lengths, and blocks for a few tokens more, in no order."""
    free = [7, 2, 9, 0, 4, 11, 1, 3, 5, 6, 8, 10]
    made = []
    for index, length in enumerate(lengths):
        request = make_request(str(index), [(3 + 7 * i + index) % 131 for i in range(length)], temperature=0)
        request.blocks = [free.pop() for _ in range(-(-(length + 6) // 16))]
        made.append(request)
    return made


def answers(runner: Any, sequences: Sequence[Request], steps: int) -> list[Tensor]:
    """Logits of a step that reads the prompts, and of steps that decode greedily."""
    logits = [runner.run([Chunk(request, 0, len(request.tokens)) for request in sequences]).cpu().clone()]
    for _ in range(steps):
        for request, row in zip(sequences, logits[-1], strict=True):
            request.tokens.append(int(row.argmax()))
        chunks = [Chunk(r, len(r.tokens) - 1, len(r.tokens)) for r in sequences]
        logits.append(runner.run(chunks).cpu().clone())
    return logits


def same(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
        assert one.argmax(-1).tolist() == other.argmax(-1).tolist()


@pytest.mark.parametrize("variant", FEATURES)
def test_every_family_gets_the_logits_of_the_plain_runner(variant: str) -> None:
    decoder = small(variant)
    expected = answers(plain(decoder), requests(17, 1), 1)
    same(answers(fused(decoder), requests(17, 1), 1), expected)


@pytest.mark.parametrize("scheme", [Scheme("int4", 32), Scheme("int8", 32), Scheme("nf4", 64)], ids=str)
def test_packed_weights_get_the_logits_of_the_plain_runner(scheme: Scheme) -> None:
    decoder = small(
        "stablelm biases"
    )  # a layer is 48 * 48 weights: no groups of nf4 in a row, but in a layer
    pack_decoder(decoder, scheme)
    expected = answers(plain(decoder), requests(3, 2), 1)
    same(answers(fused(decoder), requests(3, 2), 1), expected)


def test_decoder_computes_as_before_and_nothing_is_held_twice() -> None:
    decoder = small("qwen3 tied")
    before = {name: parameter.clone() for name, parameter in decoder.named_parameters()}
    runner = fused(decoder)
    assert all(torch.equal(parameter, before[name]) for name, parameter in decoder.named_parameters())
    attention = decoder.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == (
        attention.v_proj.weight.untyped_storage().data_ptr()
    )
    assert runner.config is decoder.config


def adapter(decoder: Decoder, seed: int, rank: int, names: Sequence[str]) -> Adapter:
    torch.manual_seed(seed)
    weights = {}
    for name in names:
        outputs, inputs = decoder.get_submodule(name).weight.shape
        weights[name] = LoraPair(torch.randn(rank, inputs) / 4, torch.randn(outputs, rank) / 4)
    return Adapter(name=str(seed), rank=rank, weights=weights)


def test_rows_with_adapters_get_the_logits_of_the_plain_runner() -> None:
    decoder = small("qwen3 tied")
    attention = [f"layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qkvo"]
    mlp = [f"layers.0.mlp.{part}_proj" for part in ("gate", "up", "down")]
    first, second = adapter(decoder, 1, 3, attention), adapter(decoder, 2, 20, [*attention[:2], *mlp])
    reference, subject, capture = plain(decoder), None, Capture()
    subject = fused(decoder, capture)
    results = []
    for runner in (reference, subject):
        base = requests(2, 3, 4)
        results.append(answers(runner, base, 1))
        runner.set_adapter(0, first)
        mixed = requests(2, 3, 4)
        mixed[0].slot = 0
        results[-1] += answers(runner, mixed, 1)
        runner.set_adapter(1, second)
        mixed = requests(2, 3, 4)
        mixed[0].slot, mixed[2].slot = 1, 0
        results[-1] += answers(runner, mixed, 1)
        runner.set_adapter(1, None)
        mixed[0].tokens, mixed[1].tokens, mixed[2].tokens = ([5, 6], [7, 8, 9], [1, 2, 3, 4])
        results[-1] += answers(runner, mixed, 0)
    same(results[1], results[0])
    assert capture.captured == 3  # without adapters, with those of the first, with room for the second


def test_adapters_take_two_launches_for_layers_that_read_the_same_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder, launches = make_decoder(layers=1), [0]

    class Counted:
        def __init__(self, kernel: Any) -> None:
            self._kernel = kernel

        def __getitem__(self, grid: object) -> Any:
            launches[0] += 1
            return self._kernel[grid]

    for name in ("_shrink_kernel", "_expand_kernel"):
        monkeypatch.setattr(lora, name, Counted(getattr(lora, name)))
    names = [name for name, module in decoder.named_modules() if name.endswith("_proj")]
    assert len(names) == 7
    runner = fused(decoder.to(DEVICE))
    runner.set_adapter(0, adapter(decoder, 1, 3, names))
    (request,) = requests(1)
    request.slot = 0
    runner.run([Chunk(request, 0, 1)])
    assert launches == [8]


def test_tokens_chosen_last_are_fed_where_they_are() -> None:
    decoder = small("qwen3 tied")
    expected = answers(plain(decoder), one := requests(4, 18), 3)
    capture = Capture()
    runner, sequences = fused(decoder, capture), requests(4, 18)
    launched = [runner.submit([Chunk(request, 0, len(request.tokens)) for request in sequences])]
    for _ in range(2):
        for request in sequences:
            request.tokens.append(UNREAD)
        launched.append(runner.submit([Chunk(r, len(r.tokens) - 1, len(r.tokens)) for r in sequences[::-1]]))
    tokens = [step.collect() for step in launched]
    wanted = [logits.argmax(-1).tolist() for logits in expected]
    assert tokens[0] == wanted[0]
    assert tokens[1:] == [step[::-1] for step in wanted[1:3]]
    assert one[0].tokens[4:] == [step[0] for step in wanted[:3]]
    assert (capture.captured, capture.replayed) == (1, 2)


def test_step_that_ends_no_prompt_chooses_no_token() -> None:
    runner, (half,) = fused(small("qwen3 tied")), requests(4)
    assert runner.submit([Chunk(half, 0, 2, rows=0)]).collect() == []
    assert runner.run([Chunk(half, 0, 2, rows=0)]).shape == (0, 131)
    assert len(runner.submit([Chunk(half, 2, 4)]).collect()) == 1


def test_what_is_prepared_writes_nothing_and_is_used() -> None:
    decoder, capture = small("llama all heads"), Capture()
    runner = fused(decoder, capture)
    runner.prepare(most_tokens=2, most_rank=16)
    assert capture.captured == 4  # for 1, 2, 4 and 8 sequences
    assert not any(layer.keys.any() or layer.values.any() for layer in runner.cache.layers)
    same(answers(runner, requests(2), 1), answers(plain(decoder), requests(2), 1))
    assert (capture.captured, capture.replayed) == (4, 1)


def test_logits_come_in_the_order_of_the_chunks_and_rows() -> None:
    decoder = small("llama all heads")
    results, capture = [], Capture()
    for runner in (plain(decoder), fused(decoder, capture)):
        long, single, draft, half = requests(5, 4, 4, 4)
        runner.run([Chunk(request, 0, 3) for request in (single, draft)])
        chunks = [
            Chunk(long, 0, 5),
            Chunk(half, 0, 2, rows=0),
            Chunk(single, 3, 4),
            Chunk(draft, 3, 6, draft=(9, 8), rows=3),
        ]
        results.append([runner.run(chunks).cpu().clone()])
        drafted = [Chunk(draft, 3, 6, draft=(9, 8), rows=3), Chunk(single, 3, 4)]
        results[-1].append(runner.run(drafted).cpu().clone())
    same(results[1], results[0])
    assert [len(logits) for logits in results[1]] == [5, 4]
    assert capture.replayed == 1  # the rows of drafts are as those of other sequences


def test_texts_are_read_beside_the_steps() -> None:
    decoder = small("qwen3 tied")
    pieces = [Piece([4, 5, 6], 0, [1]), Piece([7], 0, [0]), Piece([8, 9], 0, [2])]
    results = []
    for runner in (plain(decoder), fused(decoder)):
        cache = runner.new_cache(3)
        results.append(
            [runner.read_logits(pieces, cache).cpu(), runner.read_hidden(pieces, runner.new_cache(3)).cpu()]
        )
    same(results[1], results[0])


def test_logits_that_are_not_finite_give_no_token() -> None:
    decoder = make_decoder(tie_embeddings=False).to(DEVICE)
    with torch.no_grad():
        decoder.embed_tokens.weight[9] = torch.nan
    runner, (good, bad) = fused(decoder), requests(2, 2)
    bad.tokens = [4, 9]
    tokens = runner.submit([Chunk(request, 0, 2) for request in (good, bad)]).collect()
    assert tokens[1] == -1 < tokens[0]
    for request in (good, bad):
        request.tokens.append(UNREAD)
    again = runner.submit([Chunk(request, 2, 3) for request in (good, bad)]).collect()
    assert again[1] == -1 < again[0]


def test_buckets_hold_every_number_of_sequences() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert all(any(n <= bucket < 2 * n for bucket in BUCKETS) for n in range(1, 513))


def test_engine_answers_as_with_the_plain_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_decoder()
    settings = EngineSettings(cache_blocks=16, max_running=4, max_batch_tokens=24, kernels="torch")
    expected = ask(Engine(copy.deepcopy(model), None, settings))

    def make(decoder: Decoder, blocks: int, settings: EngineSettings) -> GpuRunner:
        return GpuRunner(decoder.to(DEVICE), blocks, settings.max_running, 256, 2, repeat)

    monkeypatch.setattr("byollm.engine.engine.make_runner", make)
    engine = Engine(model, None, settings)
    assert ask(engine) == expected
    assert engine.stats().free_blocks == 16


def ask(engine: Engine) -> list[list[int]]:
    for name, (length, params) in enumerate(
        (
            (3, SamplingParams(max_tokens=4, temperature=0)),
            (30, SamplingParams(max_tokens=3, seed=5)),
            (2, SamplingParams(max_tokens=2, seed=7, top_p=0.8, top_k=50, temperature=0.7)),
        )
    ):
        engine.add_request(str(name), list(range(name, name + length)), params)
    first = run(engine)
    engine.add_request("special", [1, 2], SamplingParams(max_tokens=2, temperature=0, logprobs=1))
    return [output.token_ids for output in (first | run(engine)).values()]


@pytest.mark.skipif(not GPU, reason="graphs are captured on a GPU only")
@pytest.mark.parametrize("variant", FEATURES)
def test_graph_equals_eager(variant: str) -> None:
    decoder = small(variant).to(torch.bfloat16)
    eager = answers(fused(decoder), requests(18, 1, 3), 4)
    captured = answers(fused(decoder, CudaGraphs()), requests(18, 1, 3), 4)
    assert all(torch.equal(one, other) for one, other in zip(captured, eager, strict=True))


def test_importing_byollm_imports_no_triton() -> None:
    script = "import sys, byollm, byollm.engine, byollm.engine.engine; print('triton' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"
