"""Releases: what their functions may do, whom the state machine calls, who hears of what."""

import json
import re
from typing import Any

from tests.stacks.support import ROOT, Synthesis, resolved
from tests.stacks.test_inference import allowing, statements

RELEASE = json.loads((ROOT / "pipeline" / "release.asl.json").read_text())


def machine(synthesis: Synthesis) -> dict[str, Any]:
    (found,) = synthesis.of("lifecycle", "AWS::StepFunctions::StateMachine").values()
    properties: dict[str, Any] = found
    return properties


def states(kind: str) -> dict[str, dict[str, Any]]:
    return {name: state for name, state in RELEASE["States"].items() if state["Type"] == kind}


def test_who_registers_versions_cannot_approve_them(synthesis: Synthesis) -> None:
    publish = statements(synthesis, "lifecycle", "Publish")
    condition = allowing(publish, "sagemaker:CreateModelPackage")["Condition"]
    assert condition["StringEquals"] == {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}
    assert "UpdateModelPackage" not in str(publish)
    approve = statements(synthesis, "lifecycle", "Approve")
    assert allowing(approve, "sagemaker:UpdateModelPackage")
    assert "CreateModelPackage" not in str(approve)


def test_who_tries_the_endpoint_changes_nothing(synthesis: Synthesis) -> None:
    actions = [each["Action"] for each in statements(synthesis, "lifecycle", "SmokeTest")]
    assert "sagemaker:InvokeEndpoint" in str(actions)
    for verb in ("Create", "Update", "Delete"):
        assert f"sagemaker:{verb}" not in str(actions)


def test_remedies_and_savings_have_the_rights_of_the_reconciler_and_a_voice(synthesis: Synthesis) -> None:
    roles = synthesis.of("lifecycle", "AWS::IAM::Role")
    for name in ("Remediate", "ScaleDown"):
        (role,) = [role for id, role in roles.items() if id.startswith(f"{name}Role")]
        assert "Reconciler" in str(role["ManagedPolicyArns"])
        speaking = allowing(statements(synthesis, "lifecycle", name), "sns:Publish")
        assert "Alarms" in str(speaking["Resource"])


def test_the_remedy_hears_of_the_endpoint_in_trouble_and_of_nothing_it_says_itself(
    synthesis: Synthesis,
) -> None:
    subscriptions = synthesis.of("lifecycle", "AWS::SNS::Subscription")
    (heard,) = [each for name, each in subscriptions.items() if name.startswith("Remediate")]
    assert heard["FilterPolicyScope"] == "MessageBody"
    prefix = f"byollm-{synthesis.env}-guard-"
    assert heard["FilterPolicy"] == {"AlarmName": [{"prefix": prefix}], "NewStateValue": ["ALARM"]}


def test_a_spent_budget_brings_the_endpoint_down(synthesis: Synthesis) -> None:
    subscriptions = synthesis.of("lifecycle", "AWS::SNS::Subscription")
    (heard,) = [each for name, each in subscriptions.items() if name.startswith("ScaleDown")]
    assert "Overspending" in str(heard["TopicArn"])
    permissions = synthesis.of("lifecycle", "AWS::Lambda::Permission")
    (allowed,) = [each for name, each in permissions.items() if name.startswith("ScaleDown")]
    assert allowed["Principal"] == "sns.amazonaws.com"
    assert "Overspending" in str(allowed["SourceArn"])


def test_the_state_machine_is_that_of_the_file_traced_logged_and_encrypted(synthesis: Synthesis) -> None:
    properties = machine(synthesis)
    assert json.loads(properties["DefinitionString"]) == RELEASE
    assert properties["StateMachineName"] == f"byollm-{synthesis.env}-release"
    assert properties["TracingConfiguration"] == {"Enabled": True}
    assert properties["LoggingConfiguration"]["Level"] == "ALL"
    assert "ReleaseLogs" in str(properties["LoggingConfiguration"]["Destinations"])
    assert properties["EncryptionConfiguration"]["Type"] == "CUSTOMER_MANAGED_KMS_KEY"
    assert "Data" in str(properties["EncryptionConfiguration"]["KmsKeyId"])


def test_a_release_may_call_just_what_its_definition_names(synthesis: Synthesis) -> None:
    filled = machine(synthesis)["DefinitionSubstitutions"]
    assert set(re.findall(r"\$\{(\w+)\}", json.dumps(RELEASE))) == set(filled)
    release = statements(synthesis, "lifecycle", "ReleaseRole")
    called = [filled[name] for name in ("Publish", "Reconcile", "SmokeTest", "Approve")]
    allowed = allowing(release, "lambda:InvokeFunction")["Resource"]
    assert sorted(map(json.dumps, allowed)) == sorted(map(json.dumps, called))
    assert allowing(release, "sns:Publish")["Resource"] == filled["Releases"]


def test_every_task_has_an_end_and_is_tried_again_at_random_times() -> None:
    for name, task in states("Task").items():
        assert task["TimeoutSeconds"] > 0, name
        for retry in task["Retry"]:
            assert retry["JitterStrategy"] == "FULL", name
            assert retry["BackoffRate"] > 1
        (catch,) = task["Catch"]
        assert catch["ErrorEquals"] == ["States.ALL"], name


def test_no_task_is_given_up_before_its_function(synthesis: Synthesis) -> None:
    timeouts = {
        each["Properties"]["FunctionName"].removeprefix(f"byollm-{synthesis.env}-"): each["Properties"][
            "Timeout"
        ]
        for _, _, each in synthesis.resources("AWS::Lambda::Function")
    }
    calls = {
        "${Publish}": "publish",
        "${Reconcile}": "reconcile",
        "${SmokeTest}": "smoke_test",
        "${Approve}": "approve",
    }
    for name, task in states("Task").items():
        if function := calls.get(task["Parameters"].get("FunctionName", "")):
            assert task["TimeoutSeconds"] > timeouts[function], name


def test_whatever_fails_after_the_version_is_registered_is_rejected_and_rolled_back() -> None:
    tasks = states("Task")
    for name in ("Reconcile", "SmokeTest", "Approve"):
        assert tasks[name]["Catch"][0]["Next"] == "Reject"
    assert tasks["Reject"]["Next"] == tasks["Reject"]["Catch"][0]["Next"] == "RollBack"
    assert tasks["RollBack"]["Parameters"]["Payload"] == {"version": None}, "the one approved last"
    assert tasks["Publish"]["Catch"][0]["Next"] == "AnnounceFailure", "there is nothing to reject yet"


def test_people_hear_of_failures_on_the_alarms_topic_and_of_versions_on_theirs(synthesis: Synthesis) -> None:
    told = {
        rule["EventPattern"]["detail-type"][0]: rule["Targets"][0]
        for rule in synthesis.of("lifecycle", "AWS::Events::Rule").values()
    }
    assert "Alarms" in str(told["SageMaker Endpoint State Change"]["Arn"])
    assert "Alarms" in str(told["Step Functions Execution Status Change"]["Arn"])
    assert "Releases" in str(told["SageMaker Model Package State Change"]["Arn"])
    for target in told.values():
        transformer = target["InputTransformer"]
        sentence = json.loads(transformer["InputTemplate"])
        assert all(f"<{name}>" in sentence for name in transformer["InputPathsMap"])
        assert "AnnouncerRole" in str(target["RoleArn"])


def test_rules_watch_this_environment_only(synthesis: Synthesis) -> None:
    for rule in synthesis.of("lifecycle", "AWS::Events::Rule").values():
        watched = json.dumps(rule["EventPattern"]["detail"])
        assert f"byollm-{synthesis.env}" in watched or "ReleaseMachine" in watched


def test_versions_belong_to_one_group(synthesis: Synthesis) -> None:
    for name, action in (
        ("Publish", "Create"),
        ("Approve", "Update"),
        ("SmokeTest", "Describe"),
    ):
        found = allowing(statements(synthesis, "lifecycle", name), f"sagemaker:{action}ModelPackage")
        for resource in found["Resource"]:
            assert f"/byollm-{synthesis.env}" in resolved(resource)
