"""A patient for the checks, and an AWS that answers as scripted: real clients, whose answers are planted."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.config import Config
from botocore.validate import ParamValidator

from byollm.doctor import Finding, Level, Patient
from byollm.doctor.checks import Check
from byollm.settings import REPOSITORY, Settings

ACCOUNT = "123456789012"
BUNDLED = REPOSITORY / "models" / "byollm-tiny"


@cache
def connect(service: str, region: str) -> Any:
    """Return a client that would ask the real AWS; `mock_aws` stands before it."""
    return _client(service, region, _fill)


def _client(service: str, region: str, answer: Callable[..., Any]) -> Any:
    fast = Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=5)
    client = _session().client(service, region, config=fast)
    client.meta.events.register("before-call", answer)
    return client


@cache
def _session() -> boto3.session.Session:
    return boto3.session.Session("test", "test")  # one for all: it reads each service's model once


GAPS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ListInferenceComponents": lambda given: {"InferenceComponents": []}
}
"""Answers of operations that moto does not know."""


def _fill(model: Any, params: dict[str, Any], **_: object) -> tuple[Any, dict[str, Any]] | None:
    if model.name not in GAPS:
        return None
    body = params["body"]
    given = json.loads(body) if isinstance(body, bytes) else body
    return SimpleNamespace(status_code=200), GAPS[model.name](given)


class ScriptedAws:
    """Answers every call from a table of operations: an answer, or an error as (code, message).

    Answers are held against botocore's models, so that none is planted that AWS could not give.
    """

    def __init__(self, answers: dict[str, Any], *, date: datetime | None = None) -> None:
        self.answers = answers
        self.date = format_datetime(date or datetime.now(UTC))
        self.calls: list[tuple[str, str]] = []

    def connect(self, service: str, region: str) -> Any:
        return _client(service, region, self._answer)

    def _answer(self, model: Any, context: dict[str, Any], **_: object) -> tuple[Any, dict[str, Any]]:
        self.calls.append((model.name, context["client_region"]))
        assert model.name in self.answers, f"{model.name} was not expected"
        planted = self.answers[model.name]
        metadata = {"HTTPHeaders": {"date": self.date}, "HTTPStatusCode": 200}
        if isinstance(planted, tuple):
            error = {"Error": {"Code": planted[0], "Message": planted[1]}}
            return SimpleNamespace(status_code=400), {**error, "ResponseMetadata": metadata}
        faults = ParamValidator().validate(planted, model.output_shape)
        assert not faults.has_errors(), faults.generate_report()
        return SimpleNamespace(status_code=200), {**planted, "ResponseMetadata": metadata}


def patient(by: Any = connect, /, *, env: str = "dev", model: Path = BUNDLED, **sections: Any) -> Patient:
    """Return an environment of default settings but for `sections`, such as `network={"nat_gateways": 2}`."""
    return Patient(
        env=env,
        settings=Settings.model_validate(sections),
        connect=by.connect if isinstance(by, ScriptedAws) else by,
        model=model,
    )


def found(check: Check, who: Patient) -> list[Finding]:
    """Run one check."""
    return list(check(who))


def only(findings: Iterable[Finding], level: Level, *words: str) -> Finding:
    """Return the one finding there is, of this level, which says all `words` and what to do."""
    (finding,) = findings
    assert finding.level == level, finding
    for word in words:
        assert word in finding.seen, finding
    assert (finding.level == Level.PASS) == (not finding.remedy), finding
    return finding
