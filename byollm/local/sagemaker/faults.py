"""What SageMaker refuses, in its words."""

from byollm.local.protocol import AwsError

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
