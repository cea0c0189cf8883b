"""Runs the decoder on the chunks of one step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from byollm.engine.attention import PagedAttention, Span, bucket
from byollm.engine.kv_cache import KVCache
from byollm.engine.scheduler import Chunk
from byollm.modeling import Decoder


class ModelRunner:
    """One forward pass a step, over a flat batch of tokens of many sequences.

    Args:
        decoder: the model, on its device.
        cache: keys and values of all sequences.
    """

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self.decoder = decoder.eval()
        self.cache = cache
        self._windows = [decoder.config.window(layer) for layer in range(decoder.config.layers)]

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks into the cache and return float32 logits (rows of all chunks, vocab), in order.

        Running a chunk again gives the same entries in the same places, so a step that failed may be
        repeated.
        """
        device = self.cache.device
        spans = [Span(chunk.start, chunk.end, chunk.request.blocks) for chunk in chunks]
        # Single rows first, by bucket, as PagedAttention wants them; longer spans after.
        order = sorted(
            range(len(chunks)), key=lambda i: (spans[i].end - spans[i].start > 1, bucket(spans[i]))
        )
        tokens: list[int] = []
        positions: list[int] = []
        ends = [0] * len(chunks)
        for i in order:
            start, end = chunks[i].start, chunks[i].end
            tokens += chunks[i].tokens
            positions += range(start, end)
            ends[i] = len(tokens)
        attend = PagedAttention(self.cache, [spans[i] for i in order], self._windows)
        flat = torch.tensor([tokens, positions], device=device)  # (2, tokens)
        hidden = self.decoder(flat[0], flat[1], attend)  # (tokens, hidden)
        rows = [row for end, chunk in zip(ends, chunks, strict=True) for row in range(end - chunk.rows, end)]
        return self.decoder.logits(hidden[torch.tensor(rows, dtype=torch.long, device=device)]).float()
