"""Clients are made once, from one setting; lists come whole; what is absent is None."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from byollm.aws import Clients, is_absent, listed, one
from byollm.settings import AwsSettings


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


def test_threads_share_one_client_of_the_environment() -> None:
    settings = AwsSettings(region="eu-west-1", endpoint_url="http://localhost:4566")
    clients = Clients.of(settings)
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(clients.client, ["sqs"] * 8))
    (client,) = made
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.endpoint_url == "http://localhost:4566"


def test_botos_own_variable_names_the_address_where_the_setting_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:4599")
    assert Clients("ca-central-1").client("sqs").meta.endpoint_url == "http://localhost:4599"


def test_a_call_is_tried_again_and_waits_for_the_slowest_answer() -> None:
    config = Clients("ca-central-1").client("sqs").meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert config.read_timeout > 60  # what an endpoint may take
    assert config.connect_timeout < 10


@mock_aws
def test_a_list_of_several_pages_comes_whole() -> None:
    s3 = Clients("us-east-1").client("s3")
    s3.create_bucket(Bucket="many")
    for number in range(5):
        s3.put_object(Bucket="many", Key=str(number))
    keys = listed(s3, "list_objects_v2", "Contents", Bucket="many", PaginationConfig={"PageSize": 2})
    assert [found["Key"] for found in keys] == ["0", "1", "2", "3", "4"]
    assert list(listed(s3, "list_objects_v2", "Contents", Bucket="many", Prefix="none")) == []


@mock_aws
def test_what_is_not_there_is_none_and_other_refusals_are_errors() -> None:
    s3 = Clients("us-east-1").client("s3")
    s3.create_bucket(Bucket="bucket")
    assert one(s3.head_object, Bucket="bucket", Key="absent") is None
    s3.put_object(Bucket="bucket", Key="there", Body=b"x")
    found = one(s3.head_object, Bucket="bucket", Key="there")
    assert found is not None
    assert found["ContentLength"] == 1
    with pytest.raises(ClientError):
        one(s3.get_object, Bucket="bucket", Key="there", IfMatch='"another"')


@pytest.mark.parametrize(
    ("code", "message", "absent"),
    [
        ("ValidationException", 'Could not find endpoint "arn".', True),
        ("ResourceNotFound", "", True),
        ("ObjectNotFoundException", "No scalable target found", True),
        ("ValidationException", "1 validation error detected", False),
        ("AccessDeniedException", "Could not find", False),
    ],
)
def test_absence_is_told_from_other_faults(code: str, message: str, absent: bool) -> None:
    error = ClientError({"Error": {"Code": code, "Message": message}}, "DescribeEndpoint")
    assert is_absent(error) is absent
