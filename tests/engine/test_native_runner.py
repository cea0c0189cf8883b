import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from byollm.engine import Engine, EngineError, SamplingParams, runner
from byollm.engine.adapters import BASE
from byollm.engine.model_runner import ModelRunner
from byollm.engine.native_runner import NativeRunner
from byollm.engine.pieces import Piece
from byollm.engine.request import Request
from byollm.engine.runner import make_runner, spare_threads
from byollm.engine.scheduler import Chunk
from byollm.kernels.cpu import KernelError, Precision, load_library
from byollm.modeling import Adapter, Decoder, DecoderConfig
from byollm.modeling.adapter import LoraPair, linear_shapes
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedEmbedding
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import FAMILIES, make_decoder
from tests.engine.support import make_request, needs_kernels, run
from tests.modeling.variants import hf_config

library = load_library()
tiles = library is not None and library.byollm_tiles()
precisions = [precision for precision in Precision if precision != Precision.TILES or tiles]
LENGTHS = (1, 5, 17, 40, 90)
BLOCKS = 24


def native(decoder: Decoder, precision: Precision = Precision.FLOAT32) -> NativeRunner:
    assert library is not None
    return NativeRunner(library, decoder, BLOCKS, precision, threads=1)


def kept(decoder: Decoder, precision: Precision) -> Decoder:
    """A decoder as it is, or packed into the integers of a precision."""
    if precision in (Precision.INT8, Precision.INT4):
        pack_decoder(decoder, Scheme(cast(Any, precision.name.lower()), 64))
    return decoder


def make_variant(variant: str) -> Decoder:
    torch.manual_seed(1)
    decoder = Decoder(DecoderConfig.from_hf(hf_config(variant).to_dict()))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return decoder


def make_adapter(variant: str) -> Adapter:
    """An adapter of all layers, whose float32 numbers need all their bits."""
    torch.manual_seed(2)
    shapes = linear_shapes(DecoderConfig.from_hf(hf_config(variant).to_dict()))
    pairs = {
        name: LoraPair(0.1 * torch.randn(4, i), 0.1 * torch.randn(o, 4)) for name, (o, i) in shapes.items()
    }
    return Adapter("a", 4, pairs)


def request(tokens: list[int], blocks: list[int]) -> Request:
    made = make_request(prompt=tokens)
    made.blocks = blocks
    return made


def sequences(vocab: int) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(vocab) for _ in range(length)] for length in LENGTHS]


def in_chunks(subject: NativeRunner, texts: Sequence[list[int]]) -> list[list[Tensor]]:
    """Feed texts side by side, a few tokens at a time; return the scores after each chunk of each text."""
    draw = random.Random(1)
    free = list(range(BLOCKS))
    draw.shuffle(free)
    requests = [request([], [free.pop() for _ in range(-(-len(text) // 16))]) for text in texts]
    scores: list[list[Tensor]] = [[] for _ in texts]
    while unfinished := [i for i, text in enumerate(texts) if len(requests[i].tokens) < len(text)]:
        chunks = []
        for i in unfinished:
            start = len(requests[i].tokens)
            requests[i].tokens = texts[i][: start + draw.choice([1, 2, 7, 19])]
            chunks.append(Chunk(requests[i], start, len(requests[i].tokens)))
        for i, row in zip(unfinished, subject.run(chunks), strict=True):
            scores[i].append(row)
    return scores


@torch.inference_mode()
def reference(decoder: Decoder, tokens: list[int]) -> Tensor:
    return decoder.logits(decoder(torch.tensor([tokens]), torch.arange(len(tokens))))[0]


@needs_kernels
@pytest.mark.parametrize("precision", precisions)
def test_neighbours_change_no_bit(precision: Precision) -> None:
    decoder = kept(make_variant("mistral sliding"), precision)
    texts = sequences(decoder.config.vocab_size)
    together = in_chunks(native(decoder, precision), texts)
    for text, scores in zip(texts, together, strict=True):
        (alone,) = in_chunks(native(decoder, precision), [text])
        assert torch.equal(alone[-1], scores[-1])


@needs_kernels
def test_bfloat16_weights_are_kept_as_they_are() -> None:
    decoder = make_variant("qwen3").bfloat16().float()
    texts = sequences(decoder.config.vocab_size)
    narrow, wide = (in_chunks(native(decoder, p), texts) for p in (Precision.BFLOAT16, Precision.FLOAT32))
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0)


@needs_kernels
@torch.inference_mode()
def test_an_adapter_of_a_bfloat16_model_loses_less_than_merging_it_would() -> None:
    decoder, adapter = make_variant("qwen3").bfloat16().float(), make_adapter("qwen3")
    merged = make_variant("qwen3").bfloat16().float()
    for name, (a, b) in adapter.weights.items():
        weight = merged.get_parameter(f"{name}.weight")
        weight.copy_((weight + b @ a).bfloat16())

    def scores(model: Decoder, adapter: Adapter | None = None, **settings: Any) -> Tensor:
        made = make_runner(model, BLOCKS, EngineSettings(**settings, threads=1))
        made.set_adapter(0, adapter)
        asked = request([5, 6, 7, 8], [2])
        asked.slot = BASE if adapter is None else 0
        return made.run([Chunk(asked, 0, 4, rows=4)])

    whole = scores(decoder, adapter, kernels="torch")
    largest = float(whole.abs().max())
    torch.testing.assert_close(scores(decoder, adapter, dtype="float32"), whole, rtol=0, atol=1e-5 * largest)
    lost = (scores(decoder, adapter) - whole).abs().max()
    assert 1e-5 * largest < lost < (scores(merged) - whole).abs().max()


@needs_kernels
@pytest.mark.parametrize("precision", precisions)
def test_what_is_not_finite_stays_so_and_with_whom_it_belongs(precision: Precision) -> None:
    decoder = kept(make_decoder(tie_embeddings=False), precision)
    table = decoder.embed_tokens
    (table.scales if isinstance(table, QuantizedEmbedding) else table.weight.data)[7] = float("nan")
    subject = native(decoder, precision)
    ill, well = request([1, 7, 2], [0]), request([1, 2, 3], [1])
    scores = subject.run([Chunk(ill, 0, 3), Chunk(well, 0, 3)])
    assert not scores[0].isfinite().any()
    assert scores[1].isfinite().all()
    next_user = request([3, 2, 1], [0])
    subject.cache.clear([0])
    assert subject.run([Chunk(next_user, 0, 3)]).isfinite().all()


@needs_kernels
def test_a_draft_gets_scores_after_each_of_its_tokens() -> None:
    decoder = make_decoder()
    subject = native(decoder)
    scores = subject.run([Chunk(request([5, 6, 7], [2]), 0, 5, draft=(8, 9), rows=3)])
    torch.testing.assert_close(scores, reference(decoder, [5, 6, 7, 8, 9])[2:], rtol=0, atol=1e-5)


@needs_kernels
def test_tiles_are_asked_for_only_where_they_are() -> None:
    decoder = make_decoder()
    assert runner._precision(decoder, tiles=True) == Precision.FLOAT32
    decoder = decoder.bfloat16()
    assert runner._precision(decoder, tiles=True) == Precision.TILES
    assert runner._precision(decoder, tiles=False) == Precision.BFLOAT16
    if not tiles:
        with pytest.raises(KernelError, match="built without tiles"):
            native(decoder, Precision.TILES)


@needs_kernels
@torch.inference_mode()
def test_texts_are_read_in_pages_of_their_own() -> None:
    decoder = make_variant("mistral sliding")
    subject = native(decoder)
    texts = sequences(decoder.config.vocab_size)
    answer = request(texts[2][:9], [1, 3])
    subject.run([Chunk(answer, 0, 9)])

    cache = subject.new_cache(20)
    blocks = iter(range(20))
    spans = [Piece(text, 0, [next(blocks) for _ in range(-(-len(text) // 16))]) for text in texts]
    logits = subject.read_logits(spans, cache).split([len(text) for text in texts])
    for text, found in zip(texts, logits, strict=True):
        wanted = reference(decoder, text)
        bound = 1e-5 * float(wanted.abs().max())
        torch.testing.assert_close(found, wanted, rtol=0, atol=bound)
        pieces = [Piece(text[start : start + 16], start, range(6)) for start in range(0, len(text), 16)]
        hidden = torch.cat([subject.read_hidden([piece], cache) for piece in pieces])
        torch.testing.assert_close(
            decoder.logits(hidden), found, rtol=0, atol=1e-5 * float(wanted.abs().max())
        )

    answer.tokens = texts[2]
    (alone,) = in_chunks(native(decoder), [texts[2]])
    assert torch.equal(subject.run([Chunk(answer, 9, 17)])[-1], alone[-1])


@needs_kernels
def test_the_profile_names_every_part() -> None:
    subject = native(make_decoder())
    subject.run([Chunk(request([5, 6, 7], [2]), 0, 3)])
    assert all(seconds > 0 for seconds in subject.profile().values())


@needs_kernels
@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_give_the_same_tokens(
    family: str, family_model: Callable[[str], tuple[Any, Decoder]]
) -> None:
    answers = []
    for kernels in ("native", "torch"):
        engine = Engine(family_model(family)[1], None, EngineSettings(kernels=cast(Any, kernels)))
        for number in range(8):
            tokens = [number + 1] * (1 + 7 * number)
            engine.add_request(
                str(number), tokens, SamplingParams(max_tokens=24, temperature=number % 2, seed=3)
            )
        answers.append({key: output.token_ids for key, output in run(engine).items()})
    assert answers[0] == answers[1]


@needs_kernels
def test_the_compiled_kernels_are_chosen_where_they_are(decoder: Decoder) -> None:
    assert isinstance(make_runner(decoder, 4, EngineSettings()), NativeRunner)
    assert isinstance(make_runner(decoder, 4, EngineSettings(kernels="torch")), ModelRunner)


def test_where_they_are_not_torch_computes_unless_they_are_asked_for(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_library", lambda: None)
    assert isinstance(make_runner(decoder, 4, EngineSettings()), ModelRunner)
    with pytest.raises(EngineError, match="needs the compiled CPU kernels"):
        make_runner(decoder, 4, EngineSettings(kernels="native"))


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_weights_are_rounded_at_loading_whatever_computes(kernels: Any) -> None:
    decoder = make_decoder()
    made = make_runner(decoder, 4, EngineSettings(quantization="int4", kernels=kernels))
    assert decoder.scheme == Scheme("int4", 32)
    scores = made.run([Chunk(request([5, 6, 7], [2]), 0, 3)])
    expected = reference(decoder, [5, 6, 7])[-1:]
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.02 * float(expected.abs().max()))
    with pytest.raises(EngineError, match="packed into int4 already"):
        make_runner(decoder, 4, EngineSettings(quantization="int8"))


@needs_kernels
def test_torch_leaves_the_cores_to_the_kernels(decoder: Decoder) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        spare_threads(make_runner(decoder, BLOCKS, EngineSettings(kernels="torch")))
        assert torch.get_num_threads() == 2
        spare_threads(make_runner(decoder, BLOCKS, EngineSettings()))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
