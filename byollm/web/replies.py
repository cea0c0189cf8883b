"""Responses in JSON, errors among them."""

from typing import Any

import orjson
from starlette.responses import Response

from byollm.web.errors import ApiError
from byollm.web.lingering import LingeringResponse


def json_response(value: Any, status: int = 200) -> Response:
    """A response with `value` as JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """The response that tells an error."""
    kind = LingeringResponse if error.close else Response
    return kind(error.body(), error.status, error.headers, media_type="application/json")
