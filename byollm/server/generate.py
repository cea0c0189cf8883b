"""The plain routes `/generate` and `/predict`: a prompt in, its continuation out."""

from typing import Annotated, Any, Self

import orjson
from pydantic import Field, model_validator

from byollm.engine import Output
from byollm.server.answers import Choice, Usage
from byollm.server.parameters import Sampling, broken_rule
from byollm.web.streams import event


class GenerateRequest(Sampling):
    """The body of `POST /generate` and `POST /predict`."""

    prompt: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    """transformers' name of `max_tokens`."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """transformers' limit on prompt and answer together."""

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        given = [
            name for name in ("max_tokens", "max_new_tokens", "max_length") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise broken_rule(
                given[1], f"'{given[0]}' and '{given[1]}' exclude each other; give one of them."
            )
        return self

    def limit(self, prompt_tokens: int) -> int | None:
        """The most tokens to generate; None for as many as the context has room for."""
        if self.max_length is not None:
            return self.max_length - prompt_tokens
        return self.max_tokens or self.max_new_tokens


class GenerateFormat:
    """Writes the answer: text, the reason of the end, and the usage.

    Args:
        model: the name of the model.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._finish_reason: str | None = None

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def events(self, choice: int, output: Output) -> bytes:
        """An event with the new text."""
        self._finish_reason = output.finish_reason
        return event(orjson.dumps({"text": output.text})) if output.text else b""

    def closing(self, usage: Usage) -> bytes:
        """An event with what the whole answer has beside the text, and the end mark."""
        return event(orjson.dumps(self._rest(self._finish_reason, usage))) + event(b"[DONE]")

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""
        return orjson.dumps({"text": "".join(choices[0].text)} | self._rest(choices[0].finish_reason, usage))

    def _rest(self, finish_reason: str | None, usage: Usage) -> dict[str, Any]:
        return {"finish_reason": finish_reason, "model": self._model, "usage": usage.to_json()}
