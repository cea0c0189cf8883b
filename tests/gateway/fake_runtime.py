"""SageMaker's runtime API with scripted answers: true signatures, true frames, true errors.

What is answered hangs on the last message: `say: WORDS`, `step: WORDS`, of which each waits for the test, or
the name of a fault.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from byollm.local.protocol import AwsError
from byollm.local.sagemaker.eventstream import CONTENT_TYPE, payload_part, stream_exception
from byollm.local.sagemaker.signature import Keys, check_signature
from byollm.local.world import World

ENDPOINT, COMPONENT = "byollm-dev", "byollm-dev-main"

CONTAINER_ERROR = {
    "message": "This model's maximum context length is 64 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}


def refusal(status: int, code: str, message: str, **more: Any) -> Response:
    return JSONResponse({"Message": message, **more}, status, {"x-amzn-errortype": f"{code}:http://internal"})


def model_error(status: int, message: str) -> Response:
    told = f'Received error ({status}) from primary with message "{message}"'
    return refusal(424, "ModelError", told, OriginalStatusCode=status, OriginalMessage=message)


FAULTS = {
    "throttled": refusal(400, "ThrottlingException", "Rate exceeded"),
    "missing": refusal(400, "ValidationError", "Endpoint byollm-dev of account 123456789012 not found."),
    "asleep": refusal(400, "ValidationError", "Inference Component has no capacity to process this request."),
    "not ready": refusal(429, "ModelNotReadyException", "Model is not ready."),
    "down": refusal(503, "ServiceUnavailable", "The service is unavailable."),
    "failing": refusal(500, "InternalFailure", "An internal failure occurred."),
    "denied": refusal(403, "AccessDeniedException", "User: arn:aws:iam::123456789012:role/x is not allowed"),
    "odd": Response("<html>", 502),
    "too long": model_error(400, json.dumps({"error": CONTAINER_ERROR})),
    "full": model_error(429, json.dumps({"error": {"message": "full", "code": "queue_full"}})),
    "loading": model_error(503, "still loading"),
    "timed out": model_error(0, "Your invocation timed out while waiting for a response from container"),
}
MODELS = [
    {"id": "model", "object": "model", "created": 1, "owned_by": "byollm", "parent": None},
    {"id": "legal", "object": "model", "created": 2, "owned_by": "byollm", "parent": "model"},
]


@dataclass
class Seen:
    """What reached the endpoint."""

    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Scripts whose caller went away."""
    steps: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """How many words of `step` may still be said."""


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    whole = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "model",
        "choices": [choice],
    }
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "model", "choices": [choice]}


def create(seen: Seen, world: World) -> Starlette:
    keys = Keys(world)

    async def call(request: Request) -> Response:
        body = await request.body()
        seen.headers.append(dict(request.headers))
        seen.bodies.append(body)
        try:
            check_signature(request, body, keys)
        except AwsError as error:
            return refusal(error.status, error.code, error.message)
        if request.path_params["name"] != ENDPOINT:
            return FAULTS["missing"]
        if request.headers.get("x-amzn-sagemaker-custom-attributes") == "route=/v1/models":
            return JSONResponse({"object": "list", "data": MODELS})
        asked = json.loads(body)
        script = (
            asked["messages"][-1]["content"] if "messages" in asked else asked.get("prompt") or asked["input"]
        )
        if script in FAULTS:
            return FAULTS[script]
        if request.url.path.endswith("-stream"):
            return StreamingResponse(
                frames(script, seen),
                headers={"x-amzn-sagemaker-content-type": "text/event-stream"},
                media_type=CONTENT_TYPE,
            )
        if script == "hang":
            await hang(request, seen)
        return JSONResponse(completion(script.removeprefix("say: ")))

    paths = ("/endpoints/{name}/invocations", "/endpoints/{name}/invocations-response-stream")
    return Starlette(routes=[Route(path, call, methods=["POST"]) for path in paths])


async def hang(request: Request, seen: Seen) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.02)
    seen.left.append("hang")


async def frames(script: str, seen: Seen) -> AsyncIterator[bytes]:
    kind, _, words = script.partition(": ")
    ended = False
    try:
        for word in words.split():
            if kind == "step":
                await asyncio.to_thread(seen.steps.acquire, timeout=60)
            whole = chunk(word + " ")
            # SageMaker cuts anywhere, and so does the network.
            framed = payload_part(whole[:20]) + payload_part(whole[20:])
            yield framed[:7]
            yield framed[7:]
        if kind == "break":
            yield payload_part(b'data: {"half')
            yield stream_exception("ModelStreamError", Message="the container died", ErrorCode="StreamBroken")
        elif kind == "cut":
            raise ConnectionError("the connection is cut")
        elif kind == "garble":
            yield b"\0" * 40
        elif kind == "half":
            yield payload_part(b'data: {"half')
        elif kind == "hang":
            await asyncio.sleep(600)
        else:
            yield payload_part(chunk("", "stop") + b"data: [DONE]\n\n")
        ended = True
    finally:
        if not ended and kind != "cut":
            seen.left.append(kind)
