"""Runs the chunks of one step through the C++ kernels, the fast path on a CPU."""

import ctypes
import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import NamedTuple, cast

import torch
from torch import Tensor

from byollm.engine.kv_cache import BLOCK_SIZE, zeros
from byollm.engine.pieces import Piece
from byollm.engine.scheduler import Chunk
from byollm.kernels.cpu import Batch, KernelError, Precision, Shape
from byollm.kernels.cpu.library import PARTS, check
from byollm.modeling import Decoder, DecoderConfig
from byollm.modeling.layers import DecoderLayer, Norm

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
        decoder: the model on the CPU; its embeddings are read where they are, its other weights are packed,
            and may go.
        num_blocks: size of the cache.
        precision: of the packed weights.
        threads: how many compute together.
    """

    def __init__(
        self, library: ctypes.CDLL, decoder: Decoder, num_blocks: int, precision: Precision, threads: int
    ) -> None:
        self.config = decoder.config
        self.dtype = decoder.embed_tokens.weight.dtype
        self.device = torch.device("cpu")
        self._library = library
        half = self.dtype == torch.bfloat16
        self.cache = self.new_cache(num_blocks)
        self._shape = _shape(decoder, half)
        self._model = library.byollm_new(ctypes.byref(self._shape), threads)
        if not self._model:
            raise KernelError(f"the CPU kernels could not start: {library.byollm_failure().decode()}")
        self._scores = torch.empty(0, self._shape.vocab)
        self._pack(decoder, precision)

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.byollm_free(self._model)

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks into the cache; return float32 logits (rows of all chunks, vocab), in order.

        They may be overwritten by the next run: steps mostly have as many rows as those before them.
        """
        pieces: list[Piece] = []
        rows: list[int] = []
        end = 0
        for chunk in chunks:
            pieces.append(Piece(chunk.tokens, chunk.start, chunk.request.blocks))
            end += chunk.end - chunk.start
            rows += range(end - chunk.rows, end)
        if len(rows) != self._scores.shape[0]:
            self._scores = torch.empty(len(rows), self._shape.vocab)
        self._forward(pieces, self.cache, output_rows=rows, scores=self._scores)
        return self._scores

    def new_cache(self, num_blocks: int) -> NativeCache:
        """Return a cache beside the runner's own, for texts that are only read."""
        half = torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float32
        return NativeCache(self.config, num_blocks, half)

    def read_hidden(self, pieces: Sequence[Piece], cache: NativeCache) -> Tensor:
        """Compute texts into a cache; return float32 final hidden states, (tokens of all pieces, hidden)."""
        hidden = torch.empty(sum(len(piece.tokens) for piece in pieces), self._shape.hidden)
        self._forward(pieces, cache, hidden=hidden)
        return hidden

    def read_logits(self, pieces: Sequence[Piece], cache: NativeCache) -> Tensor:
        """Compute texts into a cache; return float32 logits, (tokens of all pieces, vocab)."""
        scores = torch.empty(sum(len(piece.tokens) for piece in pieces), self._shape.vocab)
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
        parts: tuple[list[int], ...] = [], [], [0], [], [], [*output_rows]
        ids, positions, first_rows, tables, first_ids, _ = parts
        for tokens, start, blocks, _ in pieces:
            positions += range(start, start + len(tokens))
            ids += tokens
            first_rows.append(len(ids))
            first_ids.append(len(tables))
            tables += blocks
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
        )
        check(self._library, self._library.byollm_forward(self._model, ctypes.byref(batch)))

    def profile(self) -> dict[str, float]:
        """Return the seconds spent so far in each part of all steps."""
        seconds = (ctypes.c_double * len(PARTS))()
        self._library.byollm_profile(self._model, ctypes.byref(seconds))
        return dict(zip(PARTS, seconds, strict=True))

    def _pack(self, decoder: Decoder, precision: Precision) -> None:
        config = decoder.config
        for number, layer in enumerate(cast(Iterable[DecoderLayer], decoder.layers)):
            attention, mlp = layer.self_attn, layer.mlp
            self._linear(number, "qkv", precision, attention.q_proj, attention.k_proj, attention.v_proj)
            self._linear(number, "o", precision, attention.o_proj)
            gate = () if mlp.gate_proj is None else (mlp.gate_proj,)
            self._linear(number, "up", precision, *gate, mlp.up_proj)
            self._linear(number, "down", precision, mlp.down_proj)
            self._norm(number, "before", layer.input_layernorm)
            if layer.post_attention_layernorm is not None:
                self._norm(number, "after", layer.post_attention_layernorm)
            if attention.q_norm is not None and attention.k_norm is not None:
                self._vector(number, "q_norm", attention.q_norm.weight)
                self._vector(number, "k_norm", attention.k_norm.weight)
            window = config.window(number) or 0
            check(self._library, self._library.byollm_window(self._model, number, window))
        self._norm(0, "last", decoder.norm)
        if decoder.rotary is not None:
            self._vector(0, "cos", decoder.rotary.cos)
            self._vector(0, "sin", decoder.rotary.sin)
        self._matrix(0, "head", precision, decoder.head_weight, None)
        tokens = decoder.embed_tokens.weight
        positions = None if decoder.embed_positions is None else decoder.embed_positions.weight
        self._embeddings = tokens, positions  # read where they are, so they have to stay
        self._library.byollm_tables(
            self._model,
            tokens.data_ptr(),
            None if positions is None else positions.data_ptr(),
            int(tokens.dtype == torch.bfloat16),
        )

    def _linear(self, layer: int, name: str, precision: Precision, *linears: torch.nn.Linear) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self._matrix(layer, name, precision, weight, torch.cat(biases) if biases else None)

    def _matrix(
        self, layer: int, name: str, precision: Precision, weight: Tensor, bias: Tensor | None
    ) -> None:
        weight = weight.detach().float().contiguous()
        bias = None if bias is None else bias.float().contiguous()
        status = self._library.byollm_linear(
            self._model,
            layer,
            name.encode(),
            weight.data_ptr(),
            *weight.shape,
            None if bias is None else bias.data_ptr(),
            precision,
        )
        check(self._library, status)

    def _norm(self, layer: int, name: str, norm: Norm) -> None:
        self._vector(layer, name, norm.weight)
        if norm.bias is not None:
            self._vector(layer, f"{name}_bias", norm.bias)

    def _vector(self, layer: int, name: str, values: Tensor) -> None:
        values = values.detach().float().contiguous()
        status = self._library.byollm_vector(
            self._model, layer, name.encode(), values.data_ptr(), values.numel()
        )
        check(self._library, status)


def _shape(decoder: Decoder, half: bool) -> Shape:
    config = decoder.config
    return Shape(
        vocab=config.vocab_size,
        hidden=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        inner=config.intermediate_size,
        rotary_pairs=config.rotary_dim // 2,
        layer_norm=config.norm == "layer",
        gated=config.gated_mlp,
        parallel=config.parallel_residual,
        half_cache=half,
        eps=config.norm_eps,
    )
