"""Tools: the functions that a model may call, and the grammar of its calls.

A call is written as Hermes and Qwen models were taught to write it: JSON between `<tool_call>` tags.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from byollm.engine.grammar import Grammar
from byollm.server.parameters import Parameters, broken_rule, missing
from byollm.server.structured import ANY_OBJECT, Constraint, Schema

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MOST_TOOLS = 128  # as OpenAI has it

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(Parameters):
    """What a model has to know of a function."""

    name: FunctionName
    description: str = ""
    parameters: Schema = ANY_OBJECT
    strict: bool = False
    """Accepted; arguments always follow the schema."""

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        if self.parameters.get("type", "object") != "object":
            raise broken_rule("parameters", "'parameters' should be a schema of type 'object'.")
        return self


class Tool(Parameters):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionReference(Parameters):
    """A function by its name."""

    name: FunctionName


class NamedTool(Parameters):
    """A tool by its name."""

    type: Literal["function"]
    function: FunctionReference


class AllowedTools(Parameters):
    """Some of the tools, and whether one of them has to be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST_TOOLS)]


class ToolChoice(Parameters):
    """`tool_choice` as an object; where it is a word, `mode`."""

    type: Literal["mode", "function", "allowed_tools"]
    mode: Literal["none", "auto", "required"] | None = None
    function: FunctionReference | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if getattr(self, self.type) is None:
            raise missing(self.type)
        return self

    @property
    def required(self) -> bool:
        """Whether the answer has to be a call."""
        allowed = self.allowed_tools
        return (
            self.mode == "required"
            or self.function is not None
            or (allowed is not None and allowed.mode == "required")
        )

    @property
    def names(self) -> list[str] | None:
        """The functions that may be called; None for all."""
        if self.function is not None:
            return [self.function.name]
        if self.allowed_tools is not None:
            return [tool.function.name for tool in self.allowed_tools.tools]
        return None


def _choice(value: Any) -> Any:
    return {"type": "mode", "mode": value} if isinstance(value, str) else value


Tools = Annotated[list[Tool], Field(max_length=MOST_TOOLS)]
ToolChoiceOption = Annotated[
    ToolChoice,
    BeforeValidator(_choice, json_schema_input_type=Literal["none", "auto", "required"] | ToolChoice),
]


def calls_grammar(
    tools: Sequence[Tool], *, required: bool, parallel: bool, otherwise: Schema | None
) -> Constraint:
    """The grammar of an answer that may, or has to, call tools.

    Args:
        tools: those that may be called.
        required: the answer is calls and nothing else.
        parallel: there may be several.
        otherwise: the schema of an answer that calls none; None lets it be any text.
    """
    tags = [
        {
            "type": "tag",
            "begin": f'{OPEN}\n{{"name": "{tool.function.name}", "arguments": ',
            "content": {
                "type": "json_schema",
                "json_schema": {"type": "object"} | tool.function.parameters,
                "max_whitespace_cnt": 1,  # small models lose themselves in white space
            },
            "end": f"}}\n{CLOSE}",
        }
        for tool in tools
    ]
    calls: dict[str, Any] = {"tags": tags, "stop_after_first": not parallel}
    if required or otherwise is not None:
        calls |= {"type": "tags_with_separator", "separator": "\n", "at_least_one": True}
        if not required:
            answer = {"type": "json_schema", "json_schema": otherwise, "max_whitespace_cnt": 1}
            calls = {"type": "or", "elements": [calls, answer]}
    else:
        calls |= {"type": "triggered_tags", "triggers": [OPEN], "at_least_one": False}
    source = json.dumps({"type": "structural_tag", "format": calls}, ensure_ascii=False)
    return Constraint(Grammar("structural_tag", source), "tools")
