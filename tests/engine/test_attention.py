"""Paged attention against attention over plain tensors."""

import random

import pytest
import torch
from torch import Tensor

from byollm.engine.attention import PagedAttention, Span, bucket
from byollm.engine.kv_cache import BLOCK_SIZE, KVCache
from byollm.modeling import DecoderConfig

HEADS, KV_HEADS, SIZE = 6, 2, 8


def make_cache(blocks: int, layers: int = 1) -> KVCache:
    config = DecoderConfig(
        vocab_size=8,
        hidden_size=8,
        layers=layers,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=SIZE,
        intermediate_size=8,
        max_positions=4096,
    )
    return KVCache(config, blocks, torch.float32)


def reference(q: Tensor, k: Tensor, v: Tensor, start: int, window: int | None) -> Tensor:
    """Attend from q (rows, heads, size), the first at `start`, over k, v (positions, kv_heads, size)."""
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / SIZE**0.5
    query = torch.arange(start, start + len(q))[:, None]
    key = torch.arange(len(k))[None]
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


class Sequence:
    """The keys and values of one sequence, and the blocks that hold them."""

    def __init__(self, length: int, blocks: list[int], generator: torch.Generator) -> None:
        self.k = torch.randn(length, KV_HEADS, SIZE, generator=generator)
        self.v = torch.randn(length, KV_HEADS, SIZE, generator=generator)
        self.q = torch.randn(length, HEADS, SIZE, generator=generator)
        self.blocks = blocks


@pytest.mark.parametrize("window", [None, 1, 2, 5, 16, 17, 18, 33, 1000])
def test_mixed_batch_equals_plain_attention(window: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = random.Random(1)
    cache = make_cache(200)
    free = list(range(200))
    draw.shuffle(free)
    singles, prompts = [], []
    for length in [1, 2, 16, 17, 40, 64, 65, 130, 130, 200]:
        sequence = Sequence(length, [free.pop() for _ in range(-(-length // BLOCK_SIZE))], generator)
        singles.append((length - 1, length, sequence))
    for start, end in [(0, 2), (0, 30), (7, 20), (16, 32), (100, 117), (60, 131)]:
        sequence = Sequence(end, [free.pop() for _ in range(-(-end // BLOCK_SIZE) + 1)], generator)
        prompts.append((start, end, sequence))
    singles.sort(key=lambda item: bucket(Span(item[0], item[1], [])))
    batch = singles + prompts
    for start, _, sequence in batch:  # what came before is in the cache already
        if start:
            before = PagedAttention(cache, [Span(0, start, sequence.blocks)], [None])
            before(0, sequence.q[:start], sequence.k[:start], sequence.v[:start])
    attend = PagedAttention(cache, [Span(start, end, s.blocks) for start, end, s in batch], [window])
    out = attend(0, *(torch.cat([getattr(s, name)[start:end] for start, end, s in batch]) for name in "qkv"))
    expected = torch.cat([reference(s.q[start:end], s.k, s.v, start, window) for start, end, s in batch])
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_each_layer_has_its_own_keys_and_its_own_window() -> None:
    generator = torch.Generator().manual_seed(0)
    cache = make_cache(4, layers=2)
    one, two = Sequence(20, [2, 0], generator), Sequence(20, [2, 0], generator)
    first = PagedAttention(cache, [Span(0, 19, [2, 0])], [None, 4])
    last = PagedAttention(cache, [Span(19, 20, [2, 0])], [None, 4])
    for layer, sequence, window in ((0, one, None), (1, two, 4)):
        first(layer, sequence.q[:19], sequence.k[:19], sequence.v[:19])
        out = last(layer, sequence.q[19:], sequence.k[19:], sequence.v[19:])
        expected = reference(sequence.q[19:], sequence.k, sequence.v, 19, window)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_neighbour_with_numbers_that_are_not_finite_spoils_no_other() -> None:
    generator = torch.Generator().manual_seed(0)
    cache = make_cache(8)
    sound, sick = Sequence(5, [0], generator), Sequence(20, [1, 2], generator)
    PagedAttention(cache, [Span(0, 4, [0])], [None])(0, sound.q[:4], sound.k[:4], sound.v[:4])
    PagedAttention(cache, [Span(0, 19, [1, 2])], [None])(0, sick.q[:19], sick.k[:19], sick.v[:19] * torch.nan)
    both = PagedAttention(cache, [Span(4, 5, [0]), Span(19, 20, [1, 2])], [None])
    out = both(0, *(torch.cat([getattr(sound, n)[4:], getattr(sick, n)[19:]]) for n in "qkv"))
    torch.testing.assert_close(
        out[:1], reference(sound.q[4:], sound.k, sound.v, 4, None), rtol=1e-5, atol=1e-5
    )
    assert out[1].isnan().all()


def test_row_is_computed_alike_whoever_its_neighbours_are() -> None:
    """Bit for bit: a sequence is padded by its own length, not by that of the longest in the batch."""
    generator = torch.Generator().manual_seed(0)
    cache = make_cache(40)
    sequences = [Sequence(n, [4 * i + j for j in range(4)], generator) for i, n in enumerate([9, 30, 64, 50])]
    for s in sequences:
        n = len(s.k) - 1
        PagedAttention(cache, [Span(0, n, s.blocks)], [None])(0, s.q[:n], s.k[:n], s.v[:n])
    spans = [Span(len(s.k) - 1, len(s.k), s.blocks) for s in sequences]
    together = PagedAttention(cache, spans, [None])(
        0, *(torch.stack([getattr(s, name)[-1] for s in sequences]) for name in "qkv")
    )
    for i, s in enumerate(sequences):
        alone = PagedAttention(cache, spans[i : i + 1], [None])(0, s.q[-1:], s.k[-1:], s.v[-1:])
        assert torch.equal(alone[0], together[i])
