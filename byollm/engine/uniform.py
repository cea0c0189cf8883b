"""Counter-based random numbers: a draw is a pure function of (seed, position).

Nothing is drawn from a shared stream, so what a request samples depends neither on its neighbours in the
batch nor on having been preempted. The mixing function is SplitMix64's finaliser (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, SplitMix64's increment


def _mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def uniforms(seed: int, position: int) -> tuple[float, float]:
    """Return the two numbers in [0, 1), multiples of 2^-53, that belong to `seed` and `position`."""
    counter = _mix((seed + _GOLDEN) & _MASK) + 2 * position * _GOLDEN
    return _unit(counter + _GOLDEN), _unit(counter + 2 * _GOLDEN)


def _unit(counter: int) -> float:
    return float(_mix(counter & _MASK) >> 11) * 2.0**-53


def fold_index(seed: int, index: int) -> int:
    """Return the seed of the `index`-th of n sequences of one request; the first keeps the request's own."""
    return seed if index == 0 else _mix((seed ^ _mix(index * _GOLDEN & _MASK)) & _MASK)
