"""Runs the chunks of one step through the C++ kernels, the fast path on a CPU."""

import ctypes
import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import torch
from torch import Tensor

from byollm.engine.kv_cache import BLOCK_SIZE, zeros
from byollm.engine.native_model import NativeModel
from byollm.engine.pieces import Piece
from byollm.engine.scheduler import Chunk
from byollm.kernels.cpu import Batch, Precision
from byollm.modeling import Adapter, Decoder, DecoderConfig

PADDING = 16  # channels to which a value's row is filled up


class LayerPages(NamedTuple):
    """Keys and values of one layer."""

    keys: Tensor  # (blocks, kv_heads, head_dim, 16)
    values: Tensor  # (blocks, kv_heads, 16, head_dim padded)


class NativeCache:
    """The paged cache as the kernels want it.

    The tokens of a block lie side by side in its keys, so that one load brings sixteen of them to meet one
    channel of a query.
    """

    def __init__(self, config: DecoderConfig, num_blocks: int, dtype: torch.dtype) -> None:
        padded = -(-config.head_dim // PADDING) * PADDING
        keys = (num_blocks, config.kv_heads, config.head_dim, BLOCK_SIZE)
        values = (num_blocks, config.kv_heads, BLOCK_SIZE, padded)
        # Zeros, not empty: unwritten slots are multiplied by zero, which only finite numbers survive.
        self.layers = [LayerPages(zeros(keys, dtype), zeros(values, dtype)) for _ in range(config.layers)]
        self.device = torch.device("cpu")
        # As the kernels are given them: addresses of addresses.
        pointers = ctypes.c_void_p * config.layers
        self.key_pages = pointers(*(layer.keys.data_ptr() for layer in self.layers))
        self.value_pages = pointers(*(layer.values.data_ptr() for layer in self.layers))

    def clear(self, blocks: list[int], start: int = 0) -> None:
        """Zero some blocks, the first from token `start` on, so that non-finite numbers reach nobody."""
        for keys, values in self.layers:
            keys[blocks[:1], :, :, start:] = 0
            values[blocks[:1], :, start:] = 0
            keys[blocks[1:]] = 0
            values[blocks[1:]] = 0


class NativeRunner:
    """One forward pass a step, like `ModelRunner`, in the library that `load_library` gave.

    Args:
        library: the compiled kernels.
        decoder: the model on the CPU; its embeddings are read where they are, its other weights may go.
        num_blocks: size of the cache.
        precision: in which weights are kept that are not packed.
        threads: how many compute together.
        round_adapters: whether adapters are kept in bfloat16 even where that loses bits of them.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        decoder: Decoder,
        num_blocks: int,
        precision: Precision,
        threads: int,
        round_adapters: bool = False,
    ) -> None:
        self.config = decoder.config
        self.dtype = decoder.dtype
        self.device = torch.device("cpu")
        self.cache = self.new_cache(num_blocks)
        self._model = NativeModel(library, decoder, precision, threads, round_adapters)
        self._scores = torch.empty(0, self.config.vocab_size)

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks into the cache; return float32 logits (rows of all chunks, vocab), in order.

        They may be overwritten by the next run: steps mostly have as many rows as those before them.
        """
        # Rows with one adapter side by side: they are multiplied with it together.
        order = sorted(range(len(chunks)), key=lambda i: chunks[i].slot)
        pieces: list[Piece] = []
        ends = [0] * len(chunks)
        end = 0
        for i in order:
            chunk = chunks[i]
            pieces.append(Piece(chunk.tokens, chunk.start, chunk.request.blocks, chunk.slot))
            ends[i] = end = end + chunk.end - chunk.start
        rows = [row for chunk, end in zip(chunks, ends, strict=True) for row in range(end - chunk.rows, end)]
        if len(rows) != self._scores.shape[0]:
            self._scores = torch.empty(len(rows), self.config.vocab_size)
        self._forward(pieces, self.cache, output_rows=rows, scores=self._scores)
        return self._scores

    def set_adapter(self, slot: int, adapter: Adapter | None) -> None:
        """Put an adapter into a slot, in the place of what stands there; None empties it."""
        self._model.set_adapter(slot, adapter)

    def new_cache(self, num_blocks: int) -> NativeCache:
        """Return a cache beside the runner's own, for texts that are only read."""
        half = torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float32
        return NativeCache(self.config, num_blocks, half)

    def read_hidden(self, pieces: Sequence[Piece], cache: NativeCache) -> Tensor:
        """Compute texts into a cache; return float32 final hidden states, (tokens of all pieces, hidden)."""
        hidden = torch.empty(sum(len(piece.tokens) for piece in pieces), self.config.hidden_size)
        self._forward(pieces, cache, hidden=hidden)
        return hidden

    def read_logits(self, pieces: Sequence[Piece], cache: NativeCache) -> Tensor:
        """Compute texts into a cache; return float32 logits, (tokens of all pieces, vocab)."""
        scores = torch.empty(sum(len(piece.tokens) for piece in pieces), self.config.vocab_size)
        self._forward(pieces, cache, output_rows=range(len(scores)), scores=scores)
        return scores

    def _forward(
        self,
        pieces: Sequence[Piece],
        cache: NativeCache,
        output_rows: Sequence[int] = (),
        scores: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> None:
        parts: tuple[list[int], ...] = [], [], [0], [], [], [*output_rows], []
        ids, positions, first_rows, tables, first_ids, _, slots = parts
        for tokens, start, blocks, slot in pieces:
            positions += range(start, start + len(tokens))
            ids += tokens
            first_rows.append(len(ids))
            first_ids.append(len(tables))
            tables += blocks
            slots.append(slot)
        *starts, size = accumulate(map(len, parts), initial=0)
        numbers = array("i", struct.pack(f"{size}i", *chain.from_iterable(parts)))
        at = [numbers.buffer_info()[0] + numbers.itemsize * start for start in starts]
        batch = Batch(
            tokens=len(ids),
            ids=at[0],
            positions=at[1],
            spans=len(pieces),
            first_rows=at[2],
            tables=at[3],
            first_ids=at[4],
            keys=ctypes.addressof(cache.key_pages),
            values=ctypes.addressof(cache.value_pages),
            outputs=len(output_rows),
            output_rows=at[5],
            scores=None if scores is None else scores.data_ptr(),
            hidden=None if hidden is None else hidden.data_ptr(),
            slots=at[6],
        )
        self._model.forward(batch)

    def profile(self) -> dict[str, float]:
        """Return the seconds spent so far in each part of all steps."""
        return self._model.profile()
