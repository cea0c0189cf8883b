"""When the endpoint is asked for its models, and what is told when it cannot say."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from byollm.gateway import listing
from byollm.gateway.errors import unavailable
from byollm.gateway.listing import AWAKE_S, FRESH_S, Listing
from byollm.gateway.metrics import Metrics
from byollm.gateway.passing import Passage
from byollm.settings import GatewaySettings

TOLD = [{"id": "base"}, {"id": "legal", "parent": "base"}]


class Endpoint:
    """A runtime that answers `said`, or not at all."""

    def __init__(self, may_sleep: bool) -> None:
        self.may_sleep, self.asked = may_sleep, 0
        self.said: Any = {"object": "list", "data": TOLD}

    async def models(self, request_id: str) -> bytes:
        self.asked += 1
        if self.said is None:
            raise unavailable()
        return json.dumps(self.said).encode()


class Time:
    now = 1000.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    time = Time()
    monkeypatch.setattr(listing, "monotonic", lambda: time.now)
    return time


def around(endpoint: Endpoint) -> tuple[Passage, Listing]:
    passage = Passage(cast(Any, endpoint), GatewaySettings(model_name="base"), Metrics())
    return passage, Listing(passage)


def names(listed: Listing) -> list[str]:
    return [model["id"] for model in asyncio.run(listed.models("id"))]


def test_the_endpoint_is_asked_once_a_minute(time: Time) -> None:
    endpoint = Endpoint(may_sleep=False)
    _, listed = around(endpoint)
    assert names(listed) == names(listed) == ["base", "legal"]
    assert endpoint.asked == 1
    endpoint.said = {"data": TOLD[:1]}
    time.now += FRESH_S
    assert names(listed) == ["base"]


def test_one_that_may_sleep_is_not_woken_to_tell(time: Time) -> None:
    endpoint = Endpoint(may_sleep=True)
    passage, listed = around(endpoint)
    assert (names(listed), endpoint.asked) == (["base"], 0)
    passage.answered = time.now
    assert (names(listed), endpoint.asked) == (["base", "legal"], 1)
    time.now += AWAKE_S
    assert (names(listed), endpoint.asked) == (["base", "legal"], 1)


@pytest.mark.parametrize(
    "said", [None, [], {}, {"data": []}, {"data": None}, {"data": ["x"]}, {"data": [{}]}]
)
def test_what_was_known_stays_while_it_cannot_say(time: Time, said: Any) -> None:
    endpoint = Endpoint(may_sleep=False)
    endpoint.said, right = said, endpoint.said
    _, listed = around(endpoint)
    assert names(listed) == ["base"]
    endpoint.said = right
    time.now += FRESH_S
    assert names(listed) == ["base", "legal"]
    endpoint.said = said
    time.now += FRESH_S
    assert names(listed) == ["base", "legal"]
    assert endpoint.asked == 3
