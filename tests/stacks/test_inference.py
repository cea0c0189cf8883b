"""The endpoint: what it may touch, what the reconciler may do to it, how CloudFormation calls for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from byollm.lifecycle import Deployment
from byollm.settings import load_settings
from stacks.inference import guard_prefix
from stacks.metrics import cores
from tests.stacks.support import Synthesis, resolved, synthesise


def statements(synthesis: Synthesis, role: str, start: str) -> list[dict[str, Any]]:
    """All that the one policy whose name begins so allows."""
    policies = synthesis.of(role, "AWS::IAM::Policy") | synthesis.of(role, "AWS::IAM::ManagedPolicy")
    (policy,) = [policy for name, policy in policies.items() if name.startswith(start)]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def allowing(found: list[dict[str, Any]], action: str) -> dict[str, Any]:
    (statement,) = [each for each in found if action == each["Action"] or action in list(each["Action"])]
    return statement


def test_the_endpoint_reads_models_and_writes_nothing(synthesis: Synthesis) -> None:
    found = statements(synthesis, "inference", "ExecutionRole")
    assert "Models" in str(allowing(found, "s3:GetObject")["Resource"])
    assert "Inference" in str(allowing(found, "ecr:BatchGetImage")["Resource"])
    assert "s3:Put" not in str(found)
    assert "sagemaker:" not in str([each["Action"] for each in found])


def test_the_endpoint_acts_for_this_account_only(synthesis: Synthesis) -> None:
    roles = synthesis.of("inference", "AWS::IAM::Role")
    (role,) = [role for name, role in roles.items() if name.startswith("ExecutionRole")]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_reconciler_changes_this_environment_and_no_other(synthesis: Synthesis) -> None:
    found = statements(synthesis, "inference", "Reconciler")
    ours = f"byollm-{synthesis.env}"
    for action in ("sagemaker:UpdateEndpoint", "sagemaker:DeleteModel", "cloudwatch:PutMetricAlarm"):
        resources = allowing(found, action)["Resource"]
        assert all(ours in resolved(resource) for resource in resources), action
    scaling = allowing(found, "application-autoscaling:RegisterScalableTarget")["Condition"]
    assert scaling["StringEquals"]["application-autoscaling:service-namespace"] == "sagemaker"


def test_a_model_is_made_isolated_and_in_the_private_network(synthesis: Synthesis) -> None:
    found = statements(synthesis, "inference", "Reconciler")
    condition = allowing(found, "sagemaker:CreateModel")["Condition"]
    assert condition["Bool"] == {"sagemaker:NetworkIsolation": "true"}
    place = condition["ForAllValues:StringEquals"]
    assert "privateSubnet" in str(place["sagemaker:VpcSubnets"])
    assert "InferenceGroup" in str(place["sagemaker:VpcSecurityGroupIds"])
    assert condition["Null"] == dict.fromkeys(place, "false"), "an absent list satisfies ForAllValues"


def test_the_reconciler_hands_on_one_role_and_makes_only_the_one_of_scaling(synthesis: Synthesis) -> None:
    found = statements(synthesis, "inference", "Reconciler")
    passed = allowing(found, "iam:PassRole")
    assert "ExecutionRole" in str(passed["Resource"])
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    linked = allowing(found, "iam:CreateServiceLinkedRole")
    assert resolved(linked["Resource"]).endswith("AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert linked["Condition"]["StringEquals"] == {
        "iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"
    }


def test_the_reconciler_may_not_touch_the_alarms_of_the_stack(synthesis: Synthesis) -> None:
    found = statements(synthesis, "inference", "Reconciler")
    resources = [resolved(each) for each in allowing(found, "cloudwatch:DeleteAlarms")["Resource"]]
    (own,) = [each.rpartition(":")[2] for each in resources if "TargetTracking" not in each]
    assert own == f"byollm-{synthesis.env}-endpoint-*"
    prefix = Deployment.model_validate_json(declared(synthesis)).alarm_prefix
    assert own == f"{prefix}*"
    for _, _, alarm in synthesis.resources("AWS::CloudWatch::Alarm"):
        assert not alarm["Properties"]["AlarmName"].startswith(prefix)


def declared(synthesis: Synthesis) -> str:
    (endpoint,) = synthesis.of("inference", "Custom::Endpoint").values()
    return resolved(endpoint["Deployment"])


def test_cloudformation_calls_the_reconciler_when_the_declaration_changes(synthesis: Synthesis) -> None:
    (endpoint,) = synthesis.of("inference", "Custom::Endpoint").values()
    assert "EndpointResource" in str(endpoint["ServiceToken"])
    assert Deployment.model_validate_json(declared(synthesis)).spec == load_settings(synthesis.env).endpoint


def test_an_endpoint_without_gpus_is_declared_without_their_host_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BYOLLM__ENDPOINT__INSTANCE_TYPE", "ml.m7i.2xlarge")
    monkeypatch.setenv("BYOLLM__ENDPOINT__HOST_IMAGE", "null")
    synthesis = synthesise("dev", tmp_path)
    assert Deployment.model_validate_json(declared(synthesis)).spec == load_settings("dev").endpoint


def test_the_group_of_versions_is_there_before_the_endpoint_is_asked_for(synthesis: Synthesis) -> None:
    manifest = json.loads((synthesis.directory / "manifest.json").read_text())["artifacts"]
    prefix = f"byollm-{synthesis.env}"
    assert f"{prefix}-training" in manifest[f"{prefix}-inference"]["dependencies"]


def test_the_endpoint_goes_before_anything_it_needs(synthesis: Synthesis) -> None:
    """CloudFormation deletes what depends on something before it."""
    resources = synthesis.templates["inference"]["Resources"]
    (endpoint,) = [each for each in resources.values() if each["Type"] == "Custom::Endpoint"]
    needed = {name[:-8] for name in endpoint["DependsOn"]}
    assert {"ExecutionRole", "ExecutionRoleDefaultPolicy", "Reconciler"} <= needed
    assert {"EndpointLogs", "ComponentLogs"} <= needed
    (function,) = [
        each
        for each in resources.values()
        if each["Type"] == "AWS::Lambda::Function" and "endpoint_resource" in str(each)
    ]
    assert any(name.startswith("EndpointResourceRole") for name in function["DependsOn"])


def test_only_the_resource_function_calls_itself(synthesis: Synthesis) -> None:
    found = statements(synthesis, "inference", "EndpointResource")
    resource = resolved(allowing(found, "lambda:InvokeFunction")["Resource"])
    assert resource.endswith(f":function:byollm-{synthesis.env}-endpoint_resource")
    assert "lambda:" not in str(statements(synthesis, "inference", "ReconcileRole"))


def test_logs_of_the_endpoint_are_encrypted_and_expire(synthesis: Synthesis) -> None:
    groups = {
        group["LogGroupName"]: group for group in synthesis.of("inference", "AWS::Logs::LogGroup").values()
    }
    for name in (
        f"/aws/sagemaker/Endpoints/byollm-{synthesis.env}",
        f"/aws/sagemaker/InferenceComponents/byollm-{synthesis.env}-main",
    ):
        assert "Logs" in str(groups[name]["KmsKeyId"])
        assert groups[name]["RetentionInDays"] == load_settings(synthesis.env).aws.log_days


def test_the_endpoint_is_watched(synthesis: Synthesis) -> None:
    settings = load_settings(synthesis.env)
    prefix = f"{guard_prefix(synthesis.env)}main-"
    alarms = {
        alarm["AlarmName"].removeprefix(prefix): alarm
        for alarm in synthesis.of("inference", "AWS::CloudWatch::Alarm").values()
        if alarm["AlarmName"].startswith(prefix)
    }
    limits = {name: alarm["Threshold"] for name, alarm in alarms.items()}
    assert limits == {
        "cpu": 80 * 16,  # the metric counts each of the 16 CPUs of an ml.g5.4xlarge as 100
        "memory": 85,
        "errors": 0.05,
        "latency": 10_000_000,
        "health": 0.5,
    }
    by_component = settings.endpoint.hosting == "component"
    (dimension, *_) = alarms["errors"]["Dimensions"]
    assert dimension["Name"] == ("InferenceComponentName" if by_component else "EndpointName")
    for alarm in alarms.values():
        assert "Alarms" in str(alarm["AlarmActions"])


def test_every_cpu_of_an_instance_counts() -> None:
    types = ("ml.c7i.xlarge", "ml.g5.4xlarge", "ml.p4d.24xlarge")
    assert [cores(each) for each in types] == [4, 16, 96]


def test_a_declaration_is_plain_json(synthesis: Synthesis) -> None:
    assert set(json.loads(declared(synthesis))) <= set(Deployment.model_fields)
