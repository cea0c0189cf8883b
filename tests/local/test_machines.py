"""State machines: tasks, waits, errors by name, and the jobs of SageMaker."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local.running import Platform, eventually
from tests.local.test_functions import bundle

HANDLER = """
    class PlannedError(Exception):
        pass

    def handle(event, context):
        if event["number"] > 2:
            raise PlannedError("as asked")
        return {"number": event["number"] + 1}
"""

MACHINE = {
    "StartAt": "Count",
    "States": {
        "Count": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "counting", "Payload.$": "$"},
            "ResultSelector": {"number.$": "$.Payload.number"},
            "Catch": [{"ErrorEquals": ["PlannedError"], "ResultPath": "$.error", "Next": "Told"}],
            "Next": "Enough",
        },
        "Enough": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.number", "NumericGreaterThanEquals": 9, "Next": "Told"}],
            "Default": "Later",
        },
        "Later": {"Type": "Wait", "Seconds": 15, "Next": "Count"},
        "Told": {"Type": "Succeed"},
    },
}


@pytest.fixture(scope="module")
def role(platform: Platform) -> str:
    made = platform.client("iam").create_role(RoleName="machines", AssumeRolePolicyDocument="{}")
    arn: str = made["Role"]["Arn"]
    return arn


def run(platform: Platform, role: str, definition: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    states = platform.client("stepfunctions")
    name = f"machine-{abs(hash(json.dumps(definition)))}"
    arn = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
    started = states.start_execution(stateMachineArn=arn["stateMachineArn"], input=json.dumps(given))
    end: dict[str, Any] = {}

    def ended() -> bool:
        end.update(states.describe_execution(executionArn=started["executionArn"]))
        return bool(end["status"] != "RUNNING")

    eventually(ended)
    return end


@pytest.fixture
def counting(platform: Platform, role: str) -> Iterator[None]:
    functions = platform.client("lambda")
    functions.create_function(
        FunctionName="counting",
        Runtime="python3.12",
        Handler="handler.handle",
        Role=role,
        Code={"ZipFile": bundle(handler=HANDLER)},
        Timeout=60,
    )
    yield
    functions.delete_function(FunctionName="counting")


def test_tasks_run_waits_are_waited_by_the_clock_and_errors_are_caught_by_name(
    platform: Platform, role: str, counting: None
) -> None:
    end = run(platform, role, MACHINE, {"number": 0})
    assert end["status"] == "SUCCEEDED", end
    output = json.loads(end["output"])
    assert output["number"] == 3
    assert output["error"]["Error"] == "PlannedError"
    assert json.loads(output["error"]["Cause"])["errorMessage"] == "as asked"


def test_a_job_that_cannot_start_fails_its_task(platform: Platform, role: str) -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Parameters": {"TrainingJobName": "not a name"},
        "End": True,
    }
    end = run(platform, role, {"StartAt": "Job", "States": {"Job": task}}, {})
    assert end["status"] == "FAILED"
    assert end["error"] == "SageMaker.AmazonSageMakerException", end
