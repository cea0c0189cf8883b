"""The CDK is told of a stack when it has come to its end; who else asks is answered at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from byollm.local.world import ACCESS_KEY, SECRET_KEY
from tests.local import patient
from tests.local.running import REGION, Platform, eventually

STACK = {
    "Resources": {
        "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Signal": {
            "Type": "AWS::CloudFormation::WaitCondition",
            "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "600"},
        },
    }
}


def as_cdk(platform: Platform) -> Any:
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    named = Config(user_agent_extra="aws-cdk/2.1148.1")
    return session.client("cloudformation", endpoint_url=platform.address, config=named)


def status(cloud: Any, stack: str) -> str:
    return str(cloud.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])


def test_the_cdk_is_answered_when_the_stack_stands(platform: Platform) -> None:
    cloud = platform.client("cloudformation")
    stack = cloud.create_stack(StackName="signalled", TemplateBody=json.dumps(STACK))["StackId"]

    def waits() -> bool:
        resources = cloud.describe_stack_resources(StackName=stack)["StackResources"]
        return "Handle" in [each["LogicalResourceId"] for each in resources if each.get("PhysicalResourceId")]

    eventually(waits)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(status, as_cdk(platform), stack)
        assert status(cloud, stack) == "CREATE_IN_PROGRESS"
        handle = cloud.describe_stack_resource(StackName=stack, LogicalResourceId="Handle")
        signal = {"Status": "SUCCESS", "UniqueId": "1", "Data": "", "Reason": ""}
        address = handle["StackResourceDetail"]["PhysicalResourceId"]
        patient.put(address, content=json.dumps(signal)).raise_for_status()
        assert asked.result() == "CREATE_COMPLETE"
    cloud.delete_stack(StackName=stack)
    cloud.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
