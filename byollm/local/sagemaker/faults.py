"""What SageMaker refuses, in its words."""

from byollm.local.protocol import AwsError

QUOTA = 20  # instances of an endpoint, or copies of a component: each is a process of this machine
REASON = 1024  # characters of a FailureReason


def invalid(message: str) -> AwsError:
    """Return the error for what AWS would refuse too."""
    return AwsError("ValidationException", message)


def not_emulated(what: str) -> AwsError:
    """Return the error for what AWS has and we do not; retrying does not help."""
    return AwsError("ValidationException", f"{what} is not emulated (docs/local.md)")


def in_progress(what: str, arn: str) -> AwsError:
    """Return the error for a change while another is under way."""
    return invalid(f'Cannot update in-progress {what} "{arn}".')


def check_quota(kind: str, wanted: int) -> None:
    """Refuse more instances of one type than this machine should be asked for.

    Raises:
        AwsError: in the words of an account's quota.
    """
    if wanted > QUOTA:
        raise AwsError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{kind} for endpoint usage' is {QUOTA} Instances, with current "
            f"utilization of 0 Instances and a request delta of {wanted} Instances. Please use AWS Service "
            "Quotas to request an increase for this quota.",
        )
