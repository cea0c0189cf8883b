"""Training jobs with an unmodified boto3: real processes, real files in S3, a real loss of the instance."""

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from byollm.local.world import World
from tests.local import patient
from tests.local.front import Front
from tests.local.running import eventually

IMAGE = "byollm-dev/training@sha256:0123"
BUCKET = "byollm-training"
ROLE = "arn:aws:iam::123456789012:role/byollm-dev-job"


def services(world: World) -> dict[str, Any]:
    images = {IMAGE: [sys.executable, str(Path(__file__).with_name("trainer.py"))]}
    (world.directory / "images.json").write_text(json.dumps(images))
    return {"sagemaker": SageMaker(world, Containers(world))}


@pytest.fixture(scope="module")
def world(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with front(tmp_path_factory.mktemp("training"), services, factor=60) as world:
        region = {"LocationConstraint": world.region}
        world.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=region)
        yield world


@pytest.fixture
def client(world: World) -> Any:
    return world.client("sagemaker")


@pytest.fixture
def s3(world: World) -> Any:
    return world.client("s3")


@pytest.fixture
def job(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("_", "-")[5:60].strip("-")


def request(name: str, /, hyperparameters: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "HyperParameters": hyperparameters or {},
        "AlgorithmSpecification": {"TrainingImage": f"registry.local/{IMAGE}", "TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/output"},
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
        **more,
    }


LONG_ONCE = {"steps": "1000", "pause": "0.1", "pause_when_resumed": "0"}
"""Until it is interrupted there is time for anything; then it ends at once."""

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
}


def ended(client: Any, name: str) -> dict[str, Any]:
    client.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
    )
    described: dict[str, Any] = client.describe_training_job(TrainingJobName=name)
    return described


def outcome(client: Any, name: str) -> dict[str, Any]:
    """Wait for the end, whatever it is."""
    described: dict[str, Any] = {}

    def over() -> bool:
        described.update(client.describe_training_job(TrainingJobName=name))
        return described["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")

    eventually(over)
    return described


def unpacked(s3: Any, key: str) -> dict[str, str]:
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        members = [member for member in packed.getmembers() if member.isfile()]
        return {
            member.name.removeprefix("./"): packed.extractfile(member).read().decode() for member in members
        }


def in_s3(s3: Any, key: str) -> str | None:
    try:
        text: str = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
    except s3.exceptions.NoSuchKey:
        return None
    return text


def trains(client: Any, name: str) -> bool:
    return bool(client.describe_training_job(TrainingJobName=name)["SecondaryStatus"] == "Training")


def interrupt(world: World, name: str) -> httpx.Response:
    # Behind the front door this is reached without a signature; here by the signature's service alone.
    signed = {
        "authorization": f"AWS4-HMAC-SHA256 Credential=a/20260101/{world.region}/sagemaker/aws4_request"
    }
    address = f"{world.address}/_byollm/sagemaker/training-jobs/{name}/interrupt"
    return patient.post(address, headers=signed)


def test_a_job_gets_its_inputs_and_leaves_a_model(world: World, client: Any, s3: Any, job: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="corpus/train/a/1.txt", Body=b"one")
    s3.put_object(Bucket=BUCKET, Key="corpus/train/2.txt", Body=b"two")
    s3.put_object(Bucket=BUCKET, Key="corpus/settings.json", Body=b"{}")
    channels = {"train": ("corpus/train/", "File"), "settings": ("corpus/settings.json", "FastFile")}
    algorithm = {
        "TrainingImage": f"registry.local/{IMAGE}",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": r"loss: ([0-9.]+)"}],
    }
    client.create_training_job(
        **request(job, {"steps": "4"}, AlgorithmSpecification=algorithm, Environment={"COLOUR": "blue"}),
        InputDataConfig=[
            {
                "ChannelName": name,
                "InputMode": mode,
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{key}"}},
            }
            for name, (key, mode) in channels.items()
        ],
        Tags=[{"Key": "byollm:environment", "Value": "dev"}],
    )
    described = ended(client, job)
    assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Completed"
    assert [step["Status"] for step in described["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert (
        described["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/output/{job}/output/model.tar.gz"
    )
    assert unpacked(s3, f"output/{job}/output/model.tar.gz") == {"weights": "step 4"}
    seen = json.loads(unpacked(s3, f"output/{job}/output/output.tar.gz")["seen-127.0.0.1.json"])
    assert seen["inputs"] == {"settings/settings.json": "{}", "train/2.txt": "two", "train/a/1.txt": "one"}
    assert seen["config"]["hyperparameters"] == {"steps": "4"}
    assert seen["config"]["inputdataconfig"]["train"]["TrainingInputMode"] == "File"
    assert seen["environment"]["TRAINING_JOB_NAME"] == job
    assert seen["environment"]["COLOUR"] == "blue"
    assert [(one["MetricName"], one["Value"]) for one in described["FinalMetricDataList"]] == [("loss", 0.25)]
    assert described["BillableTimeInSeconds"] == described["TrainingTimeInSeconds"]
    assert client.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"][0]["Value"] == "dev"


def test_what_a_job_writes_is_logged_and_measured(world: World, client: Any, job: str) -> None:
    algorithm = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "steps", "Regex": r"step (\d+) "}],
    }
    client.create_training_job(**request(job, {"steps": "5"}, AlgorithmSpecification=algorithm))
    described = ended(client, job)
    logs, group = world.client("logs"), {"logGroupName": "/aws/sagemaker/TrainingJobs"}

    def said() -> list[str]:
        try:
            streams = logs.describe_log_streams(**group, logStreamNamePrefix=f"{job}/algo-1-")["logStreams"]
        except logs.exceptions.ResourceNotFoundException:  # what jobs write is under way
            return []
        found = [
            logs.get_log_events(**group, logStreamName=one["logStreamName"], startFromHead=True)
            for one in streams
        ]
        return [event["message"] for one in found for event in one["events"]]

    eventually(lambda: said()[:2] == ["begin at 0", "step 1 loss: 1.0000"] and len(said()) >= 6)
    minute = timedelta(minutes=10)

    def measured() -> bool:
        points = world.client("cloudwatch").get_metric_statistics(
            Namespace="/aws/sagemaker/TrainingJobs",
            MetricName="steps",
            Dimensions=[{"Name": "TrainingJobName", "Value": job}],
            StartTime=described["CreationTime"] - minute,
            EndTime=described["TrainingEndTime"] + minute,
            Period=3600,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max((point["Maximum"] for point in points), default=0) == 5

    eventually(measured)


def test_what_a_container_says_of_its_failure_is_told(client: Any, s3: Any, job: str) -> None:
    client.create_training_job(**request(job, {"exit": "3", "failure": "the loss is not a number"}))
    described = outcome(client, job)
    assert described["TrainingJobStatus"] == "Failed"
    assert described["FailureReason"] == "AlgorithmError: the loss is not a number, exit code: 3"
    assert in_s3(s3, f"output/{job}/output/model.tar.gz") is None


def test_a_container_that_fails_without_a_word_is_told_of(client: Any, job: str) -> None:
    client.create_training_job(**request(job, {"exit": "1"}))
    reason = outcome(client, job)["FailureReason"]
    assert reason.startswith("AlgorithmError: nothing was written to /opt/ml/output/failure")
    assert reason.endswith("exit code: 1")


def test_a_stopped_job_keeps_the_model_that_it_saves_in_time(client: Any, s3: Any, job: str) -> None:
    client.create_training_job(**request(job, {"steps": "100000", "pause": "0.05"}))
    eventually(lambda: in_s3(s3, f"checkpoints/{job}/step") is not None)
    client.stop_training_job(TrainingJobName=job)
    described = ended(client, job)
    assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Stopped"
    assert unpacked(s3, f"output/{job}/output/model.tar.gz")["weights"].startswith("step ")
    with pytest.raises(ClientError, match="training job is in status Stopped"):
        client.stop_training_job(TrainingJobName=job)


def test_a_job_that_does_not_follow_sigterm_is_killed(
    client: Any, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byollm.local.sagemaker.training_run.GRACE_S", 0.5)
    client.create_training_job(**request(job, {"steps": "100000", "pause": "0.05", "stubborn": "yes"}))
    eventually(lambda: trains(client, job))
    client.stop_training_job(TrainingJobName=job)
    assert ended(client, job)["TrainingJobStatus"] == "Stopped"


def test_a_job_ends_when_its_time_is_over(client: Any, s3: Any, job: str) -> None:
    limits = {"MaxRuntimeInSeconds": 480}  # in which the container comes to heed SIGTERM
    client.create_training_job(**request(job, {"steps": "100000", "pause": "0.05"}, StoppingCondition=limits))
    described = ended(client, job)
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert unpacked(s3, f"output/{job}/output/model.tar.gz")["weights"].startswith("step ")


def test_a_spot_job_goes_on_from_its_checkpoint_after_an_interruption(
    world: World, client: Any, s3: Any, job: str
) -> None:
    client.create_training_job(**request(job, LONG_ONCE, **SPOT))
    eventually(lambda: int(in_s3(s3, f"checkpoints/{job}/step") or 0) > 5)
    assert interrupt(world, job).status_code == 202
    described = ended(client, job)
    assert interrupt(world, job).status_code == 409
    assert [step["Status"] for step in described["SecondaryStatusTransitions"]] == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    assert described["BillableTimeInSeconds"] < described["TrainingTimeInSeconds"]
    assert unpacked(s3, f"output/{job}/output/model.tar.gz") == {"weights": "step 1000"}
    logs = sorted((world.directory / "logs/aws/sagemaker/TrainingJobs").glob(f"{job}-algo-1-*.log"))
    first, second = (int(log.read_text().split()[3]) for log in logs)  # "<time> begin at …"
    assert first == 0
    assert second > 5


def test_waiting_for_spot_instances_ends_with_its_time(world: World, client: Any, job: str) -> None:
    limits = {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 100}
    more = {**SPOT, "StoppingCondition": limits, "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/c/{job}"}}
    client.create_training_job(**request(job, {"steps": "100000", "pause": "0.05"}, **more))
    described: dict[str, Any] = {}
    while described.get("TrainingJobStatus", "InProgress") == "InProgress":
        interrupt(world, job)
        described = client.describe_training_job(TrainingJobName=job)
    assert (ended(client, job)["SecondaryStatus"]) == "MaxWaitTimeExceeded"


def test_a_model_can_be_left_uncompressed(client: Any, s3: Any, job: str) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/output/", "CompressionType": "NONE"}
    client.create_training_job(**request(job, OutputDataConfig=output))
    described = ended(client, job)
    assert described["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/output/{job}/output/model/"
    assert in_s3(s3, f"output/{job}/output/model/weights") == "step 3"
    assert in_s3(s3, f"output/{job}/output/data/seen-127.0.0.1.json") is not None


def test_several_instances_know_each_other_and_share_the_data(client: Any, s3: Any, job: str) -> None:
    for number in range(4):
        s3.put_object(Bucket=BUCKET, Key=f"shards/{number}", Body=b"x")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/shards"}
    client.create_training_job(
        **request(
            job, ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
        ),
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {**source, "S3DataDistributionType": "ShardedByS3Key"}},
            }
        ],
    )
    assert ended(client, job)["TrainingJobStatus"] == "Completed"
    output = unpacked(s3, f"output/{job}/output/output.tar.gz")
    seen = [json.loads(output[f"seen-127.0.0.{number}.json"]) for number in (1, 2)]
    assert [sorted(one["inputs"]) for one in seen] == [["train/0", "train/2"], ["train/1", "train/3"]]
    assert all(one["config"]["resourceconfig"]["hosts"] == ["127.0.0.1", "127.0.0.2"] for one in seen)


def test_a_job_without_data_fails_with_the_place_that_is_empty(client: Any, job: str) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/nothing/here/"}
    client.create_training_job(
        **request(job), InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}]
    )
    reason = outcome(client, job)["FailureReason"]
    assert reason.startswith("ClientError: Data download failed:No S3 objects found under S3 URL")
    assert f"s3://{BUCKET}/nothing/here/" in reason


def test_a_job_without_a_bucket_for_its_model_does_not_train(world: World, client: Any, job: str) -> None:
    output = {"S3OutputPath": "s3://byollm-nobodys-bucket/output"}
    client.create_training_job(**request(job, OutputDataConfig=output))
    described = outcome(client, job)
    assert "S3OutputPath s3://byollm-nobodys-bucket/output cannot be written to" in described["FailureReason"]
    assert "Training" not in [one["Status"] for one in described["SecondaryStatusTransitions"]]


def test_jobs_are_listed(client: Any) -> None:
    names = [f"listed-{number}" for number in range(3)]
    for name in names:
        client.create_training_job(**request(name))
    for name in names:
        ended(client, name)
    listed = client.list_training_jobs(
        NameContains="listed-", StatusEquals="Completed", SortBy="CreationTime", SortOrder="Ascending"
    )["TrainingJobSummaries"]
    assert [one["TrainingJobName"] for one in listed] == names


def test_what_cannot_be_is_refused_before_anything_starts(world: World, client: Any, job: str) -> None:
    def refused(text: str, **more: Any) -> None:
        with pytest.raises(ClientError, match=text):
            client.create_training_job(**request(job, **more))

    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
    instance = {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    refused("Pipe is not emulated", AlgorithmSpecification={**algorithm, "TrainingInputMode": "Pipe"})
    refused("image .* not found", AlgorithmSpecification={**algorithm, "TrainingImage": "other@sha256:1"})
    refused("DebugHookConfig is not emulated", DebugHookConfig={"S3OutputPath": "s3://b/d"})
    refused("at 'resourceConfig.instanceType'", ResourceConfig={**instance, "InstanceType": "ml.huge"})
    refused("service limit", ResourceConfig={**instance, "InstanceCount": 99})
    refused("Invalid MaxWaitTimeInSeconds", EnableManagedSpotTraining=True)
    refused("for managed spot training only", StoppingCondition=SPOT["StoppingCondition"])
    refused("below /opt/ml", CheckpointConfig={"S3Uri": f"s3://{BUCKET}/c", "LocalPath": "/data"})
    refused("S3OutputPath: 'output' is not of the form", OutputDataConfig={"S3OutputPath": "output"})
    broken = [{"Name": "loss", "Regex": "("}]
    refused("Regex of metric loss", AlgorithmSpecification={**algorithm, "MetricDefinitions": broken})
    with pytest.raises(ClientError, match="Requested resource not found"):
        client.describe_training_job(TrainingJobName=job)
    client.create_training_job(**request(job))
    with pytest.raises(ClientError, match="must be unique") as caught:
        client.create_training_job(**request(job))
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    ended(client, job)
    assert interrupt(world, job).status_code == 409
    assert interrupt(world, "none").status_code == 404
