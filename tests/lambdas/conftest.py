"""Functions as Lambda runs them, in an account in memory."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from byollm.lifecycle import Deployment
from tests.lambdas.account import Account, Context
from tests.lifecycle.support import deployment

Call = Callable[..., Any]
TOPIC = "arn:aws:sns:ca-central-1:123456789012:byollm-dev"


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deployment]:
    """Set the deployment that functions read."""

    def set_variable(spec: dict[str, Any] | None = None) -> Deployment:
        declared = deployment(spec, topic_arn=TOPIC)
        monkeypatch.setenv("BYOLLM_DEPLOYMENT", declared.model_dump_json(exclude_defaults=True))
        return declared

    set_variable()
    return set_variable


@pytest.fixture
def call(account: Account, declare: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch) -> Call:
    """`call(function, event)` runs a handler once."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "byollm")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "test")
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    # By itself nothing is done within seconds, as on AWS: each run takes one step.
    monkeypatch.setattr("lambdas.reconcile.handler.PATIENCE_S", 0)

    def run(function: str, event: dict[str, Any], left_s: float = 900) -> Any:
        handler = importlib.import_module(f"lambdas.{function}.handler")
        monkeypatch.setattr(handler, "clients", account)
        return handler.handle(event, Context(left_s))

    return run
