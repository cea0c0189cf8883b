"""Room on the disk: what is refused while there is too little of it, so that what runs goes on."""

import contextlib
import re
import shutil
from pathlib import Path
from xml.sax.saxutils import escape

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

MIB = 2**20
START_BYTES = 256 * MIB
"""To start with: state, logs, the bundled model, and what is deployed."""
KEPT_BYTES = 64 * MIB
"""For what runs: state is written aside before it takes the place of what was, and logs go on."""
SMALL_BYTES = 2**16  # objects such as the answers of custom resources, which what runs is waited for with

_MAKES_SOMETHING = re.compile(r"(Create|Register|Run|Start)[A-Z]")


def shortage(directory: Path, needed: int) -> str | None:
    """Say that there is less room than needed, and what to do; None where there is enough."""
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free >= needed:
        return None
    return (
        f"the disk of {directory} is full: {free // MIB} MiB are free and {-(-needed // MIB)} MiB needed; "
        "make room there, or name another place with `byollm up --directory`"
    )


class Room:
    """Refuses requests that would fill the disk up.

    Args:
        directory: where everything is kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def refusal(self, request: Request, service: str | None) -> ASGIApp | None:
        """Return what answers, as AWS does where it fails itself, if there is no room for what is asked.

        Reading, changing, calling and removing go on; what is put into S3 and what makes something waits.
        """
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        if service in (None, "s3"):
            if request.method not in ("PUT", "POST") or "delete" in request.query_params:
                return None
            length = int(request.headers.get("content-length") or 0)
            said = length > SMALL_BYTES and shortage(self._directory, KEPT_BYTES + length)
            return _Refusal(_internal_error(said)) if said else None
        said = _MAKES_SOMETHING.match(operation) and shortage(self._directory, KEPT_BYTES)
        return _Refusal(_internal_failure(said)) if said else None


class _Refusal:
    """An answer that comes once all was said: who is still sending does not listen."""

    def __init__(self, answer: Response) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnect):
            async for _ in Request(scope, receive).stream():
                pass
            await self._answer(scope, receive, send)


def _internal_error(message: str) -> Response:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    body = f"<Error><Code>InternalError</Code><Message>{escape(message)}</Message></Error>"
    return Response(body, 500, media_type="application/xml")


def _internal_failure(message: str) -> Response:
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
    body = {"__type": "InternalFailure", "message": message}
    return JSONResponse(body, 500, {"x-amzn-errortype": "InternalFailure"}, "application/x-amz-json-1.1")
