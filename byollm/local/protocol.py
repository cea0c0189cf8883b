"""AWS's JSON protocols, served: botocore's own service models say what comes in and what goes out."""

import json
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import botocore.session
from botocore.validate import ParamValidator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from byollm.local.constraints import violations

Members = dict[str, Any]
Operation = Callable[[Members], Awaitable[Members | None]]


class AwsError(Exception):
    """What a client gets as `ClientError`: the code it tells errors apart by, and a sentence.

    Args:
        code: such as `ValidationException`.
        message: what was wrong, in AWS's words where they are known.
        status: of the HTTP answer.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class JsonService:
    """The operations of one service with a JSON protocol.

    A subclass has a coroutine method for each operation it knows, in snake case, which takes the members of
    the request, valid by the service's model, and returns those of the answer:
    `async def create_model(self, given: Members) -> Members`. What has no method is refused by name.

    Args:
        service: botocore's name of it, such as `sagemaker`.
        parts: objects whose coroutine methods are operations too, so that a large service is several files.
    """

    def __init__(self, service: str, *parts: object) -> None:
        self._model = botocore.session.get_session().get_service_model(service)
        self._parts = (self, *parts)

    async def answer(self, request: Request) -> Response:
        """Answer one call: `X-Amz-Target` names the operation, the body is its input."""
        name = request.headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            return self._success(await self._call(name, await request.body()))
        except AwsError as error:
            return self._failure(error)

    async def _call(self, name: str, body: bytes) -> Members:
        if name not in self._model.operation_names:
            raise AwsError(
                "UnknownOperationException", f"{self._model.service_name} has no operation {name!r}"
            )
        method = snake_case(name)
        part = next((part for part in self._parts if hasattr(part, method)), None)
        if part is None:
            raise AwsError("UnknownOperationException", f"{name} is not emulated (docs/local.md)", 501)
        try:
            given = json.loads(body or b"{}")
        except ValueError as error:
            raise AwsError("SerializationException", f"the body is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise AwsError("SerializationException", "the body is not a JSON object")
        shape = self._model.operation_model(name).input_shape
        if shape is not None:
            faults = ParamValidator().validate(given, shape)
            if faults.has_errors():
                raise AwsError("ValidationException", faults.generate_report())
            if wrong := list(violations(shape, given)):
                number = f"{len(wrong)} validation error{'s' if len(wrong) > 1 else ''}"
                raise AwsError("ValidationException", f"{number} detected: {'; '.join(wrong)}")
        operation: Operation = getattr(part, method)
        return await operation(given) or {}

    def _success(self, answer: Members) -> Response:
        body = json.dumps(answer, default=_time)
        return Response(body, headers=_headers(), media_type=f"application/x-amz-json-{self._version}")

    def _failure(self, error: AwsError) -> Response:
        body = {"__type": error.code, "message": error.message}
        headers = {**_headers(), "x-amzn-errortype": error.code}
        return JSONResponse(body, error.status, headers, f"application/x-amz-json-{self._version}")

    @property
    def _version(self) -> str:
        return str(self._model.metadata.get("jsonVersion", "1.1"))


def snake_case(operation: str) -> str:
    """Write `CreateModelPackage` as `create_model_package`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", operation).lower()


def _headers() -> dict[str, str]:
    return {"x-amzn-requestid": str(uuid.uuid4())}


def _time(value: object) -> float:
    """Write a time as these protocols do: seconds since 1970."""
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} has no place in an answer")
