"""Adapters come and go: vLLM's two routes, and those of SageMaker's containers (DJL Serving's).

https://docs.vllm.ai/en/latest/features/lora/ and https://docs.djl.ai/docs/serving/serving/docs/adapters_api.html
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from byollm.server.adapters import AdapterRefusedError, AdapterStore, ServedAdapter
from byollm.server.generation import tell
from byollm.server.parameters import Parameters
from byollm.server.service import Service, shutting_down
from byollm.web.errors import ApiError, shorten
from byollm.web.replies import json_response

IDENTIFIER = "x-amzn-sagemaker-adapter-identifier"
ALIAS = "x-amzn-sagemaker-adapter-alias"
LONGEST_ALIAS = 128
MOST_LISTED = 1000

Text = Annotated[str, Field(min_length=1, max_length=1024)]


class LoadAdapterRequest(Parameters):
    """The body of `POST /v1/load_lora_adapter`."""

    neutral: ClassVar = {"is_3d_lora_weight": (False,)}

    lora_name: Text
    lora_path: Text
    load_inplace: bool = False
    """Replace the adapter that has this name, if there is one."""


class UnloadAdapterRequest(Parameters):
    """The body of `POST /v1/unload_lora_adapter`."""

    neutral: ClassVar = {"lora_int_id": ()}

    lora_name: Text


class RegisterAdapterRequest(Parameters):
    """The body, or the query, of `POST /adapters`."""

    name: Text
    src: Text
    preload: bool = True
    """Accepted; an adapter is always read when it is registered, and gets a slot when it is first used."""
    pin: bool = False
    """Whether it keeps its slot."""


class UpdateAdapterRequest(Parameters):
    """The body, or the query, of `POST /adapters/{name}`."""

    src: Text | None = None
    preload: bool = True
    pin: bool | None = None


class ListAdaptersQuery(Parameters):
    """The query of `GET /adapters`."""

    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 100
    next_page_token: Annotated[int, Field(ge=0)] = 0


class AdapterRoutes:
    """The handlers.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def load(self, request: Request) -> Response:
        """Load an adapter, as vLLM has it."""
        asked = LoadAdapterRequest.parse(await self._service.bodies.read(request))
        with self._change("lora_name", "lora_path") as adapters:
            await adapters.load(asked.lora_name, asked.lora_path, new=not asked.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        """Unload an adapter, as vLLM has it."""
        asked = UnloadAdapterRequest.parse(await self._service.bodies.read(request))
        with self._change("lora_name", None) as adapters:
            await adapters.unload(asked.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")

    async def register(self, request: Request) -> Response:
        """Load an adapter, as SageMaker has it."""
        asked = RegisterAdapterRequest.parse(await self._arguments(request))
        with self._change("name", "src") as adapters:
            await adapters.load(asked.name, asked.src, pinned=asked.pin)
        return _status(request, asked.name, "registered")

    async def update(self, request: Request) -> Response:
        """Replace an adapter."""
        asked = UpdateAdapterRequest.parse(await self._arguments(request))
        name = request.path_params["name"]
        with self._change("name", "src") as adapters:
            await adapters.reload(name, asked.src, asked.pin)
        return _status(request, name, "updated")

    async def unregister(self, request: Request) -> Response:
        """Unload an adapter."""
        name = request.path_params["name"]
        with self._change("name", None) as adapters:
            await adapters.unload(name)
        return _status(request, name, "unregistered")

    async def describe(self, request: Request) -> Response:
        """What is known of an adapter."""
        with _told("name", None):
            return json_response([_describe(self._service.model.adapters.find(request.path_params["name"]))])

    async def list(self, request: Request) -> Response:
        """All adapters, a page at a time."""
        asked = ListAdaptersQuery.parse(_typed(request.query_params))
        served = self._service.model.adapters.served
        end = asked.next_page_token + asked.limit
        page: dict[str, Any] = {"adapters": [_describe(a) for a in served[asked.next_page_token : end]]}
        if end < len(served):
            page["next_page_token"] = str(end)
        return json_response(page)

    async def _arguments(self, request: Request) -> Mapping[str, Any]:
        """What a route was given in its query, as DJL Serving's clients do, or in its body."""
        return _typed(request.query_params) or await self._service.bodies.read(request)

    @contextmanager
    def _change(self, name: str, path: str | None) -> Iterator[AdapterStore]:
        if self._service.draining:
            raise shutting_down()
        with _told(name, path):
            yield self._service.model.adapters


@contextmanager
def _told(name: str, path: str | None) -> Iterator[None]:
    """Tell a client why an adapter was refused, by the parameters that it gave for name and path."""
    try:
        yield
    except AdapterRefusedError as refused:
        param = name if refused.field == "name" else path
        code = "adapter_not_found" if refused.missing else "invalid_adapter"
        raise ApiError(404 if refused.missing else 400, str(refused), param=param, code=code) from None
    except Exception as error:
        raise tell(error) from None


def _typed(query: Mapping[str, str]) -> dict[str, Any]:
    """A query's values as JSON would have them."""
    words = {"true": True, "false": False}
    return {
        name: words.get(value.lower(), int(value) if value.isascii() and value.isdecimal() else value)
        if name not in ("name", "src")
        else value
        for name, value in query.items()
    }


def _status(request: Request, name: str, what: str) -> Response:
    """Say what was done, under the name that SageMaker's user knows the adapter by."""
    shown = shorten(request.headers.get(ALIAS, name), LONGEST_ALIAS)
    return json_response({"status": f"Adapter {shown} {what}"})


def _describe(adapter: ServedAdapter) -> dict[str, Any]:
    return {"name": adapter.name, "src": adapter.source, "pin": adapter.pinned}
