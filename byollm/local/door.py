"""The front door: who may come in, and which service a request is for."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from byollm.local.room import Room

# <access key>/<day>/<region>/<service>/aws4_request, in a header or, escaped, in a pre-signed address.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
_CREDENTIAL = re.compile(r"Credential=[^/&,\s]+/\d{8}/[a-z0-9-]+/([a-z0-9-]+)/aws4_request")
_OURS = frozenset({"localhost", "127.0.0.1"})

HEALTH = "/_byollm/health"
# What AWS does not have, such as a spot interruption on demand, is under the name of its service, unsigned.
_OWN_PATH = re.compile(r"/_byollm/([a-z0-9-]+)/")
# Container engines sign nothing: they log in.
REGISTRY = "registry"
_REGISTRY_PATH = re.compile(r"/v2(/|$)")


class Door:
    """An ASGI app that routes each request by the service its SigV4 signature is for.

    Args:
        services: an app for each signing name that is served in this process.
        rest: the app for all else: other services, and what is not signed at all, such as objects of S3
            and the answers of custom resources.
        health: tells how the platform is, under `/_byollm/health`.
        room: refuses what there is no room for.
    """

    def __init__(self, services: Mapping[str, ASGIApp], rest: ASGIApp, health: "Health", room: Room) -> None:
        self.services, self.rest, self.health, self.room = dict(services), rest, health, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = _refusal(Headers(scope=scope))
        if refusal:
            app: ASGIApp = refusal
        elif scope["path"] == HEALTH:
            app = JSONResponse(self.health, 200 if self.health["ready"] else 503)
        else:
            own = _OWN_PATH.match(scope["path"])
            request = Request(scope)
            service = own.group(1) if own else signed_for(request)
            if service is None and _REGISTRY_PATH.match(scope["path"]):
                service = REGISTRY
            app = self.room.refusal(request, service) or self.services.get(service or "", self.rest)
        await app(scope, receive, send)


Health = dict[str, object]


def signed_for(request: Request) -> str | None:
    """Return the signing name of the service that a request is for; None where it is not signed."""
    credential = request.query_params.get("X-Amz-Credential", "")
    found = _CREDENTIAL.search(request.headers.get("authorization") or f"Credential={credential}")
    return found.group(1) if found else None


def _refusal(headers: Headers) -> Response | None:
    """Refuse what a web page of somebody else made a browser send.

    A name of theirs that leads to this machine shows in Host; a request of their page shows in Origin and in
    Sec-Fetch-Site. https://developer.mozilla.org/en-US/docs/Glossary/Fetch_metadata_request_header
    """
    host = _name(f"//{headers.get('host', '')}")
    if not _is_ours(host):
        return _forbidden(f"Host {host!r} is not this machine: use http://localhost")
    origin = headers.get("origin")
    if origin is not None and not _is_ours(_name(origin)):
        return _forbidden(f"pages of {origin} may not call the emulated AWS")
    if headers.get("sec-fetch-site") == "cross-site":
        return _forbidden("other sites may not call the emulated AWS")
    return None


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_ours(host: str | None) -> bool:
    # `<bucket>.localhost` is this machine as well. https://www.rfc-editor.org/rfc/rfc6761#section-6.3
    return host is not None and (host in _OURS or host.endswith(".localhost"))


def _forbidden(reason: str) -> Response:
    return JSONResponse({"__type": "AccessDeniedException", "message": reason}, 403)
