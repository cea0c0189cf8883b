"""CloudFormation asks for the endpoint, and is always answered."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lambdas.account import FUNCTION, Account, listener
from tests.lambdas.test_release import approve, published
from tests.lifecycle.support import COMPONENT

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _time_passes(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: account.settle())


def asked(call: Call, kind: str, left_s: float = 900, **more: Any) -> dict[str, Any]:
    """Ask as CloudFormation does; return the answer that came."""
    with listener() as (address, came):
        call("endpoint_resource", request(kind, address, **more), left_s)
    ((content_type, body),) = came
    assert content_type in (None, "")  # what the address was signed for
    assert len(body) < 4096
    answer = json.loads(body)
    assert answer["PhysicalResourceId"] == "byollm-dev"
    assert (answer["StackId"], answer["RequestId"], answer["LogicalResourceId"]) == ("stack", "1", "Endpoint")
    return dict(answer)


def request(kind: str, address: str, **more: Any) -> dict[str, Any]:
    place = {"StackId": "stack", "RequestId": "1", "LogicalResourceId": "Endpoint"}
    return {"RequestType": kind, "ResponseURL": address, **place, **more}


def released(call: Call) -> None:
    approve(call, published(call))


def test_a_first_deployment_has_nothing_to_serve_and_succeeds(call: Call, account: Account) -> None:
    answer = asked(call, "Create")
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"] == {"EndpointName": "byollm-dev"}
    assert account.changes == []


def test_what_is_approved_is_brought_up_and_follows_the_declaration(
    call: Call, account: Account, declare: Callable[..., Any]
) -> None:
    released(call)
    assert asked(call, "Create")["Status"] == "SUCCESS"
    assert account.endpoints["byollm-dev"]["EndpointStatus"] == "InService"
    declare(COMPONENT)
    assert asked(call, "Update")["Status"] == "SUCCESS"
    assert list(account.components) == ["byollm-dev-main"]


def test_deletion_takes_everything_away(call: Call, account: Account, declare: Callable[..., Any]) -> None:
    declare(COMPONENT)
    released(call)
    asked(call, "Create")
    assert asked(call, "Delete", PhysicalResourceId="byollm-dev")["Status"] == "SUCCESS"
    assert not any(account.state().values())


def test_deletion_of_what_was_never_made_succeeds(call: Call) -> None:
    assert asked(call, "Delete", PhysicalResourceId="anything")["Status"] == "SUCCESS"


def test_a_failure_says_why_and_what_was_made_can_be_deleted(call: Call, account: Account) -> None:
    released(call)
    account.failing = "The container did not pass the ping health check. " + "x" * 9000
    answer = asked(call, "Create")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("EndpointFailed: endpoint byollm-dev: Failed: The container did not")
    assert asked(call, "Delete")["Status"] == "SUCCESS"
    assert account.endpoints == {}


def test_what_cannot_be_removed_fails_the_deletion_by_name(
    call: Call, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(call)
    asked(call, "Create")
    monkeypatch.setattr(account, "DeleteModel", lambda ModelName: None)  # as where a list lags behind
    answer = asked(call, "Delete")
    assert answer["Status"] == "FAILED"
    assert "left behind: model byollm-dev-" in answer["Reason"]


def test_what_takes_longer_than_a_run_goes_on_in_the_next(
    call: Call, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(call)
    with listener() as (address, came):
        call("endpoint_resource", request("Create", address), left_s=1)
        assert came == []
        (again,) = account.invoked
        assert (again["function"], again["type"]) == (FUNCTION, "Event")
        account.settle()
        call("endpoint_resource", json.loads(again["payload"]), left_s=900)
        assert json.loads(came[0][1])["Status"] == "SUCCESS"


def test_an_hour_is_not_waited_out(call: Call, account: Account) -> None:
    released(call)
    answer = asked(call, "Create", left_s=1, Began=0.0)
    assert answer["Status"] == "FAILED"
    assert "still waits for endpoint byollm-dev: Creating" in answer["Reason"]
    assert account.invoked == []


def test_a_deployment_that_cannot_be_read_is_answered_too(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOLLM_DEPLOYMENT", '{"environment": "dev"}')
    answer = asked(call, "Update", PhysicalResourceId="byollm-dev")
    assert answer["Status"] == "FAILED"
    assert "BYOLLM_DEPLOYMENT is not a deployment" in answer["Reason"]


def test_an_unknown_request_is_refused(call: Call) -> None:
    assert "expected Create, Update or Delete" in asked(call, "Replace")["Reason"]


def test_an_answer_that_is_not_taken_is_given_again(call: Call) -> None:
    with listener(refusals=2) as (address, came):
        call("endpoint_resource", request("Create", address))
    assert len(came) == 1


def test_only_the_web_is_answered(call: Call, tmp_path: Any) -> None:
    with pytest.raises(Exception, match="expected an address of https"):
        call("endpoint_resource", request("Create", f"file://{tmp_path}/answer"))
