"""Checks side by side: their time, AWS's refusals, and no network."""

import threading
from collections.abc import Iterator

import pytest

from byollm.doctor import CHECKS, Finding, Level, Patient, examine
from byollm.doctor.account import credentials
from byollm.doctor.checks import REAL_AWS_ONLY, checks_for
from byollm.doctor.finding import passed
from tests.doctor.support import BUNDLED, ScriptedAws, only, patient


def test_findings_come_in_the_order_of_the_checks_and_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=20)  # passed only if all run at once

    def check(who: Patient) -> Iterator[Finding]:
        meeting.wait()
        yield passed("met")

    found = examine(patient(), dict.fromkeys("cab", check))
    assert list(found) == ["c", "a", "b"]


def test_a_check_that_hangs_fails_alone() -> None:
    release = threading.Event()

    def hangs(who: Patient) -> Iterator[Finding]:
        release.wait()
        yield passed("late")

    def answers(who: Patient) -> Iterator[Finding]:
        yield passed("here")

    found = examine(patient(), {"hangs": hangs, "answers": answers}, timeout_s=2)
    release.set()
    only(found["answers"], Level.PASS)
    only(found["hangs"], Level.FAIL, "no answer within 2 s")


@pytest.mark.parametrize(
    ("code", "level", "words"),
    [
        ("ExpiredToken", Level.FAIL, "expired"),
        ("InvalidClientTokenId", Level.FAIL, "does not know these credentials"),
        ("AccessDenied", Level.WARN, "not checked"),
        ("InternalFailure", Level.FAIL, "InternalFailure"),
    ],
)
def test_what_aws_refuses_is_a_finding(code: str, level: Level, words: str) -> None:
    who = patient(ScriptedAws({"GetCallerIdentity": (code, "said AWS")}))
    only(examine(who, {"credentials": credentials})["credentials"], level, words)


def test_a_fault_of_ours_is_no_finding() -> None:
    def broken(who: Patient) -> Iterator[Finding]:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        examine(patient(), {"broken": broken})


def test_no_credentials_fail_every_check_of_aws_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    who = Patient.of("dev", patient().settings, BUNDLED)
    found = examine(who, CHECKS)
    offline = {"node", "cdk", "sdk", "host", "model", "certificate", "exposure", "connection", "prices"}
    for name in CHECKS.keys() - offline:
        only(found[name], Level.FAIL, "no AWS credentials")


def test_an_emulated_aws_is_not_asked_for_quotas() -> None:
    emulated = patient(aws={"endpoint_url": "http://localhost:1"})
    assert CHECKS.keys() - checks_for(emulated).keys() == set(REAL_AWS_ONLY)
    assert checks_for(patient()) == CHECKS
