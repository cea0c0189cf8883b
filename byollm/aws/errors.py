"""What AWS and boto3 refuse with, told to people: what was wrong, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from byollm.settings.errors import ByollmError

LONGEST = 1000
"""Characters of a message; some of AWS's carry kilobytes of encoded policy."""

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN = {
    "AuthFailure",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"}
THROTTLED = {
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
QUOTA = {"LimitExceeded", "LimitExceededException", "ResourceLimitExceeded", "ServiceQuotaExceededException"}

SIGN_IN = "Sign in again: `aws sso login`, or `aws configure`, or set AWS_PROFILE"


class AwsError(ByollmError):
    """AWS refused a call, or could not be reached."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn what boto3 raises inside into an `AwsError`; as a decorator, inside a function."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise explain(error) from error
    except Boto3Error as error:  # what moves whole files raises its own, amid handling the other
        cause = error.__context__
        told = explain(cause) if isinstance(cause, BotoCoreError | ClientError) else AwsError(str(error))
        raise told from error


def explain(error: BotoCoreError | ClientError) -> AwsError:
    """Say what was wrong and what to do about it."""
    text = _refused(error) if isinstance(error, ClientError) else _failed(error)
    return AwsError(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def _failed(error: BotoCoreError) -> str:
    """Say what kept a call from being answered."""
    match error:
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.CredentialRetrievalError():
            return f"no AWS credentials that can be used: {error}. {SIGN_IN}"
        case boto.TokenRetrievalError() | boto.SSOError() | boto.LoginError():
            return f"the sign-in to AWS is over: {error}. {SIGN_IN}"
        case boto.ProfileNotFound():
            return f"{error}. `aws configure list-profiles` lists those there are"
        case boto.NoRegionError():
            return "no AWS region is set. Set aws.region in config/<env>.yaml, or AWS_REGION"
        case boto.ConnectionError() | boto.HTTPClientError():
            return (
                f"AWS cannot be reached: {error}. Check the network and proxy; where aws.endpoint_url or "
                "AWS_ENDPOINT_URL is set, whether an emulated AWS listens there (`byollm up`)"
            )
    return f"AWS was not called: {error}"


def _refused(error: ClientError) -> str:
    """Say what AWS answered."""
    fault = error.response.get("Error", {})
    code, message = fault.get("Code", "Unknown"), fault.get("Message", "")
    if code in EXPIRED:
        return f"the AWS credentials have expired ({code}). {SIGN_IN}"
    if code in UNKNOWN:
        return f"AWS does not know these credentials ({code}). {SIGN_IN}"
    if code in DENIED:
        found = re.search(r"not authorized to perform:? (\S+)", message)
        action = found.group(1) if found else error.operation_name
        return f"not allowed: {action}. Allow it in the caller's IAM policy. AWS says: {message}"
    if code in THROTTLED:
        return f"{error.operation_name}: AWS asks to slow down ({code}). Wait a minute and run it again"
    if code in QUOTA:
        return (
            f"{error.operation_name}: a quota is used up: {message} Ask for more: "
            "https://docs.aws.amazon.com/servicequotas/latest/userguide/request-quota-increase.html"
        )
    return f"{error.operation_name}: {message} ({code})"
