"""Whether a request was signed with the secret key, over just these headers and this body."""

import hmac
import re
import time
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.requests import Request

from byollm.local.protocol import AwsError
from byollm.local.world import ACCESS_KEY, SECRET_KEY, World

SKEW = timedelta(minutes=5)
_TIME = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/"
    r"aws4_request, ?SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


class Keys:
    """The secret keys of one world: the client's, that of functions, and those that STS has given out.

    Args:
        world: which keeps them.
    """

    def __init__(self, world: World) -> None:
        # ministack has functions sign with the account's number
        self._lasting = {ACCESS_KEY: SECRET_KEY, world.account: SECRET_KEY}
        self._sessions = world.store("sessions")

    def secret(self, access_key: str) -> str:
        """Return the secret of an access key.

        Raises:
            AwsError: nobody has it, or not any more.
        """
        if access_key in self._lasting:
            return self._lasting[access_key]
        session = self._sessions.get("Session", access_key)
        if session is None:
            message = "The security token included in the request is invalid."
            raise AwsError("UnrecognizedClientException", message, 403)
        if session["until"] is not None and session["until"] < time.time():
            message = "The security token included in the request is expired"
            raise AwsError("ExpiredTokenException", message, 403)
        return str(session["secret"])


def check_signature(request: Request, body: bytes, keys: Keys) -> None:
    """Refuse what was not signed, not now, or not with the secret key.

    Raises:
        AwsError: in AWS's words.
    """
    given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if given is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    credentials = Credentials(given["key"], keys.secret(given["key"]))
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
    auth = SigV4Auth(credentials, given["service"], given["region"])
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
