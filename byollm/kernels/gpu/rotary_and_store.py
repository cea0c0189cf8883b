"""Norm of queries and keys, rotary embedding and the write to the paged cache, in one launch.

    x' = norm(x) * weight                      for each head of q and k, where the model normalises them
    first  = x'[:pairs] * cos - x'[pairs:2 * pairs] * sin
    second = x'[pairs:2 * pairs] * cos + x'[:pairs] * sin           the other channels pass unchanged

Source: Su et al., 2021. Defined by `byollm.kernels.rotary_and_store`.

Memory bounds it, and in decoding the launch: a token's q is read and written, its k and v are read and
written to the cache, (2 * heads + 4 * kv_heads) * head_dim * itemsize bytes; done apart, norm, rotation and
cache write would take six launches and thrice the bytes. A program takes some heads of q, or of k and v, of
one token. Each channel is read by the program that rewrites it, whole heads at a time, so q can be in place.
"""

from typing import Literal

import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.tuning import Configuration, configuration


@triton.jit(do_not_specialize_on_alignment=["positions_ptr", "slots_ptr"])
def _rotary_and_store_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    cos_ptr,
    sin_ptr,
    positions_ptr,
    slots_ptr,
    keys_ptr,
    values_ptr,
    q_weight_ptr,
    k_weight_ptr,
    q_token,
    q_head,
    k_token,
    k_head,
    v_token,
    v_head,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    PAIRS: tl.constexpr,
    PAGE: tl.constexpr,
    NORM: tl.constexpr,
    WEIGHT_HEAD: tl.constexpr,
    PAIR_BLOCK: tl.constexpr,
    REST_BLOCK: tl.constexpr,
    SIZE_BLOCK: tl.constexpr,
    TOGETHER: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    query_parts = (HEADS + TOGETHER - 1) // TOGETHER
    head = part * TOGETHER + tl.arange(0, TOGETHER)[:, None]  # (TOGETHER, 1)
    slot = tl.load(slots_ptr + token)
    if part < query_parts:
        there = head < HEADS
        source = q_ptr + token * q_token + head * q_head
        target = source
        weight = q_weight_ptr + head * WEIGHT_HEAD
    else:
        head -= query_parts * TOGETHER
        there = (head < KV_HEADS) & (slot >= 0)
        source = k_ptr + token * k_token + head * k_head
        row = ((slot // PAGE) * KV_HEADS + head) * PAGE + slot % PAGE  # of the cache, seen as (rows, SIZE)
        target = keys_ptr + row * SIZE
        weight = k_weight_ptr + head * WEIGHT_HEAD
        channel = tl.arange(0, SIZE_BLOCK)[None, :]
        mask = there & (channel < SIZE)
        value = tl.load(v_ptr + token * v_token + head * v_head + channel, mask, other=0.0)
        tl.store(values_ptr + row * SIZE + channel, value.to(tl.float32), mask)
    pair = tl.arange(0, PAIR_BLOCK)[None, :]
    rest = 2 * PAIRS + tl.arange(0, REST_BLOCK)[None, :]
    paired, beside = there & (pair < PAIRS), there & (rest < SIZE)
    x = tl.load(source + pair, paired, other=0.0).to(tl.float32)
    y = tl.load(source + PAIRS + pair, paired, other=0.0).to(tl.float32)
    z = tl.load(source + rest, beside, other=0.0).to(tl.float32)
    if NORM == "layer":
        mean = (tl.sum(x, 1) + tl.sum(y, 1) + tl.sum(z, 1))[:, None] / SIZE
        x, y = tl.where(paired, x - mean, 0.0), tl.where(paired, y - mean, 0.0)
        z = tl.where(beside, z - mean, 0.0)
    if NORM != "none":
        scale = tl.rsqrt((tl.sum(x * x, 1) + tl.sum(y * y, 1) + tl.sum(z * z, 1))[:, None] / SIZE + eps)
        x *= scale * tl.load(weight + pair, paired, other=0.0).to(tl.float32)
        y *= scale * tl.load(weight + PAIRS + pair, paired, other=0.0).to(tl.float32)
        z *= scale * tl.load(weight + rest, beside, other=0.0).to(tl.float32)
    angle = tl.load(positions_ptr + token).to(tl.int64) * PAIRS + pair
    cos = tl.load(cos_ptr + angle, pair < PAIRS, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + angle, pair < PAIRS, other=0.0).to(tl.float32)
    tl.store(target + pair, x * cos - y * sin, paired)
    tl.store(target + PAIRS + pair, y * cos + x * sin, paired)
    tl.store(target + rest, z, beside)


def default_rotary(tokens: int, heads: int, size: int) -> Configuration:
    """Four heads a program while few tokens leave the GPU idle, then as many as make some 1024 numbers."""
    size = triton.next_power_of_2(size)
    most = max(1, 1024 // size)
    together = min(4 if tokens * heads < 4096 else 16, most, triton.next_power_of_2(heads))
    return {"TOGETHER": together, "num_warps": min(max(together * size // 256, 1), 4)}


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

    The arguments are those of `byollm.kernels.rotary_and_store`; q, k and v may be views of one tensor, where
    the channels of a head lie side by side, and are of the caches' type.
    """
    tokens, heads, size = q.shape
    kv_heads = k.shape[1]
    pairs = 0 if cos is None else cos.shape[1]
    config = configuration("rotary_and_store", default_rotary, tokens, heads, size)
    parts = triton.cdiv(heads, config["TOGETHER"]) + triton.cdiv(kv_heads, config["TOGETHER"])
    _rotary_and_store_kernel[(tokens, parts)](
        q,
        k,
        v,
        q if cos is None else cos,
        q if sin is None else sin,
        positions,
        slots,
        key_cache,
        value_cache,
        q if q_norm is None else q_norm,
        q if k_norm is None else k_norm,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        eps,
        HEADS=heads,
        KV_HEADS=kv_heads,
        SIZE=size,
        PAIRS=pairs,
        PAGE=key_cache.shape[2],
        NORM="none" if q_norm is None else norm,
        WEIGHT_HEAD=0 if q_norm is None or q_norm.dim() == 1 else size,
        PAIR_BLOCK=triton.next_power_of_2(max(pairs, 1)),
        REST_BLOCK=triton.next_power_of_2(max(size - 2 * pairs, 1)),
        SIZE_BLOCK=triton.next_power_of_2(size),
        **config,
    )
    return q
