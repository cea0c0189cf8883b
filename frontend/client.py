"""The model server as the page sees it: is it ready, what is it serving, and a chat as a stream."""

import ipaddress
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from byollm.settings import PageSettings
from frontend.errors import (
    ModelLoadingError,
    PageError,
    RefusedError,
    ServerFaultError,
    ServerUnreachableError,
)
from frontend.sse import events


@dataclass(frozen=True)
class Piece:
    """One increment of an answer, with the server's own counts once it tells them."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ModelClient:
    """Speaks the OpenAI protocol to one model server. Use it within one event loop."""

    def __init__(self, settings: PageSettings):
        self.address = settings.api
        timeout = httpx.Timeout(settings.connect_seconds, read=settings.silence_seconds)
        # A proxy named in the environment must not see what goes to this very machine.
        self._http = httpx.AsyncClient(
            base_url=settings.api,
            timeout=timeout,
            limits=httpx.Limits(max_connections=None),
            trust_env=not is_loopback(urlsplit(settings.api).hostname or ""),
        )
        self._short = settings.connect_seconds
        self._defaults: dict[str, Any] | None = None

    async def model(self) -> str:
        """Return the name of the model that is served.

        Raises:
            ServerUnreachableError, ModelLoadingError, ServerFaultError: it is not ready, and why.
        """
        listing = await self._get("/v1/models")
        try:
            return str(listing["data"][0]["id"])
        except (LookupError, TypeError):
            raise self._not_a_model_server() from None

    async def info(self) -> dict[str, Any]:
        """Return what the server tells about its model; nothing, if it does not know the question."""
        try:
            info = await self._get("/model/info")
        except PageError:
            info = {}
        defaults = info.get("sampling_defaults")
        self._defaults = defaults if isinstance(defaults, dict) else {}
        return info

    async def defaults(self) -> dict[str, Any]:
        """Return the server's own sampling values, by name, as last told; nothing if it tells none."""
        if self._defaults is None:
            await self.info()
        return self._defaults or {}

    async def chat(
        self, model: str, messages: Sequence[dict[str, str]], sampling: dict[str, Any]
    ) -> AsyncGenerator[Piece]:
        """Stream the answer to a conversation. Closing the iterator closes the connection: the server stops.

        Raises:
            PageError: the request was refused or the stream broke; what was yielded before stays true.
        """
        body = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **sampling,
        }
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    raise self._refusal(response)
                ended = False
                async with aclosing(events(response.aiter_bytes())) as stream:
                    async for data in stream:
                        if data == "[DONE]":
                            return
                        piece = _piece(data)
                        ended = ended or piece.finish is not None
                        yield piece
                if not ended:
                    raise ServerFaultError(
                        "The model server closed the connection before the answer was complete."
                    )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise self._unreachable() from None
        except httpx.TimeoutException:
            raise ServerFaultError(
                f"The model at {self.address} fell silent. Ask again, or restart it."
            ) from None
        except httpx.HTTPError:
            raise ServerFaultError(
                "The connection to the model broke before the answer was complete."
            ) from None
        except ValueError as error:
            raise ServerFaultError(f"The model server sent what is no event stream: {error}.") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            response = await self._http.get(path, timeout=self._short)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise self._unreachable() from None
        except httpx.HTTPError:
            raise ServerFaultError(f"The model server at {self.address} does not answer.") from None
        if response.status_code != httpx.codes.OK:
            raise self._refusal(response)
        try:
            answer = response.json()
        except ValueError:
            raise self._not_a_model_server() from None
        if not isinstance(answer, dict):
            raise self._not_a_model_server()
        return answer

    def _unreachable(self) -> PageError:
        port = urlsplit(self.address).port or 80
        return ServerUnreachableError(
            f"No model server answers at {self.address}. "
            f"Start one with `byollm serve --model DIR --port {port}`; this page connects by itself."
        )

    def _not_a_model_server(self) -> PageError:
        return ServerFaultError(
            f"What answers at {self.address} is not an OpenAI-compatible model server. "
            "Start this page with its address: `--api`."
        )

    def _refusal(self, response: httpx.Response) -> PageError:
        try:
            error = response.json()["error"]
            message, code = str(error["message"])[:2000], error.get("code")
        except (ValueError, LookupError, TypeError, AttributeError):
            message, code = f"It answers with status {response.status_code}.", None
            if not response.is_server_error:
                return self._not_a_model_server()
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and code != "engine_failed":
            return ModelLoadingError(f"{message} This page connects by itself as soon as the model is ready.")
        if response.is_server_error:
            return ServerFaultError(f"The model server failed: {message} Its log says more.")
        return RefusedError(message, code if isinstance(code, str) else None)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _piece(data: str) -> Piece:
    chunk = json.loads(data)
    if not isinstance(chunk, dict):
        raise ValueError("an event that is not an object")
    if error := chunk.get("error"):
        message = error.get("message") if isinstance(error, dict) else error
        raise ServerFaultError(f"The model server broke off: {str(message)[:2000]}")
    usage = chunk.get("usage") or {}
    choice = (chunk.get("choices") or [{}])[0]
    return Piece(
        text=(choice.get("delta") or {}).get("content") or "",
        finish=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
    )
