"""Keeps other sites' pages away from a server that listens on loopback only.

A page on the web can make a browser send requests to localhost; with a host name of its own that resolves
to 127.0.0.1 (DNS rebinding) it could even read the answers. Such requests carry that name in `Host`, or the
page's origin in `Origin`, and are refused.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from byollm.web.errors import ApiError
from byollm.web.replies import error_response


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and can be reached from it alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class LoopbackOnly:
    """Refuses requests whose `Host` or `Origin` is not of this machine.

    Args:
        app: the application behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host"), headers.get("origin")
            foreign_host = host is not None and not is_loopback(_name(f"//{host}"))
            foreign_origin = origin is not None and not is_loopback(_name(origin))
            if foreign_host or foreign_origin:
                header = "Host" if foreign_host else "Origin"
                error = ApiError(
                    403,
                    f"The server listens on loopback and takes no request with this {header} header. "
                    "Use localhost, or start it with --host to serve others.",
                    code=f"foreign_{header.lower()}",
                )
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
