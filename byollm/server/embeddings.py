"""OpenAI's embeddings: means of final hidden states, scaled to length 1, or those of a sentence model."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field
from starlette.types import Send

from byollm.server.generation import EngineResponse
from byollm.server.model import Model
from byollm.server.parameters import Parameters
from byollm.server.prompts import check_fits, check_readable, encode
from byollm.server.sentences import SentenceModel
from byollm.server.service import Service
from byollm.server.text_inputs import TextInputs
from byollm.web.errors import ApiError
from byollm.web.streams import send_json

MOST_TOKENS = 300_000  # of all inputs together, as OpenAI has it


class EmbeddingRequest(Parameters):
    """The body of `POST /v1/embeddings`."""

    model: Annotated[str, Field(min_length=1)]
    input: TextInputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str = ""
    """Accepted; it changes nothing."""


class EmbeddingResponse(EngineResponse):
    """The response that embeds as it is sent.

    Args:
        service: admits the request and lends the engine.
        request: what to embed.
        adapter: what the model is to read with.
    """

    def __init__(self, service: Service, request: EmbeddingRequest, adapter: str | None) -> None:
        super().__init__(service, adapter)
        self._request = request

    async def _answer(self, model: Model, send: Send, arrival: float) -> None:
        try:
            async with self._service.deadline(arrival, self._service.settings.request_timeout_s):
                if model.sentences is not None and self._request.model == model.sentences.name:
                    vectors, tokens = await self._embed_sentences(model.sentences)
                else:
                    texts = await self._texts(model)
                    vectors, tokens = await model.engine.embed(texts, self._adapter), sum(map(len, texts))
                body = await asyncio.to_thread(self._body, vectors, tokens)
        except Exception as error:
            raise self._failed(error) from None
        await send_json(send, body)

    async def _texts(self, model: Model) -> list[list[int]]:
        """Tokenise and check the inputs."""
        self._check_dimensions(model.info.hidden_size)
        texts: list[list[int]] = []
        total = 0
        for given in self._request.input:
            tokens = given if isinstance(given, list) else await encode(model, given, "input")
            check_fits(len(tokens), 0, model.max_context, "input")
            check_readable(model, tokens, "input")
            texts.append(tokens)
            total += len(tokens)
            check_total(total)
            await asyncio.sleep(0)  # each is short, all together take seconds: others come in between
        return texts

    async def _embed_sentences(self, model: SentenceModel) -> tuple[list[bytes], int]:
        """Embed by the sentence model; return its vectors and how many tokens it read."""
        self._check_dimensions(model.dimensions)
        texts = self._request.input
        if not all(isinstance(text, str) and text for text in texts):
            what = "has to be text, not token ids" if all(texts) else "has no text"
            message = f"Invalid value for 'input': what '{model.name}' embeds {what}."
            raise ApiError(400, message, param="input", code="invalid_value")
        counts = await model.count(texts)
        if model.max_tokens is not None:
            check_fits(max(counts), 0, model.max_tokens, "input")
        check_total(sum(counts))
        return await model.embed(texts, counts), sum(counts)

    def _check_dimensions(self, own: int) -> None:
        if self._request.dimensions not in (None, own):
            message = f"This model does not support specifying dimensions: its embeddings have {own}."
            raise ApiError(400, message, param="dimensions", code="invalid_value")

    def _body(self, vectors: Sequence[bytes], tokens: int) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": self._write(vector)}
            for index, vector in enumerate(vectors)
        ]
        answer = {
            "object": "list",
            "data": data,
            "model": self._request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def _write(self, vector: bytes) -> Any:
        import numpy as np

        if self._request.encoding_format == "base64":
            return base64.b64encode(vector).decode()
        return np.frombuffer(vector, dtype="<f4")


def check_total(tokens: int) -> None:
    """Refuse inputs that are too much for one request.

    Raises:
        ApiError: there are more tokens than are taken at a time.
    """
    if tokens > MOST_TOKENS:
        message = f"The inputs have more than {MOST_TOKENS} tokens, the most that are taken at a time."
        raise ApiError(400, message, param="input", code="invalid_value")
