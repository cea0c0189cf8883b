"""What is remembered outlives the processes, and two worlds do not meet."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.local.running import Mortal, Platform, eventually
from tests.local.test_functions import bundle


def children(platform: Platform) -> list[int]:
    return [child.pid for child in psutil.Process(platform.process.pid).children(recursive=True)]


def gone(pids: list[int]) -> bool:
    return not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_of_ministack(platform: Platform) -> int:
    for child in psutil.Process(platform.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # others end meanwhile
            if "byollm.local.ministack" in child.cmdline():
                return child.pid
    raise AssertionError("ministack does not run")


def text_of(file: Path) -> str:
    """What a file says; nothing where it is missing, as while another takes its place."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


HANDLER = """
    import json, urllib.request, boto3

    def handle(event, context):
        ssm = boto3.client("ssm")
        try:
            ssm.get_parameter(Name="asked")
        except ssm.exceptions.ParameterNotFound:
            ssm.put_parameter(Name="asked", Value="once", Type="String")
            return  # who asks first is not answered
        body = {"Status": "SUCCESS", "PhysicalResourceId": "slow", "Data": {"Said": "done"}}
        for name in ("StackId", "RequestId", "LogicalResourceId"):
            body[name] = event[name]
        request = urllib.request.Request(event["ResponseURL"], json.dumps(body).encode(), method="PUT")
        urllib.request.urlopen(request)
"""

FUNCTION = "arn:aws:lambda:ca-central-1:123456789012:function:slow"
STACK = {
    "Resources": {
        "Before": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "made-before"}},
        "Slow": {"Type": "Custom::Slow", "DependsOn": "Before", "Properties": {"ServiceToken": FUNCTION}},
        "After": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": "after", "Type": "String", "Value": {"Fn::GetAtt": ["Slow", "Said"]}},
        },
    }
}


def test_state_and_a_deployment_under_way_survive_a_kill(mortal: Mortal) -> None:
    platform = mortal.platform
    s3, cloud = platform.client("s3"), platform.client("cloudformation")
    s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "ca-central-1"})
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    versions = [s3.put_object(Bucket="kept", Key="k", Body=body)["VersionId"] for body in (b"one", b"two")]
    platform.client("lambda").create_function(
        FunctionName="slow",
        Runtime="python3.12",
        Handler="handler.handle",
        Role="arn:aws:iam::123456789012:role/slow",
        Code={"ZipFile": bundle(handler=HANDLER)},
        Timeout=60,
    )
    cloud.create_stack(StackName="slow", TemplateBody=json.dumps(STACK))

    def asked() -> bool:
        found = platform.client("ssm").describe_parameters()["Parameters"]
        return "asked" in [parameter["Name"] for parameter in found]

    eventually(asked, 60)
    left = children(platform)
    mortal.kill()
    mortal.start()  # which waits for what its children save, as they end with it
    eventually(lambda: gone(left))
    bodies = [s3.get_object(Bucket="kept", Key="k", VersionId=version)["Body"].read() for version in versions]
    assert bodies == [b"one", b"two"]

    def complete() -> bool:
        status: str = cloud.describe_stacks(StackName="slow")["Stacks"][0]["StackStatus"]
        assert "ROLLBACK" not in status
        return status == "UPDATE_COMPLETE"

    eventually(complete, 60)
    made = platform.client("ssm").get_parameter(Name="after")["Parameter"]
    assert made["Value"] == "done"
    assert len(platform.client("sns").list_topics()["Topics"]) == 1


def test_a_killed_ministack_comes_back_with_what_it_knew(mortal: Mortal) -> None:
    platform = mortal.platform
    platform.client("ssm").put_parameter(Name="kept", Value="yes", Type="String")
    state = platform.directory / "ministack" / "state" / "ssm.json"
    eventually(lambda: '"yes"' in text_of(state))
    logs, place = platform.client("logs"), {"logGroupName": "kept", "logStreamName": "s"}
    logs.create_log_group(logGroupName="kept")
    logs.create_log_stream(**place)
    logs.put_log_events(**place, logEvents=[{"timestamp": round(time.time() * 1000), "message": "said"}])
    os.kill(process_of_ministack(platform), signal.SIGKILL)

    def back() -> bool:
        try:
            value = platform.client("ssm").get_parameter(Name="kept")["Parameter"]["Value"]
        except ClientError:
            return False
        return bool(value == "yes")

    eventually(back)
    assert [event["message"] for event in logs.get_log_events(**place)["events"]] == ["said"]


def test_two_worlds_side_by_side_share_nothing(platform: Platform, mortal: Mortal) -> None:
    platform.client("ssm").put_parameter(Name="ours", Value="1", Type="String", Overwrite=True)
    with pytest.raises(ClientError, match="ParameterNotFound"):
        mortal.platform.client("ssm").get_parameter(Name="ours")
