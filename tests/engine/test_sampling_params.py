import math
from typing import Any

import pytest

from byollm.engine import SamplingParams, SamplingParamsError


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_k", 2.0),
        ("top_p", -0.1),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1),
        ("repetition_penalty", math.inf),
        ("presence_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("frequency_penalty", 3),
        ("frequency_penalty", math.nan),
        ("logit_bias", {-1: 0.0}),
        ("logit_bias", {1: 101.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {"1": 1.0}),
        ("seed", 2**64),
        ("seed", -(2**63) - 1),
        ("seed", 1.0),
        ("stop", "text"),
        ("stop", ("",)),
        ("stop", ("x" * 1025,)),
        ("stop", tuple(str(n) for n in range(17))),
        ("stop", (3,)),
        ("stop_token_ids", (-1,)),
        ("stop_token_ids", tuple(range(129))),
        ("logprobs", -1),
        ("logprobs", 21),
        ("n", 0),
        ("n", 129),
    ],
)
def test_value_out_of_range_is_refused_by_name(param: str, value: Any) -> None:
    with pytest.raises(SamplingParamsError, match=rf"^{param}: .*(expected|at most)") as caught:
        SamplingParams(**{param: value})
    assert caught.value.param == param


def test_edges_of_the_ranges_are_allowed() -> None:
    SamplingParams(temperature=0, top_p=0, min_p=1, top_k=0, n=128, logprobs=20, seed=2**64 - 1, max_tokens=1)
    SamplingParams(
        presence_penalty=-2,
        frequency_penalty=2,
        logit_bias={0: -100, 1: 100},
        stop=("x" * 1024,) * 16,
        seed=-(2**63),
    )


def test_message_says_value_and_range() -> None:
    with pytest.raises(SamplingParamsError, match=r"top_p: 1.5 is out of range; expected from 0 to 1"):
        SamplingParams(top_p=1.5)
    with pytest.raises(SamplingParamsError, match=r"max_tokens: 0 is out of range; expected 1 or more"):
        SamplingParams(max_tokens=0)
