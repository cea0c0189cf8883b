"""The next token of each row of logits, by the sampler's rules, without sorting the vocabulary.

    weight_i = exp((logit_i - max) / temperature)
    greedy:   the first token with the highest logit
    whole:    a block of tokens by its weight, then a token of it by its own    (two numbers)
    filtered: of the tokens in order of weight, then id, the first few are kept:
              top_k of them, those before which less than top_p of the weight (of what top_k left) lies, those
              with min_p of the highest weight; one of them is drawn by its weight    (one number)

Defined by `byollm/engine/sampler.py`. The numbers belong to (seed, position), as `byollm/engine/uniform.py`
says. As there, what is asked for is compared in its own type, and computed with in float32.

What is kept is a prefix of the order, and a prefix is known by its weight. So nothing is sorted: a search
over the bit patterns of the weights, five bits at a time, finds the token at which a count or a sum is
reached (the pattern of a positive float grows with it). Sums are of integers, weights in units of 2^-44: they
come out the same in any order, and tokens that weigh less are never drawn. Before the search the tokens that
can matter are gathered: all above one of a few fixed levels, the highest that is sure to hold what is kept.

Memory bounds it: the logits are read twice, thrice where tokens are filtered, and after the first time
mostly from the cache; an A10G reads a row of 50304 in 0.3 us. The rest of a row is a few hundred tokens in
one program. Four launches, whose shapes depend on (rows, vocab) alone, and nothing waits for the host.
Scratch: 8 bytes a logit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.tuning import Configuration, configuration

LEVELS: tl.constexpr = tl.constexpr(8)  # level j: weights of 4^-(j + 1) or more; the last: all
GOLDEN: tl.constexpr = tl.constexpr(0x9E3779B97F4A7C15)
TILE: tl.constexpr = tl.constexpr(256)  # gathered tokens looked at together
UNITS: tl.constexpr = tl.constexpr(17592186044416)  # of weight in that of the best token: 2^44


@triton.jit
def _mix(word):
    """SplitMix64's finaliser."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB
    return word ^ (word >> 31)


@triton.jit
def _peak_kernel(
    logits_ptr, peaks_ptr, firsts_ptr, logits_row, vocab, CHUNKS: tl.constexpr, CHUNK: tl.constexpr
):
    """Find the highest logit of each chunk, infinity where one is no number, and the first that has it."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    token = chunk * CHUNK + tl.arange(0, CHUNK)
    x = tl.load(logits_ptr + row * logits_row + token, token < vocab, other=float("-inf")).to(tl.float32)
    x = tl.where(x == x, x, float("inf"))
    peak = tl.max(x, 0)
    tl.store(peaks_ptr + row * CHUNKS + chunk, peak)
    tl.store(firsts_ptr + row * CHUNKS + chunk, tl.min(tl.where(x == peak, token, vocab), 0))


@triton.jit(do_not_specialize_on_alignment=["temperature_ptr", "top_k_ptr", "top_p_ptr", "min_p_ptr"])
def _weigh_kernel(
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    peaks_ptr,
    sums_ptr,  # (rows, CHUNKS * CHUNK / SIZE) of the blocks, for rows that are drawn from the whole
    counts_ptr,  # (rows, CHUNKS, LEVELS) of the tokens at each level, for rows that are filtered
    masses_ptr,  # (rows, CHUNKS, LEVELS) their weight
    logits_row,
    vocab,
    SIZE: tl.constexpr,
    CHUNKS: tl.constexpr,
    CHUNK_BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature = tl.load(temperature_ptr + row)
    top_p, min_p = tl.load(top_p_ptr + row), tl.load(min_p_ptr + row)
    if temperature > 0:
        each = tl.arange(0, CHUNK_BLOCK)
        best = tl.max(tl.load(peaks_ptr + row * CHUNKS + each, each < CHUNKS, other=float("-inf")), 0)
        token = chunk * CHUNK + tl.arange(0, CHUNK)
        x = tl.load(logits_ptr + row * logits_row + token, token < vocab, other=float("-inf")).to(tl.float32)
        bits = tl.exp((x - best) / tl.maximum(temperature, 1e-6).to(tl.float32)).to(tl.int32, bitcast=True)
        mass = (bits.to(tl.float32, bitcast=True) * UNITS).to(tl.int64)
        if (tl.load(top_k_ptr + row) > 0) | (top_p < 1) | (min_p > 0):
            place = (row * CHUNKS + chunk) * LEVELS
            bits = tl.where(token < vocab, bits, -1)
            for level in tl.static_range(LEVELS):
                within = bits >= (0 if level == LEVELS - 1 else (125 - 2 * level) << 23)
                tl.store(counts_ptr + place + level, tl.sum(within.to(tl.int32), 0))
                tl.store(masses_ptr + place + level, tl.sum(tl.where(within, mass, 0), 0))
        else:
            block = chunk * (CHUNK // SIZE) + tl.arange(0, CHUNK // SIZE)
            sums = tl.sum(tl.reshape(mass, (CHUNK // SIZE, SIZE)), 1)
            tl.store(sums_ptr + row * (CHUNKS * (CHUNK // SIZE)) + block, sums)


@triton.jit(do_not_specialize_on_alignment=["temperature_ptr", "top_k_ptr", "top_p_ptr", "min_p_ptr"])
def _gather_kernel(
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    peaks_ptr,
    counts_ptr,
    masses_ptr,
    bits_ptr,  # (rows, vocab) patterns of the weights of the gathered tokens, in order of their ids
    ids_ptr,  # (rows, vocab)
    found_ptr,  # (rows, 2): how many were gathered, and the weight of all tokens
    logits_row,
    vocab,
    CHUNKS: tl.constexpr,
    CHUNK_BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature = tl.load(temperature_ptr + row)
    top_k = tl.load(top_k_ptr + row).to(tl.int64)
    top_p, min_p = tl.load(top_p_ptr + row), tl.load(min_p_ptr + row)
    if (temperature > 0) & ((top_k > 0) | (top_p < 1) | (min_p > 0)):
        each, level = tl.arange(0, CHUNK_BLOCK), tl.arange(0, LEVELS)
        place = (row * CHUNKS + each[:, None]) * LEVELS + level[None, :]
        counts = tl.load(counts_ptr + place, each[:, None] < CHUNKS, other=0)
        masses = tl.sum(tl.load(masses_ptr + place, each[:, None] < CHUNKS, other=0), 0)
        number = tl.sum(counts, 0)
        total = tl.max(masses, 0)
        least = tl.where(level == LEVELS - 1, 0, (125 - 2 * level) << 23)
        goal = tl.where(top_p < 1, top_p.to(tl.float32).to(tl.float64) * total.to(tl.float64), float("inf"))
        enough = (masses.to(tl.float64) >= goal) | (least <= min_p.to(tl.float32).to(tl.int32, bitcast=True))
        if (top_k > 0) & (top_k < vocab):  # the weight of the best top_k has to be known
            enough = number >= top_k
        chosen = tl.min(tl.where(enough, level, LEVELS - 1), 0)
        least = tl.sum(tl.where(level == chosen, least, 0), 0)
        before = tl.sum(tl.where((level[None, :] == chosen) & (each[:, None] < chunk), counts, 0), 0)

        best = tl.max(tl.load(peaks_ptr + row * CHUNKS + each, each < CHUNKS, other=float("-inf")), 0)
        token = chunk * CHUNK + tl.arange(0, CHUNK)
        x = tl.load(logits_ptr + row * logits_row + token, token < vocab, other=float("-inf")).to(tl.float32)
        bits = tl.exp((x - best) / tl.maximum(temperature, 1e-6).to(tl.float32)).to(tl.int32, bitcast=True)
        kept = (token < vocab) & (bits >= least)
        to = row * vocab + tl.sum(before, 0) + tl.cumsum(kept.to(tl.int32), 0) - 1
        tl.store(bits_ptr + to, bits, kept)
        tl.store(ids_ptr + to, token, kept)
        if chunk == 0:
            gathered = tl.sum(tl.where(level == chosen, number, 0), 0)
            tl.store(found_ptr + 2 * row, gathered.to(tl.int64))
            tl.store(found_ptr + 2 * row + 1, total)


@triton.jit
def _search(bits_ptr, count, goal, BY_COUNT: tl.constexpr):
    """Find the greatest pattern such that the tokens with it or a greater one make a goal.

    Returns:
        (pattern, how many tokens have a greater one, the weight of these)
    """
    pattern = tl.zeros((), tl.int32)
    for step in range(6):  # a weight is at most 1: its pattern has 30 bits
        shift = 25 - 5 * step
        tried = pattern + (tl.arange(0, 32) << shift)
        made = tl.zeros((32,), tl.int64)
        for first in range(0, count, TILE):
            index = first + tl.arange(0, TILE)
            bits = tl.load(bits_ptr + index, index < count, other=-1)
            if BY_COUNT:
                mass = tl.full((TILE,), 1, tl.int64)
            else:
                mass = (bits.to(tl.float32, bitcast=True) * UNITS).to(tl.int64)
            made += tl.sum(tl.where(bits[:, None] >= tried[None, :], mass[:, None], 0), 0)
        pattern += (tl.sum((made >= goal).to(tl.int32), 0) - 1) << shift
    number, mass = tl.zeros((), tl.int64), tl.zeros((), tl.int64)
    for first in range(0, count, TILE):
        index = first + tl.arange(0, TILE)
        bits = tl.load(bits_ptr + index, index < count, other=-1)
        greater = bits > pattern
        number += tl.sum(greater.to(tl.int64), 0)
        weights = (bits.to(tl.float32, bitcast=True) * UNITS).to(tl.int64)
        mass += tl.sum(tl.where(greater, weights, 0), 0)
    return pattern, number, mass


@triton.jit(
    do_not_specialize_on_alignment=[
        "temperature_ptr",
        "top_k_ptr",
        "top_p_ptr",
        "min_p_ptr",
        "seeds_ptr",
        "positions_ptr",
    ]
)
def _choose_kernel(
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    seeds_ptr,
    positions_ptr,
    peaks_ptr,
    firsts_ptr,
    sums_ptr,
    bits_ptr,
    ids_ptr,
    found_ptr,
    tokens_ptr,
    logits_row,
    vocab,
    SIZE: tl.constexpr,
    CHUNKS: tl.constexpr,
    CHUNK_BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCKS_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperature_ptr + row)
    top_k = tl.load(top_k_ptr + row).to(tl.int64)
    top_p, min_p = tl.load(top_p_ptr + row), tl.load(min_p_ptr + row)
    each = tl.arange(0, CHUNK_BLOCK)
    peaks = tl.load(peaks_ptr + row * CHUNKS + each, each < CHUNKS, other=float("-inf"))
    best = tl.max(peaks, 0)
    if (best == float("inf")) | (best == float("-inf")):
        tl.store(tokens_ptr + row, -1)
    elif temperature == 0:
        first = tl.load(firsts_ptr + row * CHUNKS + each, each < CHUNKS, other=vocab)
        tl.store(tokens_ptr + row, tl.min(tl.where(peaks == best, first, vocab), 0))
    else:
        seed = tl.load(seeds_ptr + row).to(tl.uint64, bitcast=True)
        position = tl.load(positions_ptr + row).to(tl.uint64)
        counter = _mix(seed + GOLDEN) + (position + position) * GOLDEN + GOLDEN
        number = (_mix(counter) >> 11).to(tl.float64) * 1.1102230246251565e-16  # 2^-53
        if (top_k > 0) | (top_p < 1) | (min_p > 0):
            bits_ptr += row * vocab
            ids_ptr += row * vocab
            count = tl.load(found_ptr + 2 * row).to(tl.int32)
            kept = tl.load(found_ptr + 2 * row + 1)
            if (top_k > 0) & (top_k < vocab):
                pattern, above, mass = _search(bits_ptr, count, top_k, True)
                kept = mass + (top_k - above) * (pattern.to(tl.float32, bitcast=True) * UNITS).to(tl.int64)
            if top_p < 1:
                wanted = tl.ceil(top_p.to(tl.float32).to(tl.float64) * kept.to(tl.float64)).to(tl.int64)
                wanted = tl.maximum(wanted, 1)
                pattern, above, mass = _search(bits_ptr, count, wanted, False)
                one = (pattern.to(tl.float32, bitcast=True) * UNITS).to(tl.int64)
                kept = tl.minimum(kept, mass + (wanted - mass + one - 1) // one * one)
            likely = tl.zeros((), tl.int64)
            for first in range(0, count, TILE):
                index = first + tl.arange(0, TILE)
                bits = tl.load(bits_ptr + index, index < count, other=0)
                weights = bits.to(tl.float32, bitcast=True)
                heavy = weights >= min_p.to(tl.float32)
                likely += tl.sum(tl.where(heavy, (weights * UNITS).to(tl.int64), 0), 0)
            kept = tl.maximum(tl.minimum(kept, likely), UNITS)  # the first token is always kept
            target = tl.minimum((number * kept.to(tl.float64)).to(tl.int64), kept - 1)
            pattern, above, mass = _search(bits_ptr, count, target + 1, False)
            one = (pattern.to(tl.float32, bitcast=True) * UNITS).to(tl.int64)
            skipped = (target - mass) // one  # of the tokens that weigh the same, the lower come first
            found = tl.zeros((), tl.int32)
            passed = tl.zeros((), tl.int64)
            for first in range(0, count, TILE):
                index = first + tl.arange(0, TILE)
                same = tl.load(bits_ptr + index, index < count, other=-1) == pattern
                order = passed + tl.cumsum(same.to(tl.int64), 0) - 1
                ids = tl.load(ids_ptr + index, index < count, other=0)
                found += tl.sum(tl.where(same & (order == skipped), ids, 0), 0)
                passed += tl.sum(same.to(tl.int64), 0)
            tl.store(tokens_ptr + row, found)
        else:
            block = tl.arange(0, BLOCKS_BLOCK)
            sums = tl.cumsum(tl.load(sums_ptr + row * BLOCKS + block, block < BLOCKS, other=0), 0)
            total = tl.max(sums, 0)
            target = tl.minimum((number * total.to(tl.float64)).to(tl.int64), total - 1)
            chosen = tl.sum((sums <= target).to(tl.int32), 0)
            token = chosen * SIZE + tl.arange(0, SIZE)
            x = tl.load(logits_ptr + row * logits_row + token, token < vocab, other=float("-inf"))
            weights = tl.exp((x.to(tl.float32) - best) / tl.maximum(temperature, 1e-6).to(tl.float32))
            sums = tl.cumsum((weights * UNITS).to(tl.int64), 0)
            total = tl.max(sums, 0)
            number = (_mix(counter + GOLDEN) >> 11).to(tl.float64) * 1.1102230246251565e-16
            target = tl.minimum((number * total.to(tl.float64)).to(tl.int64), total - 1)
            tl.store(tokens_ptr + row, chosen * SIZE + tl.sum((sums <= target).to(tl.int32), 0))


def default_sample(rows: int, vocab: int) -> Configuration:
    """Chunks of 16 logits a thread."""
    return {"CHUNK": min(4096, triton.next_power_of_2(vocab)), "num_warps": 8}


def sample(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    positions: Tensor,
) -> Tensor:
    """Choose the next token of each row, as `byollm.engine.sampler.choose_with_torch` does.

    A token may differ where a random number falls on a border between two to within the rounding of their
    weights, as it may between any two ways to compute them.

    Args:
        logits: (rows, vocab), each row in one piece.
        temperature: (rows,) floats; 0: greedy.
        top_k: (rows,) integers; 0: all.
        top_p: (rows,) floats; 1: all.
        min_p: (rows,) floats; 0: all.
        seeds: (rows,) int64, the 64 bits of each seed.
        positions: (rows,) integers, where in its sequence the token is to stand.

    Returns:
        (rows,) int64 tokens, -1 where logits are not numbers or none is finite.
    """
    rows, vocab = logits.shape
    size = 1 << ((vocab - 1).bit_length() // 2)  # `block_size` of the sampler
    config = configuration("sample", default_sample, rows, vocab)
    chunk, warps = max(config["CHUNK"], size), config["num_warps"]
    chunks = triton.cdiv(vocab, chunk)
    blocks = chunks * (chunk // size)

    def scratch(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(rows, *shape, dtype=dtype, device=logits.device)

    peaks, firsts = scratch(chunks, dtype=torch.float32), scratch(chunks, dtype=torch.int32)
    sums, counts = scratch(blocks, dtype=torch.int64), scratch(chunks, LEVELS.value, dtype=torch.int32)
    masses = scratch(chunks, LEVELS.value, dtype=torch.int64)
    bits, ids = scratch(vocab, dtype=torch.int32), scratch(vocab, dtype=torch.int32)
    found, tokens = scratch(2, dtype=torch.int64), scratch(dtype=torch.int64)
    params = temperature, top_k, top_p, min_p
    row, grid = logits.stride(0), (rows, chunks)
    chunk_block = triton.next_power_of_2(chunks)
    shape = {"CHUNKS": chunks, "CHUNK": chunk, "num_warps": warps}
    _peak_kernel[grid](logits, peaks, firsts, row, vocab, **shape)
    shape["CHUNK_BLOCK"] = chunk_block
    _weigh_kernel[grid](logits, *params, peaks, sums, counts, masses, row, vocab, SIZE=size, **shape)
    _gather_kernel[grid](logits, *params, peaks, counts, masses, bits, ids, found, row, vocab, **shape)
    _choose_kernel[(rows,)](
        logits,
        *params,
        seeds,
        positions,
        peaks,
        firsts,
        sums,
        bits,
        ids,
        found,
        tokens,
        row,
        vocab,
        SIZE=size,
        CHUNKS=chunks,
        CHUNK_BLOCK=chunk_block,
        BLOCKS=blocks,
        BLOCKS_BLOCK=triton.next_power_of_2(blocks),
        num_warps=warps,
    )
    return tokens
