"""Jobs touch what they are for, and can be started only isolated, in the private network and encrypted."""

import json
from typing import Any

import pytest
from botocore import session, validate

from byollm.settings import JobsSettings, load_settings
from tests.stacks.support import Synthesis, resolved, synthesise


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """Jobs on instances with disks built in and without, on capacity that nobody takes away."""
    jobs = JobsSettings(instance_types=("ml.g5.2xlarge", "ml.m7i.4xlarge"), spot=False)
    settings = load_settings("dev").model_copy(update={"jobs": jobs})
    return synthesise("dev", tmp_path_factory.mktemp("mixed"), settings)


def statements(synthesis: Synthesis, type: str, start: str) -> list[dict[str, Any]]:
    """The statements of the one policy of a type whose name begins so."""
    (policy,) = [policy for name, policy in synthesis.of("training", type).items() if name.startswith(start)]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def allowing(found: list[dict[str, Any]], action: str) -> dict[str, Any]:
    (statement,) = [each for each in found if action in each["Action"]]
    return statement


def test_a_job_writes_to_the_artefacts_only(synthesis: Synthesis) -> None:
    job = statements(synthesis, "AWS::IAM::Policy", "JobRole")
    assert "Artefacts" in str(allowing(job, "s3:PutObject")["Resource"])
    assert "Models" not in str(allowing(job, "s3:PutObject")["Resource"])
    read = str(allowing(job, "s3:GetObject")["Resource"])
    assert all(name in read for name in ("Data", "Models", "Artefacts"))
    assert not any("sagemaker:" in str(each["Action"]) or "iam:" in str(each["Action"]) for each in job)


def test_a_job_pulls_the_training_image_and_no_other(synthesis: Synthesis) -> None:
    job = statements(synthesis, "AWS::IAM::Policy", "JobRole")
    resource = str(allowing(job, "ecr:BatchGetImage")["Resource"])
    assert "Training" in resource
    assert "Inference" not in resource


def test_a_job_acts_for_this_account_only(synthesis: Synthesis) -> None:
    (role,) = synthesis.of("training", "AWS::IAM::Role").values()
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_a_job_starts_isolated_in_the_private_network_and_encrypted(synthesis: Synthesis) -> None:
    launch = statements(synthesis, "AWS::IAM::ManagedPolicy", "Launch")
    condition = allowing(launch, "sagemaker:CreateTrainingJob")["Condition"]
    assert condition["Bool"] == {"sagemaker:NetworkIsolation": "true"}
    place = condition["ForAllValues:StringEquals"]
    assert len(place["sagemaker:VpcSubnets"]) == 2
    assert all("privateSubnet" in str(subnet) for subnet in place["sagemaker:VpcSubnets"])
    assert "TrainingGroup" in str(place["sagemaker:VpcSecurityGroupIds"])
    assert condition["Null"] == dict.fromkeys(place, "false"), "an absent list satisfies ForAllValues"
    assert "sagemaker:OutputKmsKey" in condition["ArnEquals"]


def test_a_job_runs_on_the_instances_of_the_settings_and_not_for_ever(synthesis: Synthesis) -> None:
    jobs = load_settings(synthesis.env).jobs
    launch = statements(synthesis, "AWS::IAM::ManagedPolicy", "Launch")
    condition = allowing(launch, "sagemaker:CreateTrainingJob")["Condition"]
    types = condition["ForAllValues:StringEquals"]["sagemaker:InstanceTypes"]
    assert types == list(jobs.instance_types)
    assert condition["NumericLessThanEquals"] == {"sagemaker:MaxRuntimeInSeconds": jobs.run_s}


def test_disks_are_encrypted_with_our_key_where_they_are_not_built_in(mixed: Synthesis) -> None:
    launch = statements(mixed, "AWS::IAM::ManagedPolicy", "Launch")
    conditions = [each["Condition"] for each in launch if each["Action"] == "sagemaker:CreateTrainingJob"]
    keys = {
        str(each["ForAllValues:StringEquals"]["sagemaker:InstanceTypes"]): set(each["ArnEquals"])
        for each in conditions
    }
    assert keys == {
        "['ml.g5.2xlarge']": {"sagemaker:OutputKmsKey"},
        "['ml.m7i.4xlarge']": {"sagemaker:OutputKmsKey", "sagemaker:VolumeKmsKey"},
    }
    with_key = ["VolumeKmsKeyId" in each for each in start(mixed)["instances"]]
    assert with_key == [False, True]


def start(synthesis: Synthesis) -> dict[str, Any]:
    """How jobs are started, with a word in place of what CloudFormation fills in."""
    (parameter,) = synthesis.of("training", "AWS::SSM::Parameter").values()
    assert parameter["Name"] == f"/byollm/{synthesis.env}/training-job"
    found: dict[str, Any] = json.loads(resolved(parameter["Value"]))
    return found


def test_a_job_runs_on_spare_capacity_and_is_resumed_from_checkpoints(synthesis: Synthesis) -> None:
    job, jobs = start(synthesis)["job"], load_settings(synthesis.env).jobs
    assert job["EnableManagedSpotTraining"] is True
    assert "Artefacts" in job["CheckpointConfig"]["S3Uri"]
    stopping = job["StoppingCondition"]
    assert stopping == {"MaxRuntimeInSeconds": jobs.run_s, "MaxWaitTimeInSeconds": jobs.wait_s}


def test_without_spot_a_job_waits_for_nothing(mixed: Synthesis) -> None:
    job = start(mixed)["job"]
    assert job["EnableManagedSpotTraining"] is False
    assert "MaxWaitTimeInSeconds" not in job["StoppingCondition"], "SageMaker takes it with spot only"


def test_sagemaker_takes_a_job_that_is_started_so(synthesis: Synthesis) -> None:
    start_with = start(synthesis)
    shape = (
        session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    )
    for instance in start_with["instances"]:
        request = start_with["job"] | {
            "TrainingJobName": f"byollm-{synthesis.env}-1",
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
            "ResourceConfig": instance,
        }
        assert not validate.ParamValidator().validate(request, shape).has_errors()


def test_only_the_job_role_is_handed_on_and_only_to_sagemaker(synthesis: Synthesis) -> None:
    launch = statements(synthesis, "AWS::IAM::ManagedPolicy", "Launch")
    passed = allowing(launch, "iam:PassRole")
    assert "JobRole" in str(passed["Resource"])
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_model_versions_have_a_group_for_each_environment(synthesis: Synthesis) -> None:
    (group,) = synthesis.of("training", "AWS::SageMaker::ModelPackageGroup").values()
    assert group["ModelPackageGroupName"] == f"byollm-{synthesis.env}"
