"""What boto3 raises is told to people: what was wrong, and what to do."""

import socket
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from byollm.aws import AwsError, Clients, explain, explained
from byollm.settings import ByollmError


def refused(code: str, message: str = "AWS says so.") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateModel")


NOT_ALLOWED = (
    "User: arn:aws:sts::123456789012:assumed-role/dev/me is not authorized to perform: iam:PassRole on "
    "resource: arn:aws:iam::123456789012:role/x because no identity-based policy allows it"
)


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (NoCredentialsError(), "no AWS credentials", "aws sso login"),
        (CredentialRetrievalError(provider="x", error_msg="y"), "no AWS credentials", "AWS_PROFILE"),
        (UnauthorizedSSOTokenError(), "the sign-in to AWS is over", "aws sso login"),
        (ProfileNotFound(profile="prod"), "prod", "aws configure list-profiles"),
        (NoRegionError(), "no AWS region", "aws.region"),
        (refused("ExpiredTokenException"), "have expired", "aws sso login"),
        (refused("UnrecognizedClientException"), "does not know these credentials", "aws configure"),
        (refused("AccessDeniedException", NOT_ALLOWED), "not allowed: iam:PassRole", "IAM policy"),
        (refused("AccessDenied", "Access Denied"), "not allowed: CreateModel", "IAM policy"),
        (refused("ThrottlingException"), "CreateModel: AWS asks to slow down", "Wait a minute"),
        (refused("ResourceLimitExceeded"), "a quota is used up: AWS says so.", "request-quota-increase"),
        (
            refused("ValidationException", "no such image"),
            "CreateModel: no such image",
            "ValidationException",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_says_what_was_wrong_and_what_to_do(error: Any, what: str, remedy: str) -> None:
    text = str(explain(error))
    assert what in text
    assert remedy in text


def test_a_message_of_kilobytes_is_cut() -> None:
    assert len(str(explain(refused("ValidationException", "x" * 100_000)))) < 1100


def test_an_address_where_nothing_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://localhost:{closed.getsockname()[1]}"
        with pytest.raises(AwsError, match=f"(?s)cannot be reached.*{address}.*byollm up"), explained():
            Clients("ca-central-1", address).client("sagemaker").list_models()


def test_what_is_no_error_of_aws_passes() -> None:
    with pytest.raises(KeyError), explained():
        raise KeyError("x")
    assert issubclass(AwsError, ByollmError)
