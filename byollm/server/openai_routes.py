"""OpenAI's routes, vLLM's `/tokenize` and `/detokenize`, and SageMaker's `/invocations`."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import FailFast, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from byollm.server.adapter_routes import IDENTIFIER
from byollm.server.chat import ChatRequest
from byollm.server.chat_format import ChatFormat
from byollm.server.completions import CompletionFormat, CompletionRequest, Echo
from byollm.server.embeddings import EmbeddingRequest, EmbeddingResponse
from byollm.server.errors import ServerError
from byollm.server.generation import Generation, Job
from byollm.server.messages import Conversation
from byollm.server.model import Model
from byollm.server.parameters import Parameters, broken_rule
from byollm.server.prompts import check_fits, check_readable, encode, encode_chat, encode_prompt
from byollm.server.service import Service
from byollm.server.structured import Constraint
from byollm.server.tools import Tools
from byollm.web.errors import ApiError
from byollm.web.replies import json_response

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


class TokenizeRequest(Parameters):
    """The body of `POST /tokenize`: a text or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Conversation = Field(default_factory=list)
    tools: Tools = []  # noqa: RUF012 (pydantic copies it)

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if (self.prompt is None) != bool(self.messages):
            raise broken_rule("prompt", "Give either 'prompt' or 'messages'.")
        return self


class DetokenizeRequest(Parameters):
    """The body of `POST /detokenize`."""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], FailFast(), Field(max_length=2**20)]


class OpenAIRoutes:
    """The handlers.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        directory = service.settings.embedding_model
        self._embedder = None if directory is None else directory.resolve().name
        if self._embedder == service.model_name:
            raise ServerError(
                f"the model and server.embedding_model are both called '{self._embedder}', and requests "
                "choose by name: set server.model_name to another"
            )

    async def chat_completions(self, request: Request) -> Response:
        """OpenAI's chat completions."""
        return self._chat(await self._service.bodies.read(request))

    async def completions(self, request: Request) -> Response:
        """OpenAI's text completions."""
        return self._complete(await self._service.bodies.read(request))

    async def invocations(self, request: Request) -> Response:
        """SageMaker's one route: a chat has `messages`, a completion `prompt`, embeddings `input`.

        The adapter that SageMaker names in a header goes before the body's `model`. A route among the custom
        attributes, as AWS's containers of vLLM take it, asks for the models: SageMaker passes on no GET.
        """
        body = await self._service.bodies.read(request)
        if request.headers.get(CUSTOM_ATTRIBUTES) == "route=/v1/models":
            return await self.models(request)
        kinds = [kind for kind in ("messages", "prompt", "input") if kind in body]
        if len(kinds) != 1:
            raise ApiError(
                400,
                "Give exactly one of 'messages' (a chat), 'prompt' (a completion) and 'input' (embeddings)"
                + (f", not {' and '.join(map(repr, kinds))} together." if kinds else "."),
                param=kinds[-1] if kinds else "messages",
                code="invalid_value" if kinds else "missing_required_parameter",
            )
        if (adapter := request.headers.get(IDENTIFIER)) is not None:
            body = body | {"model": adapter}
        if kinds == ["input"]:
            return self._embed({"model": self._embedder or self._service.model_name} | body)
        body = {"model": self._service.model_name} | body
        return self._chat(body) if kinds == ["messages"] else self._complete(body)

    async def embeddings(self, request: Request) -> Response:
        """OpenAI's embeddings."""
        return self._embed(await self._service.bodies.read(request))

    def _embed(self, body: Mapping[str, Any]) -> Response:
        asked = EmbeddingRequest.parse(body)
        adapter = None if asked.model == self._embedder else self._service.choose(asked.model)
        return EmbeddingResponse(self._service, asked, adapter)

    def _chat(self, body: Mapping[str, Any]) -> Response:
        asked = ChatRequest.parse(body)
        adapter = self._service.choose(asked.model)
        self._check_choices(1, asked.n, "n")

        async def prepare(model: Model) -> Job:
            prompt = await encode_chat(model, asked.messages, asked.offered_tools)
            check_fits(len(prompt), asked.limit, model.max_context, "messages")
            constraint = asked.answer_constraint
            params = asked.with_defaults(model.defaults).sampling_params(
                None if constraint is None else constraint.grammar
            )
            answer = ChatFormat(asked, model.tokenizer)
            return Job([prompt], params, answer, grammar_from=_source(constraint))

        return Generation(self._service, prepare, asked.stream, adapter)

    def _complete(self, body: Mapping[str, Any]) -> Response:
        asked = CompletionRequest.parse(body)
        adapter = self._service.choose(asked.model)
        self._check_choices(len(asked.prompts), asked.n, "prompt")

        async def prepare(model: Model) -> Job:
            prompts = []
            for given in asked.prompts:
                tokens = await encode_prompt(model, given)
                check_fits(len(tokens), asked.max_tokens, model.max_context, "prompt")
                check_readable(model, tokens, "prompt")
                prompts.append(tokens)
                await asyncio.sleep(0)  # each is short, all together take long: others come in between
            echoes = []
            for given, tokens in zip(asked.prompts, prompts, strict=True):
                if asked.echo:
                    text = (
                        given if isinstance(given, str) else model.tokenizer.decode(given, skip_special=False)
                    )
                    scores = None
                    if asked.logprobs is not None:
                        scores = await model.engine.score(tokens, asked.logprobs, adapter)
                    echoes.append(Echo(text, tokens, scores))
            formatted = CompletionFormat(asked, model.tokenizer, echoes)
            constraint = asked.constraint
            params = asked.with_defaults(model.defaults).sampling_params(
                None if constraint is None else constraint.grammar
            )
            return Job(prompts, params, formatted, asked.max_tokens > 0, _source(constraint))

        return Generation(self._service, prepare, asked.stream, adapter)

    def _check_choices(self, prompts: int, n: int, param: str) -> None:
        most = self._service.settings.max_choices
        if prompts * n > most:
            message = f"{prompts} prompts with n={n} ask for more than {most} answers, the most at a time."
            raise ApiError(400, message, param=param, code="invalid_value")

    async def models(self, request: Request) -> Response:
        """The models and adapters served here."""
        return json_response({"object": "list", "data": self._model_objects()})

    async def model(self, request: Request) -> Response:
        """One of the models and adapters served here, asked for by its name."""
        name = request.path_params["model"]
        if name != self._embedder:
            self._service.choose(name)
        return json_response(next(served for served in self._model_objects() if served["id"] == name))

    def _model_objects(self) -> list[dict[str, Any]]:
        model, name, created = self._service.model, self._service.model_name, self._service.created
        objects = [_model_object(name, name, None, created, model.max_context)]
        if model.sentences is not None:
            sentences = model.sentences
            objects.append(_model_object(sentences.name, sentences.name, None, created, sentences.max_tokens))
        for adapter in model.adapters.served:
            objects.append(
                _model_object(adapter.name, adapter.source, name, adapter.created, model.max_context)
            )
        return objects

    async def tokenize(self, request: Request) -> Response:
        """The token ids of a text, or of a conversation up to where the answer begins."""
        asked = TokenizeRequest.parse(await self._service.bodies.read(request))
        self._service.choose(asked.model or self._service.model_name)
        model = self._service.model
        if asked.messages:
            tokens = await encode_chat(model, asked.messages, asked.tools)
        else:
            tokens = await encode(model, asked.prompt or "")
        return json_response({"count": len(tokens), "max_model_len": model.max_context, "tokens": tokens})

    async def detokenize(self, request: Request) -> Response:
        """The text of token ids."""
        asked = DetokenizeRequest.parse(await self._service.bodies.read(request))
        self._service.choose(asked.model or self._service.model_name)
        tokenizer = self._service.model.tokenizer
        if asked.tokens and max(asked.tokens) >= tokenizer.vocab_size:
            raise ApiError(
                400,
                f"Invalid value for 'tokens': this model's token ids are below {tokenizer.vocab_size}.",
                param="tokens",
                code="invalid_value",
            )
        # A thread: it may be a million of them.
        return json_response({"prompt": await asyncio.to_thread(tokenizer.decode, asked.tokens, False)})


def _model_object(
    name: str, root: str, parent: str | None, created: int, length: int | None
) -> dict[str, Any]:
    """A model as OpenAI lists it, with vLLM's `root`, where it is from, and `parent`, an adapter's model."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "byollm",
        "root": root,
        "parent": parent,
        "max_model_len": length,
    }


def _source(constraint: Constraint | None) -> str | None:
    return None if constraint is None else constraint.param
