"""Jobs touch what they are for, and can be started only isolated, in the private network and encrypted."""

from typing import Any

from tests.stacks.support import Synthesis


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
    assert set(condition["ArnEquals"]) == {"sagemaker:OutputKmsKey", "sagemaker:VolumeKmsKey"}


def test_only_the_job_role_is_handed_on_and_only_to_sagemaker(synthesis: Synthesis) -> None:
    launch = statements(synthesis, "AWS::IAM::ManagedPolicy", "Launch")
    passed = allowing(launch, "iam:PassRole")
    assert "JobRole" in str(passed["Resource"])
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_model_versions_have_a_group_for_each_environment(synthesis: Synthesis) -> None:
    (group,) = synthesis.of("training", "AWS::SageMaker::ModelPackageGroup").values()
    assert group["ModelPackageGroupName"] == f"byollm-{synthesis.env}"
