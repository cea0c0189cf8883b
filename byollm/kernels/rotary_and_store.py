"""What stands between the projections and attention: queries and keys made ready, keys and values kept."""

from typing import Literal

from torch import Tensor

from byollm.kernels.layer_norm import layer_norm
from byollm.kernels.rms_norm import rms_norm
from byollm.kernels.rotary import apply_rotary


def rotary_and_store(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    positions: Tensor,
    slots: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 0.0,
    norm: Literal["rms", "layer"] = "rms",
) -> Tensor:
    """Normalise and rotate queries and keys, write keys and values to the cache, and return the queries.

    Args:
        q: (tokens, heads, head_dim); changed in place.
        k: (tokens, kv_heads, head_dim).
        v: as `k`.
        cos: (max_positions, pairs) cosines of every position's angles; None where positions are learned.
        sin: their sines.
        positions: (tokens,) of each token in its sequence.
        slots: (tokens,) int64, where each goes in the cache: block * block size + offset; below 0: nowhere.
        key_cache: (blocks, kv_heads, block size, head_dim), contiguous.
        value_cache: as `key_cache`.
        q_norm: (head_dim,) weights, or (heads, head_dim); None: queries and keys are not normalised.
        k_norm: (head_dim,) weights, or (kv_heads, head_dim).
        eps: of the norm.
        norm: its kind.
    """
    turned, keys = q, k
    if q_norm is not None and k_norm is not None:
        if norm == "rms":
            turned, keys = rms_norm(q, q_norm, eps), rms_norm(k, k_norm, eps)
        else:
            turned, keys = layer_norm(q, q_norm, None, eps), layer_norm(k, k_norm, None, eps)
    if cos is not None and sin is not None:
        cos, sin = cos[positions], sin[positions]
        turned, keys = apply_rotary(turned, cos, sin), apply_rotary(keys, cos, sin)
    kept = slots >= 0
    block, offset = slots[kept] // key_cache.shape[2], slots[kept] % key_cache.shape[2]
    key_cache[block, :, offset] = keys[kept].to(key_cache.dtype)
    value_cache[block, :, offset] = v[kept].to(value_cache.dtype)
    return q.copy_(turned)
