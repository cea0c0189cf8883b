import math

import hypothesis.strategies as st
from hypothesis import given

from byollm.engine.uniform import fold_index, uniforms

SEEDS = st.integers(-(2**63), 2**64 - 1)


@given(SEEDS, st.integers(0, 10**6))
def test_draw_lies_in_the_unit_interval_and_depends_on_nothing_else(seed: int, position: int) -> None:
    assert all(0 <= number < 1 for number in uniforms(seed, position))
    assert uniforms(seed, position) == uniforms(seed, position)


def uniform(seed: int, position: int) -> float:
    return uniforms(seed, position)[0]


def chi_square(values: list[float], bins: int = 64) -> float:
    counts = [0] * bins
    for value in values:
        counts[int(value * bins)] += 1
    expected = len(values) / bins
    return sum((count - expected) ** 2 / expected for count in counts)


def test_draws_are_uniform_along_positions_and_along_seeds() -> None:
    bound = 63 + 5 * math.sqrt(2 * 63)  # five standard deviations of the statistic
    assert chi_square([uniform(7, position) for position in range(20_000)]) < bound
    assert chi_square([uniform(seed, 3) for seed in range(20_000)]) < bound
    assert chi_square([uniforms(7, position)[1] for position in range(20_000)]) < bound
    assert chi_square([uniform(fold_index(5, index), 0) for index in range(20_000)]) < bound


def test_neighbouring_draws_are_not_correlated() -> None:
    n = 20_000
    for pairs in (
        [(uniform(1, i), uniform(1, i + 1)) for i in range(n)],
        [(uniform(i, 9), uniform(i + 1, 9)) for i in range(n)],
        [uniforms(1, i) for i in range(n)],
        [(uniforms(1, i)[1], uniform(1, i + 1)) for i in range(n)],
        [(uniform(i, 9), uniform(fold_index(i, 1), 9)) for i in range(n)],
        [(uniform(i, 4), uniform(i + 1, 3)) for i in range(n)],
    ):
        covariance = sum((a - 0.5) * (b - 0.5) for a, b in pairs) / n
        assert abs(covariance * 12) < 5 / math.sqrt(n)


@given(SEEDS)
def test_first_answer_keeps_the_seed_and_the_others_differ(seed: int) -> None:
    folded = [fold_index(seed, index) for index in range(8)]
    assert folded[0] == seed
    assert len(set(folded)) == 8
