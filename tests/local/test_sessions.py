"""What STS gives out opens the runtime of endpoints, as a task's role does, and nothing else does."""

import io
import json
import zipfile
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


FUNCTION = """
import boto3
def handle(event, context):
    runtime = boto3.client("sagemaker-runtime")
    try:
        runtime.invoke_endpoint(EndpointName="nobody", Body=b"{}")
    except runtime.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
"""


def test_what_a_function_signs_is_verified(platform: Platform) -> None:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", FUNCTION)
    functions = platform.client("lambda")
    functions.create_function(
        FunctionName="signer",
        Runtime="python3.12",
        Handler="index.handle",
        Role="arn:aws:iam::123456789012:role/any",
        Code={"ZipFile": code.getvalue()},
        Timeout=60,
    )
    answer = functions.invoke(FunctionName="signer")
    assert json.loads(answer["Payload"].read()) == "ValidationError"
