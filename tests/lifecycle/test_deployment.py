"""What functions are told: read from one variable, refused in words; and the waiting between steps."""

import time
from types import SimpleNamespace

import pytest

from byollm.lifecycle import Deployment, Progress, hasten, settle
from byollm.settings import SettingsError
from tests.lifecycle.support import AB, deployment

# Of this module alone: servers of other tests, in threads, live by the true one.
MODULE = "byollm.lifecycle.progress.time"


def test_a_deployment_comes_whole_through_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = deployment(AB, subnets=["subnet-0a"], security_groups=["sg-0a"], topic_arn="arn:topic")
    monkeypatch.setenv("BYOLLM_DEPLOYMENT", declared.model_dump_json(exclude_defaults=True))
    assert Deployment.from_environment() == declared


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "is not set"),
        ("{", "is not a deployment"),
        ('{"environment": "dev"}', "name: Field required"),
        (
            '{"environment": "x", "name": "x", "role_arn": "y", "package_group": "z", "subnets": ["s"]}',
            "give both, or none",
        ),
        ('{"environment": "../..", "name": "x", "role_arn": "y", "package_group": "z"}', "environment"),
    ],
)
def test_what_is_no_deployment_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, text: str | None, what: str
) -> None:
    monkeypatch.delenv("BYOLLM_DEPLOYMENT", raising=False)
    if text is not None:
        monkeypatch.setenv("BYOLLM_DEPLOYMENT", text)
    with pytest.raises(SettingsError, match=what):
        Deployment.from_environment()


def test_steps_are_taken_until_the_last_one_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([*(Progress(False, "it") for _ in range(6)), Progress(True)])
    pauses: list[float] = []
    told: list[Progress] = []
    monkeypatch.setattr(MODULE, SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    assert settle(lambda: next(steps), until=time.monotonic() + 60, tell=told.append).done
    assert pauses == [1, 2, 4, 8, 15, 15]
    assert len(told) == 7


def test_what_takes_too_long_is_left_for_the_next() -> None:
    assert settle(lambda: Progress(False, "it"), until=time.monotonic()) == Progress(False, "it")


class Clock:
    """Time that goes by when somebody sleeps, and while a step is taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(MODULE, SimpleNamespace(monotonic=lambda: self.now, sleep=self.pass_by))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


BEGUN, UNDER_WAY = Progress(False, "it", ("it is begun",)), Progress(False, "it")


def test_what_was_just_begun_is_looked_at_again_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    steps = iter([BEGUN, UNDER_WAY, BEGUN, UNDER_WAY, Progress(True)])
    told: list[Progress] = []
    assert hasten(lambda: next(steps), patience_s=2, until=60, tell=told.append).done
    assert clock.now == 4
    assert len(told) == 5


def test_what_has_been_under_way_for_longer_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert hasten(lambda: UNDER_WAY, patience_s=20, until=60) == UNDER_WAY
    assert clock.now == 0


def test_each_change_is_given_its_time_but_not_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    steps = iter([BEGUN, UNDER_WAY, BEGUN, *[UNDER_WAY] * 20])
    assert hasten(lambda: next(steps), patience_s=5, until=60) == UNDER_WAY
    assert clock.now == 7
    assert hasten(lambda: BEGUN, patience_s=5, until=60) == BEGUN
    assert clock.now == 60
