"""Stands in front of Gradio: lets the browser fetch nothing from elsewhere and run only the page's scripts.

The model's words are sanitised before they are shown. This is the second wall: a picture, a frame or a script
that slipped through is not loaded, because the content security policy allows this origin only, and inline
scripts and style sheets only with a nonce that is drawn for each load of the page (https://www.w3.org/TR/CSP3/).
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from byollm.web.lingering import LingeringResponse

LARGEST_REQUEST = 8 << 20  # bytes; a conversation is sent along with every question
_GRADIO_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",  # an empty sheet, filled by way of the CSSOM
    "'sha256-g1bHISw0wC5zPcnfBxdUydnwBkCuBpNPwannoyMIG3M='",  # the one inside the undo icon
)
_TOO_LARGE = "The conversation is too long to be sent. Begin a new chat."
_FETCHES_NOTHING_ELSE = {
    "default-src": "'none'",
    "connect-src": "'self'",
    "font-src": "'self' data:",
    "img-src": "'self' data: blob:",
    "manifest-src": "'self'",
    "style-src-attr": "'unsafe-inline'",
    "worker-src": "'self' blob:",
    "base-uri": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_HEAD = """<link rel="icon" type="image/svg+xml" href="favicon.ico">
		<link rel="stylesheet" href="assets/byollm/page.css">
		<script nonce="{nonce}" src="assets/byollm/page.js"></script>
		"""


class Guard:
    """ASGI middleware for the headers, the nonce and the size of requests."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > LARGEST_REQUEST:
            refusal = LingeringResponse(_TOO_LARGE, 413, {"connection": "close"}, "text/plain")
            await refusal(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        if scope["path"] == "/":
            # the page is rewritten below, so it must come uncompressed
            kept = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            scope = {**scope, "headers": kept}
            send = _Rewriter(send, nonce)
        await self._app(scope, receive, _with_headers(send, nonce))


def _with_headers(send: Send, nonce: str) -> Send:
    # Gradio compiles the small functions of its components at run time, hence 'unsafe-eval'
    policy = _FETCHES_NOTHING_ELSE | {
        "script-src": f"'self' 'unsafe-eval' 'nonce-{nonce}'",
        "style-src": f"'self' 'nonce-{nonce}' {' '.join(_GRADIO_STYLES)}",
    }

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = "; ".join(f"{key} {value}" for key, value in policy.items())
            headers["Referrer-Policy"] = "no-referrer"
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return send_with_headers


class _Rewriter:
    """Holds the page back until it is complete, then sends it with the nonce on its scripts."""

    def __init__(self, send: Send, nonce: str):
        self._send = send
        self._nonce = nonce
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            body = bytes(self._body)
            if Headers(raw=self._start["headers"]).get("content-type", "").startswith("text/html") and body:
                body = rewrite(body.decode(), self._nonce).encode()
                MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(body))
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": body})


def rewrite(page: str, nonce: str) -> str:
    """Mark the page's scripts as its own, drop Gradio's social-media tags and put the page's script first."""
    page = re.sub(r"<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*>\s*", "", page)
    page = page.replace("<script", f'<script nonce="{nonce}"')
    page = page.replace("<style", f'<style nonce="{nonce}"')
    return page.replace("<style", _HEAD.format(nonce=nonce) + "<style", 1)
