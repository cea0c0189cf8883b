"""The parts of a decoder layer: norms, attention and MLP."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from byollm.kernels import apply_rotary, causal_attention, gelu, layer_norm, rms_norm, swiglu
from byollm.modeling.config import DecoderConfig
from byollm.modeling.quantized import Linear

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q (..., heads, head_dim), k (..., kv_heads, head_dim), v as k) -> (..., heads, head_dim)"""


class Norm(nn.Module):
    """Normalisation of the last axis, of the kind that the config names."""

    def __init__(self, config: DecoderConfig, *shape: int, bias: bool = False) -> None:
        super().__init__()
        self.kind, self.eps = config.norm, config.norm_eps
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (..., size), or (..., heads, size) where each head has its own weight."""
        if self.kind == "rms":
            return rms_norm(x, self.weight, self.eps)
        return layer_norm(x, self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Projections around attention; where keys and values are kept is the business of `attend`."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, self.window = layer, config.head_dim, config.window(layer)
        hidden, width, kv_width = (
            config.hidden_size,
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        )
        self.q_proj: Linear = nn.Linear(hidden, width, bias=config.qkv_bias)
        self.k_proj: Linear = nn.Linear(hidden, kv_width, bias=config.qkv_bias)
        self.v_proj: Linear = nn.Linear(hidden, kv_width, bias=config.qkv_bias)
        self.o_proj: Linear = nn.Linear(width, hidden, bias=config.output_bias)
        self.q_norm: Norm | None = None
        self.k_norm: Norm | None = None
        if config.qk_norm:
            per_head = config.norm == "layer"
            self.q_norm = Norm(config, *([config.heads] if per_head else []), config.head_dim)
            self.k_norm = Norm(config, *([config.kv_heads] if per_head else []), config.head_dim)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend | None) -> Tensor:
        """Attend from `x` (..., hidden) and return the same shape."""
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim))  # (..., heads, head_dim)
        k = self.k_proj(x).unflatten(-1, (-1, self.head_dim))  # (..., kv_heads, head_dim)
        v = self.v_proj(x).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = apply_rotary(q, *rotary), apply_rotary(k, *rotary)
        q, k = q.to(v.dtype), k.to(v.dtype)  # autocast may have widened them in the norm
        out = causal_attention(q, k, v, self.window) if attend is None else attend(self.layer, q, k, v)
        projected: Tensor = self.o_proj(out.flatten(-2))
        return projected


class MLP(nn.Module):
    """The feed-forward part: gated by SiLU, or plain with GELU."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj: Linear | None = nn.Linear(hidden, inner, bias=bias) if config.gated_mlp else None
        self.up_proj: Linear = nn.Linear(hidden, inner, bias=bias)
        self.down_proj: Linear = nn.Linear(inner, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (..., hidden) to the same shape."""
        up = self.up_proj(x)
        inner = gelu(up) if self.gate_proj is None else swiglu(self.gate_proj(x), up)
        out: Tensor = self.down_proj(inner)
        return out


class DecoderLayer(nn.Module):
    """Attention and MLP around a residual stream, one after the other or side by side."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(config, config.hidden_size, bias=config.norm_bias)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = (
            None if config.parallel_residual else Norm(config, config.hidden_size, bias=config.norm_bias)
        )
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend | None) -> Tensor:
        """Add this layer's contribution to the stream `x` (..., hidden)."""
        normed = self.input_layernorm(x)
        attended = self.self_attn(normed, rotary, attend)
        if self.post_attention_layernorm is None:
            both: Tensor = x + attended + self.mlp(normed)
            return both
        x = x + attended
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out
