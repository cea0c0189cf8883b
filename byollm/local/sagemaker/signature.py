"""Whether a request was signed with the secret key, over just these headers and this body."""

import hmac
import re
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.requests import Request

from byollm.local.protocol import AwsError
from byollm.local.world import ACCESS_KEY, SECRET_KEY

SKEW = timedelta(minutes=5)
_TIME = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/"
    r"aws4_request, ?SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


def check_signature(request: Request, body: bytes) -> None:
    """Refuse what was not signed, not now, or not with the secret key.

    Raises:
        AwsError: in AWS's words.
    """
    given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if given is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    if given["key"] != ACCESS_KEY:
        message = "The security token included in the request is invalid."
        raise AwsError("UnrecognizedClientException", message, 403)
    names = given["headers"].split(";")
    date = request.headers.get("x-amz-date", "")
    _check_time(date)
    target = f"{request.scope['raw_path'].decode('latin-1')}?{request.url.query}"
    signed = AWSRequest(
        method=request.method,
        url=f"http://{request.headers.get('host', '')}{target}",
        headers={name: request.headers.get(name, "") for name in names},
        data=body,
    )
    signed.context["timestamp"] = date
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), given["service"], given["region"])
    text = auth.string_to_sign(signed, auth.canonical_request(signed))
    complete = {"host", "x-amz-date"} <= set(names)
    body_hash = request.headers.get("x-amz-content-sha256", auth.payload(signed))
    if (
        not complete
        or body_hash != auth.payload(signed)
        or not hmac.compare_digest(auth.signature(text, signed), given["signature"])
    ):
        raise AwsError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS "
            "Secret Access Key and signing method. Consult the service documentation for details.",
            403,
        )


def _check_time(date: str) -> None:
    """Refuse a signature of another time: by the clients' clock, not the world's."""
    try:
        made = datetime.strptime(date, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise AwsError(
            "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.", 403
        ) from None
    now = datetime.now(UTC)
    if made < now - SKEW:
        bound = f"{now - SKEW:{_TIME}} ({now:{_TIME}} - 5 min.)"
        raise AwsError(
            "InvalidSignatureException", f"Signature expired: {date} is now earlier than {bound}", 403
        )
    if made > now + SKEW:
        bound = f"{now + SKEW:{_TIME}} ({now:{_TIME}} + 5 min.)"
        message = f"Signature not yet current: {date} is still later than {bound}"
        raise AwsError("InvalidSignatureException", message, 403)
