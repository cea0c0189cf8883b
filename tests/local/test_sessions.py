"""What STS gives out opens the runtime of endpoints, as a task's role does, and nothing else does."""

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.local.running import REGION, Platform

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def refusal(platform: Platform, credentials: dict[str, Any], secret: str) -> str:
    """How a call of an endpoint that does not exist is refused."""
    session = boto3.session.Session(
        credentials["AccessKeyId"], secret, credentials["SessionToken"], region_name=REGION
    )
    runtime = session.client("sagemaker-runtime", endpoint_url=platform.address)
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="nobody", Body=b"{}")
    return str(caught.value.response["Error"]["Code"])


def test_the_credentials_of_a_role_are_verified(platform: Platform) -> None:
    iam = platform.client("iam")
    role = iam.create_role(RoleName="session-test", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    given = platform.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    assert refusal(platform, given, given["SecretAccessKey"]) == "ValidationError"
    assert refusal(platform, given, "another secret") == "InvalidSignatureException"
    unknown = given | {"AccessKeyId": "ASIA0000000000000000"}
    assert refusal(platform, unknown, given["SecretAccessKey"]) == "UnrecognizedClientException"
