"""Functions: one small bundle, traced, limited, encrypted, told what they need in 4 KB."""

import json
from pathlib import Path
from typing import Any

import pytest

from byollm.lifecycle import Deployment
from byollm.settings import EndpointSpec, load_settings
from byollm.settings.endpoint import VariantSpec
from tests.stacks.support import ROOT, Synthesis, resolved, synthesise

INFERENCE = {"endpoint_resource", "reconcile"}
LIFECYCLE = {"approve", "publish", "remediate", "scale_down", "smoke_test"}


def functions(synthesis: Synthesis) -> dict[str, Any]:
    """Every function, by its name without the environment."""
    return {
        each["Properties"]["FunctionName"].removeprefix(f"byollm-{synthesis.env}-"): each["Properties"]
        for _, _, each in synthesis.resources("AWS::Lambda::Function")
    }


def test_each_folder_of_lambdas_is_a_function(synthesis: Synthesis) -> None:
    folders = {path.parent.name for path in (ROOT / "lambdas").glob("*/handler.py")}
    assert set(functions(synthesis)) == folders == INFERENCE | LIFECYCLE
    for name, function in functions(synthesis).items():
        assert function["Handler"] == f"lambdas.{name}.handler.handle"


def test_every_function_is_traced_limited_encrypted_and_loses_nothing(synthesis: Synthesis) -> None:
    for name, function in functions(synthesis).items():
        assert function["TracingConfig"] == {"Mode": "Active"}, name
        assert function["ReservedConcurrentExecutions"] == 1
        assert "Data" in str(function["KmsKeyArn"])
        assert "DeadLetters" in str(function["DeadLetterConfig"])
        assert (function["Runtime"], function["Architectures"]) == ("python3.12", ["arm64"])
        (layer,) = function["Layers"]
        assert "AWSLambdaPowertoolsPythonV3-python312-arm64:" in str(layer), "made for this runtime"


def test_every_function_has_a_role_and_an_encrypted_log_group_of_its_own(synthesis: Synthesis) -> None:
    found = functions(synthesis).values()
    assert len({str(function["Role"]) for function in found}) == len(found)
    groups = {
        each["Properties"]["LogGroupName"]: each["Properties"]
        for _, _, each in synthesis.resources("AWS::Logs::LogGroup")
        if "LogGroupName" in each["Properties"]
    }
    for function in found:
        group = groups[f"/aws/lambda/{function['FunctionName']}"]
        assert group["RetentionInDays"] == load_settings(synthesis.env).aws.log_days
        assert "Logs" in str(group["KmsKeyId"])


def test_dead_letters_are_encrypted_and_come_over_tls(synthesis: Synthesis) -> None:
    for role in ("inference", "lifecycle"):
        policies = {
            policy["Queues"][0]["Ref"]: policy["PolicyDocument"]["Statement"]
            for policy in synthesis.of(role, "AWS::SQS::QueuePolicy").values()
        }
        for name, queue in synthesis.of(role, "AWS::SQS::Queue").items():
            assert "Data" in str(queue["KmsMasterKeyId"])
            assert [each["Condition"] for each in policies[name] if each["Effect"] == "Deny"] == [
                {"Bool": {"aws:SecureTransport": "false"}}
            ]


def test_errors_throttling_and_a_filling_queue_raise_alarms(synthesis: Synthesis) -> None:
    alarms = {
        each["Properties"]["AlarmName"]: each["Properties"]
        for _, _, each in synthesis.resources("AWS::CloudWatch::Alarm")
    }
    for name in functions(synthesis):
        function = f"byollm-{synthesis.env}-{name}"
        assert alarms[f"{function}-errors"]["Threshold"] == 0
        assert alarms[f"{function}-throttles"]["MetricName"] == "Throttles"
        depth = alarms[f"{function}-undelivered"]
        assert depth["Threshold"] == load_settings(synthesis.env).observability.queue_depth == 10
        assert depth["Dimensions"] == [{"Name": "QueueName", "Value": f"{function}-dead"}]


def test_all_functions_are_one_bundle_without_what_it_must_not_carry(dev: Synthesis) -> None:
    (key,) = {json.dumps(function["Code"]["S3Key"]) for function in functions(dev).values()}
    bundle = dev.directory / f"asset.{json.loads(key).removesuffix('.zip')}"
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {"byollm/__init__.py", "byollm/settings/tree.py", "lambdas/publish/handler.py"} <= files
    parts = {"/".join(Path(file).parts[:2]) for file in files if file.startswith("byollm/")}
    assert parts == {"byollm/__init__.py", "byollm/aws", "byollm/lifecycle", "byollm/settings"}
    assert not [file for file in files if not file.endswith(".py")]
    assert sum((bundle / file).stat().st_size for file in files) < 500_000


def deployment(synthesis: Synthesis, name: str) -> str:
    """What a function finds in its environment once CloudFormation has filled it in."""
    return resolved(functions(synthesis)[name]["Environment"]["Variables"]["BYOLLM_DEPLOYMENT"])


def test_every_function_is_told_of_the_declared_endpoint(synthesis: Synthesis) -> None:
    spec = load_settings(synthesis.env).endpoint
    told = {deployment(synthesis, name) for name in INFERENCE}
    (found,) = [Deployment.model_validate_json(text) for text in told]
    assert (found.environment, found.name) == (synthesis.env, f"byollm-{synthesis.env}")
    assert (found.spec, found.package_group) == (spec, f"byollm-{synthesis.env}")
    assert len(found.subnets) == 2
    for name in LIFECYCLE:  # the same, but for what they import from other stacks
        assert Deployment.model_validate_json(deployment(synthesis, name)).spec == spec


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """As many variants as there may be, of which nothing is as it is by default."""
    names = [f"variant-{number}-with-a-rather-long-name-{'x' * 30}" for number in range(8)] + ["a-b", "ab"]
    variants = tuple(VariantSpec(name=name, weight=0.123456) for name in names)
    spec = EndpointSpec(variants=variants, startup_s=3000, weights_gib=7.5, image_cuda="12.4")
    settings = load_settings("dev").model_copy(update={"endpoint": spec})
    return synthesise("dev", tmp_path_factory.mktemp("many"), settings)


def test_the_longest_declaration_fits_into_an_environment(many: Synthesis) -> None:
    for name, function in functions(many).items():
        variables = {key: resolved(value) for key, value in function["Environment"]["Variables"].items()}
        # Names that AWS makes up are longer than those that stand in for them here.
        assert len(json.dumps(variables)) < 3500, name


def test_each_variant_is_watched(many: Synthesis) -> None:
    alarms = many.of("inference", "AWS::CloudWatch::Alarm").values()
    watched = [alarm for alarm in alarms if "-guard-" in alarm["AlarmName"]]
    assert len(watched) == 10 * 5
