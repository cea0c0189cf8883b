"""AWS's query protocol, served: forms in, XML out, both read and written by moto after botocore's models."""

import uuid
from typing import Any
from urllib.parse import parse_qsl

from botocore.validate import ParamValidator
from moto.core.parse import QueryParser
from moto.core.serialize import QuerySerializer, SerializationContext
from moto.core.utils import get_service_model
from starlette.requests import Request
from starlette.responses import Response

from byollm.local.protocol import AwsError, Members, Operation, snake_case


class QueryService:
    """The operations of one service with the query protocol, written as those of a `JsonService`.

    Args:
        service: botocore's name of it, such as `elbv2`.
        parts: objects whose coroutine methods are operations.
    """

    def __init__(self, service: str, *parts: object) -> None:
        self._model = get_service_model(service)
        self._parts = parts

    async def answer(self, request: Request) -> Response:
        """Answer one call: `Action` names the operation, the rest of the form is its input."""
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        name = form.pop("Action", "")
        try:
            return self._write(name, await self._call(name, form))
        except AwsError as error:
            # an operation that does not exist has no model; errors are written the same for all of them
            return self._write(name if name in self._model.operation_names else "DescribeTags", error)

    async def _call(self, name: str, form: dict[str, str]) -> Members:
        if name not in self._model.operation_names:
            raise AwsError("ValidationError", f"there is no operation {name!r}")
        method = snake_case(name)
        part = next((part for part in self._parts if hasattr(part, method)), None)
        if part is None:
            raise AwsError("ValidationError", f"{name} is not emulated (docs/local.md)")
        model = self._model.operation_model(name)
        asked: Any = {"values": form}  # all of a request that the parser of this protocol looks at
        try:
            given: Members = QueryParser(model).parse(asked)
        except ValueError as error:
            raise AwsError("ValidationError", str(error)) from None
        faults = ParamValidator().validate(given, model.input_shape)
        if faults.has_errors():
            raise AwsError("ValidationError", faults.generate_report())
        operation: Operation = getattr(part, method)
        return await operation(given) or {}

    def _write(self, name: str, result: Any) -> Response:
        request_id = str(uuid.uuid4())
        model = self._model.operation_model(name)
        written = QuerySerializer(model, SerializationContext(request_id)).serialize(result)
        headers = {"x-amzn-requestid": request_id}
        return Response(written["body"], written["status_code"], headers, "text/xml")
