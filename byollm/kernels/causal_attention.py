"""Causal self-attention over whole sequences: the path that training takes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Attend from each position to itself and what came before it: softmax(q k^T / sqrt(head_dim)) v.

    Args:
        q: (..., time, heads, head_dim)
        k: (..., time, kv_heads, head_dim), where kv_heads divides heads
        v: as `k`
        window: a position sees only the last `window` positions, itself included; None: all

    Returns:
        (..., time, heads, head_dim)
    """
    time = q.shape[-3]
    shared = q.shape[-2] != k.shape[-2]
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))  # (..., heads, time, head_dim)
    if window is None or window >= time:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
    else:
        at = torch.arange(time, device=q.device)
        distance = at[:, None] - at[None, :]
        seen = (distance >= 0) & (distance < window)  # (time, time)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=shared)
    return out.transpose(-3, -2)
