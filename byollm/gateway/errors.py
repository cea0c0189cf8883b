"""What SageMaker refuses, told in OpenAI's shape."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from byollm.settings.errors import ByollmError
from byollm.web.errors import ApiError

log = logging.getLogger(__name__)

SOON_S = 1  # for what passes in a moment: throttling, a full queue
LATER_S = 30  # for what takes minutes: an instance that starts, an endpoint that is made


class GatewayError(ByollmError):
    """The gateway cannot do its work."""


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Tell what SageMaker answered instead of the model's answer.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html

    Args:
        status: of SageMaker's answer.
        headers: its headers; names in lower case, or in any case for a mapping that does not mind.
        body: its body, in which account and endpoint may be named: that goes to the log alone.
    """
    fault = _fields(body)
    code = headers.get("x-amzn-errortype", "").split(":")[0] or str(fault.get("__type", "")).split("#")[-1]
    message = str(fault.get("Message") or fault.get("message") or "")
    if code == "ModelError":
        return _from_model(fault.get("OriginalStatusCode"), str(fault.get("OriginalMessage") or ""))
    log.warning("SageMaker refused a call", extra={"fault": code, "told": message[:500], "status": status})
    if status == 429 or "Throttling" in code:
        return ApiError(
            429,
            "The endpoint takes no more requests at the moment. Try again soon.",
            code="rate_limit_exceeded",
            retry_after=SOON_S,
        )
    if code in ("ValidationError", "ValidationException", "ModelNotReadyException"):
        # The call itself is always well formed; what varies is the endpoint. There may be none, or it is
        # being changed, or it has scaled to zero and is now told to wake.
        return ApiError(
            503,
            "The model is not running yet: its endpoint is being made, changed or woken. Try again later.",
            code="model_not_ready",
            retry_after=LATER_S,
        )
    if status in (401, 403):
        log.error("the gateway may not invoke its endpoint: see its task role", extra={"fault": code})
        return ApiError(500, "The gateway is not allowed to reach the model.", code="internal_error")
    if status == 413:
        return ApiError(413, "The request's body is larger than the endpoint accepts.", code="too_large")
    return unavailable()


def unavailable() -> ApiError:
    """The error for when SageMaker itself fails or cannot be reached."""
    message = "The model cannot be reached at the moment. Try again soon."
    return ApiError(503, message, code="unavailable", retry_after=SOON_S)


def too_late(seconds: float) -> ApiError:
    """The error for an answer that did not come in time."""
    return ApiError(504, f"The answer was not complete within {seconds:g} s.", code="timeout")


def broken(kind: str = "", message: str = "") -> ApiError:
    """The error for an answer that broke off in the middle."""
    log.warning("a stream broke", extra={"fault": kind, "told": message[:500]})
    return ApiError(502, "The answer broke off in the middle. Ask again.", code="stream_broken")


def _from_model(status: Any, message: str) -> ApiError:
    """Hand on what the model's container answered, with its own status."""
    if not isinstance(status, int) or not 400 <= status <= 599:
        # The container gave no answer of its own within SageMaker's patience.
        return ApiError(504, "The model did not answer in time.", code="timeout")
    retry_after = {429: SOON_S, 503: SOON_S}.get(status)
    error = _fields(message.encode()).get("error")
    if not isinstance(error, dict):
        message = message or f"The model refused the request with status {status}."
        return ApiError(status, message, code="model_error", retry_after=retry_after)
    param, code = error.get("param"), error.get("code")
    return ApiError(
        status,
        str(error.get("message") or "The model refused the request."),
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else None,
        retry_after=retry_after,
    )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
