"""Runs the decoder on the chunks of one step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from byollm.engine.attention import PagedAttention, Span, bucket
from byollm.engine.kv_cache import KVCache
from byollm.engine.lora import SlottedAdapters
from byollm.engine.pieces import Piece
from byollm.engine.scheduler import Chunk
from byollm.modeling import Adapter, Decoder


class ModelRunner:
    """One forward pass a step, over a flat batch of tokens of many sequences.

    Args:
        decoder: the model, on its device.
        cache: keys and values of all sequences.
    """

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self.config = decoder.config
        self.dtype = decoder.dtype
        self.device = decoder.device
        self.cache = cache
        self._decoder = decoder.eval()
        self._adapters = SlottedAdapters(decoder)
        self._windows = [decoder.config.window(layer) for layer in range(decoder.config.layers)]

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks into the cache and return float32 logits (rows of all chunks, vocab), in order.

        Running a chunk again gives the same entries in the same places, so a step that failed may be
        repeated.
        """
        pieces = [Piece(chunk.tokens, chunk.start, chunk.request.blocks, chunk.slot) for chunk in chunks]
        hidden, ends = self._forward(pieces, self.cache)
        rows = [row for end, chunk in zip(ends, chunks, strict=True) for row in range(end - chunk.rows, end)]
        return self._logits(hidden, rows)

    def set_adapter(self, slot: int, adapter: Adapter | None) -> None:
        """Put an adapter into a slot, in the place of what stands there; None empties it."""
        self._adapters.put(slot, adapter)

    def new_cache(self, num_blocks: int) -> KVCache:
        """Return a cache beside the runner's own, for texts that are only read."""
        return KVCache(self.config, num_blocks, self.dtype, self.device)

    @torch.inference_mode()
    def read_hidden(self, pieces: Sequence[Piece], cache: KVCache) -> Tensor:
        """Compute texts into a cache; return float32 final hidden states, (tokens of all pieces, hidden)."""
        hidden, ends = self._forward(pieces, cache)
        return hidden[self._index(_rows(pieces, ends))].float()

    @torch.inference_mode()
    def read_logits(self, pieces: Sequence[Piece], cache: KVCache) -> Tensor:
        """Compute texts into a cache; return float32 logits, (tokens of all pieces, vocab)."""
        hidden, ends = self._forward(pieces, cache)
        return self._logits(hidden, _rows(pieces, ends))

    def _forward(self, pieces: Sequence[Piece], cache: KVCache) -> tuple[Tensor, list[int]]:
        """Return hidden states (tokens, hidden), and for each piece the row after its last."""
        spans = [Span(piece.start, piece.end, piece.blocks) for piece in pieces]
        # Single rows first, by bucket, as PagedAttention wants them; longer spans after.
        order = sorted(
            range(len(pieces)), key=lambda i: (spans[i].end - spans[i].start > 1, bucket(spans[i]))
        )
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        ends = [0] * len(pieces)
        for i in order:
            tokens += pieces[i].tokens
            positions += range(pieces[i].start, pieces[i].end)
            slots += [pieces[i].slot] * len(pieces[i].tokens)
            ends[i] = len(tokens)
        attend = PagedAttention(cache, [spans[i] for i in order], self._windows)
        flat = torch.tensor([tokens, positions], device=self.device)  # (2, tokens)
        with self._adapters.chosen(slots):
            return self._decoder(flat[0], flat[1], attend), ends

    def _logits(self, hidden: Tensor, rows: list[int]) -> Tensor:
        return self._decoder.logits(hidden[self._index(rows)]).float()

    def _index(self, rows: list[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def _rows(pieces: Sequence[Piece], ends: Sequence[int]) -> list[int]:
    """The rows of all pieces, in their order."""
    return [
        row for piece, end in zip(pieces, ends, strict=True) for row in range(end - len(piece.tokens), end)
    ]
