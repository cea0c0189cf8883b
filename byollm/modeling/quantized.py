"""Modules that keep their weights packed and undo the packing when they compute."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from byollm.kernels.dequantise import dequantise
from byollm.kernels.packed import PackedWeight, Scheme
from byollm.kernels.packed_linear import packed_linear


class _Packed(nn.Module):
    """A packed weight (out, in). Built empty; `load` or a checkpoint fills it."""

    codes: Tensor
    scales: Tensor

    def __init__(self, shape: tuple[int, int], scheme: Scheme) -> None:
        super().__init__()
        self.shape, self.scheme = shape, scheme
        self.register_buffer("codes", torch.empty(scheme.code_shape(shape), dtype=scheme.code_dtype))
        self.register_buffer("scales", torch.empty(scheme.scale_shape(shape), dtype=scheme.scale_dtype))

    @property
    def packed(self) -> PackedWeight:
        """The weight as it is kept."""
        return PackedWeight(self.codes, self.scales, self.scheme, self.shape)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """Return the weight (out, in) as numbers."""
        return dequantise(self.packed, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the model, but never change type: other scales would be other weights."""
        before = self.codes, self.scales
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, kept in zip(("codes", "scales"), before, strict=True):
            if getattr(self, name).dtype != kept.dtype:
                setattr(self, name, kept.to(getattr(self, name).device))
        return self

    def extra_repr(self) -> str:
        return f"{self.shape}, {self.scheme}"


class QuantizedLinear(_Packed):
    """A linear layer with a packed weight; its products are in the type of what comes in."""

    def __init__(self, in_features: int, out_features: int, scheme: Scheme, *, bias: bool = False) -> None:
        super().__init__((out_features, in_features), scheme)
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None

    @classmethod
    def of(cls, packed: PackedWeight, bias: Tensor | None = None) -> Self:
        """Return the layer of a packed weight."""
        with torch.device("meta"):
            made = cls(packed.shape[1], packed.shape[0], packed.scheme)
        made.codes, made.scales = packed.codes, packed.scales
        made.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (..., in) to (..., out)."""
        return packed_linear(x, self.packed, self.bias)


class QuantizedEmbedding(_Packed):
    """An embedding whose rows are packed by an integer scheme; tied, it is the output head as well."""

    def __init__(self, num_embeddings: int, embedding_dim: int, scheme: Scheme) -> None:
        super().__init__((num_embeddings, embedding_dim), scheme)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim

    @classmethod
    def of(cls, packed: PackedWeight) -> Self:
        """Return the embedding of a packed table."""
        with torch.device("meta"):
            made = cls(*packed.shape, packed.scheme)
        made.codes, made.scales = packed.codes, packed.scales
        return made

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the rows of `tokens` (...) as float32 (..., embedding_dim)."""
        at = tokens.flatten()
        rows = PackedWeight(self.codes[at], self.scales[at], self.scheme, (at.numel(), self.embedding_dim))
        return dequantise(rows, torch.float32).view(*tokens.shape, self.embedding_dim)


Linear = nn.Linear | QuantizedLinear
Embedding = nn.Embedding | QuantizedEmbedding
