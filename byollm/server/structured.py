"""What an answer has to look like: OpenAI's `response_format`, and vLLM's `structured_outputs`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from byollm.engine.grammar import Grammar
from byollm.server.parameters import OpenAISampling, Parameters, broken_rule, missing

Schema = dict[str, Any]
ANY_OBJECT: Schema = {"type": "object"}


class Constraint(NamedTuple):
    """A grammar, and the parameter of the request that it comes from."""

    grammar: Grammar
    param: str


class NamedSchema(Parameters):
    """The `json_schema` of a response format."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = ""
    schema_: Annotated[Schema, Field(alias="schema")] = ANY_OBJECT
    strict: bool = False
    """Accepted; answers always follow the schema."""


class ResponseFormat(Parameters):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise missing("json_schema")
        if self.type != "json_schema" and self.json_schema is not None:
            raise broken_rule("json_schema", "'json_schema' is only allowed when 'type' is 'json_schema'.")
        return self

    @property
    def schema_wanted(self) -> tuple[Schema, str] | None:
        """The schema and the parameter that it stands in, unless any text will do."""
        if self.json_schema is not None:
            return self.json_schema.schema_, "response_format.json_schema.schema"
        return None if self.type == "text" else (ANY_OBJECT, "response_format")


class StructuredOutputs(Parameters):
    """vLLM's `structured_outputs`: exactly one way of saying what the answer has to look like."""

    json_: Annotated[Schema | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    grammar: str | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise broken_rule("json", "Give exactly one of 'json', 'regex', 'choice' and 'grammar'.")
        return self

    @property
    def constraint(self) -> Constraint:
        """The grammar of the answer."""
        if self.json_ is not None:
            schema = self.json_
            grammar = Grammar("json_schema", schema) if isinstance(schema, str) else schema_grammar(schema)
            return Constraint(grammar, "structured_outputs.json")
        if self.regex is not None:
            return Constraint(Grammar("regex", self.regex), "structured_outputs.regex")
        if self.choice is not None:
            # The escapes of JSON strings are also those of the grammar's.
            choices = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in self.choice)
            return Constraint(Grammar("ebnf", f"root ::= {choices}"), "structured_outputs.choice")
        return Constraint(Grammar("ebnf", self.grammar or ""), "structured_outputs.grammar")


class ConstrainedSampling(OpenAISampling):
    """The parameters of routes whose answers may have to follow a grammar."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="after")
    def _check_one_constraint(self) -> Self:
        if self.structured_outputs is not None and self.schema_wanted is not None:
            raise broken_rule(
                "structured_outputs", "'structured_outputs' and 'response_format' exclude each other."
            )
        return self

    @property
    def schema_wanted(self) -> tuple[Schema, str] | None:
        """The schema that `response_format` asks for, and where it stands."""
        return None if self.response_format is None else self.response_format.schema_wanted

    @property
    def constraint(self) -> Constraint | None:
        """The grammar that the answer has to follow, if there is one."""
        if self.structured_outputs is not None:
            return self.structured_outputs.constraint
        if (wanted := self.schema_wanted) is None:
            return None
        return Constraint(schema_grammar(wanted[0]), wanted[1])


def schema_grammar(schema: Schema) -> Grammar:
    """The grammar of the JSON that a schema describes."""
    return Grammar("json_schema", json.dumps(schema, ensure_ascii=False))
