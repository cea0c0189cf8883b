"""The messages of a conversation, as OpenAI writes them and as chat templates want them."""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from byollm.server.parameters import Parameters, broken_rule, missing
from byollm.server.tools import FunctionName


class TextPart(Parameters):
    """A piece of a message."""

    neutral: ClassVar = {"prompt_cache_breakpoint": ()}

    type: Literal["text"]
    text: str


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise PydanticCustomError("content_type", "Input should be a string or a list of text parts")
    return content


def _object(arguments: Any) -> Any:
    """OpenAI's arguments are JSON in a string; templates want the object."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments) if arguments else {}
    except (ValueError, RecursionError):
        raise PydanticCustomError("invalid_value", "the string should hold a JSON object") from None


class CalledFunction(Parameters):
    """The function that a call names, with its arguments."""

    name: FunctionName
    arguments: Annotated[dict[str, Any], BeforeValidator(_object, json_schema_input_type=str)]


class ToolCall(Parameters):
    """A call that the assistant made in an earlier answer."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: CalledFunction


class Message(Parameters):
    """One message of the conversation."""

    neutral: ClassVar = {"annotations": ([],), "audio": (), "function_call": (), "refusal": ()}

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: Annotated[
        list[TextPart],
        FailFast(),
        Field(min_length=1, max_length=2048),
        BeforeValidator(_parts, json_schema_input_type=str | list[TextPart]),
    ] = []  # noqa: RUF012 (pydantic copies it)
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] = []  # noqa: RUF012
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if not self.content and not self.tool_calls:
            raise missing("content")
        if self.tool_calls and self.role != "assistant":
            raise broken_rule("tool_calls", "'tool_calls' stand in messages of the role 'assistant'.")
        if self.tool_call_id is None and self.role == "tool":
            raise missing("tool_call_id")
        if self.tool_call_id is not None and self.role != "tool":
            raise broken_rule("tool_call_id", "'tool_call_id' stands in messages of the role 'tool'.")
        return self

    def to_template(self) -> dict[str, Any]:
        """The message as chat templates know it; `developer` is OpenAI's newer word for `system`."""
        role = "system" if self.role == "developer" else self.role
        message: dict[str, Any] = {"role": role, "content": "\n".join(part.text for part in self.content)}
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        return message | {
            key: value
            for key, value in (("name", self.name), ("tool_call_id", self.tool_call_id))
            if value is not None
        }


Conversation = Annotated[list[Message], FailFast(), Field(min_length=1, max_length=2048)]
