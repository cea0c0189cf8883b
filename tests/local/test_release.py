"""The state machine of a release, run with functions that do as the version's name says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from byollm.settings import REPOSITORY
from tests.local.running import Platform, eventually
from tests.local.test_functions import bundle

DEFINITION = (REPOSITORY / "pipeline" / "release.asl.json").read_text()

# Each does what the function of its name does, or fails as it would.
FUNCTIONS = {
    "Publish": """
        class LifecycleError(Exception):
            pass

        def handle(event, context):
            if event["image"] == "unknown":
                raise LifecycleError("no such image")
            return {"version": event["image"]}
    """,
    "Reconcile": """
        class EndpointFailed(Exception):
            pass

        steps = []

        def handle(event, context):
            if event["version"] == "crashes":
                raise EndpointFailed("it did not answer its health check")
            steps.append(event)
            return {"done": len(steps) > 1, "waiting_for": "the endpoint"}
    """,
    "SmokeTest": """
        class SmokeTestFailed(Exception):
            pass

        def handle(event, context):
            if event["version"] == "silent":
                raise SmokeTestFailed("it says nothing")
            return {"answer": "hello", "seconds": 1.5}
    """,
    "Approve": """
        def handle(event, context):
            if event["approved"] and event["version"] == "unapproved":
                raise RuntimeError("not now")
            return {}
    """,
}


@pytest.fixture(scope="module")
def machine(platform: Platform) -> Iterator[str]:
    """The release's state machine, as the stack fills it in."""
    definition = DEFINITION
    topic = platform.client("sns").create_topic(Name="releases")["TopicArn"]
    filled = {"Environment": "dev", "Releases": topic}
    functions = platform.client("lambda")
    role = platform.client("iam").create_role(RoleName="releases", AssumeRolePolicyDocument="{}")
    arn = role["Role"]["Arn"]
    for name, code in FUNCTIONS.items():
        made = functions.create_function(
            FunctionName=f"release-{name}",
            Runtime="python3.12",
            Handler="handler.handle",
            Role=arn,
            Code={"ZipFile": bundle(handler=code)},
            Timeout=60,
        )
        filled[name] = made["FunctionArn"]
    for name, value in filled.items():
        definition = definition.replace(f"${{{name}}}", value)
    states = platform.client("stepfunctions")
    made = states.create_state_machine(name="release", definition=definition, roleArn=arn)
    yield made["stateMachineArn"]
    states.delete_state_machine(stateMachineArn=made["stateMachineArn"])
    for name in FUNCTIONS:
        functions.delete_function(FunctionName=f"release-{name}")


def release(platform: Platform, machine: str, image: str) -> tuple[dict[str, Any], list[str]]:
    """Release a version; return how it ended, and the states it went through."""
    states = platform.client("stepfunctions")
    given = {"image": image, "model": "s3://models/versions/1/", "variant": "main"}
    execution = states.start_execution(stateMachineArn=machine, input=json.dumps(given))["executionArn"]
    eventually(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    events = states.get_execution_history(executionArn=execution, maxResults=500)["events"]
    entered = [
        event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event
    ]
    return states.describe_execution(executionArn=execution), entered


def test_a_version_that_answers_is_deployed_step_by_step_and_approved(
    platform: Platform, machine: str
) -> None:
    end, entered = release(platform, machine, "good")
    assert end["status"] == "SUCCEEDED", end
    assert entered[:2] == ["Publish", "Reconcile"]
    assert "Wait" in entered
    assert entered[-4:] == ["SmokeTest", "Approve", "AnnounceRelease", "Released"]


@pytest.mark.parametrize(
    ("image", "error", "at"),
    [
        ("crashes", "EndpointFailed", "Reconcile"),
        ("silent", "SmokeTestFailed", "SmokeTest"),
        ("unapproved", "RuntimeError", "Approve"),
    ],
)
def test_a_version_that_fails_is_rejected_and_the_one_before_comes_back(
    platform: Platform, machine: str, image: str, error: str, at: str
) -> None:
    end, entered = release(platform, machine, image)
    assert (end["status"], end["error"]) == ("FAILED", error)
    rest = entered[entered.index("Reject") :]
    assert entered[entered.index("Reject") - 1] == at
    assert rest[:2] == ["Reject", "RollBack"]
    assert rest[-2:] == ["AnnounceFailure", "Failed"]


def test_what_cannot_be_registered_changes_nothing(platform: Platform, machine: str) -> None:
    end, entered = release(platform, machine, "unknown")
    assert (end["status"], end["error"]) == ("FAILED", "LifecycleError")
    assert entered == ["Publish", "AnnounceFailure", "Failed"]
