"""Chat templates: a Jinja program from the model's directory that lays out a conversation as one text.

The conventions are those of transformers, for which these programs are written. They come with a model that
somebody else may have made, so they run in Jinja's immutable sandbox.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, meta
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from byollm.modeling.errors import TokenizerError

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


class ChatTemplate:
    """A compiled template.

    Args:
        source: the Jinja program
        special_tokens: variables such as `bos_token` and `eos_token`

    Raises:
        TokenizerError: the program is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._special_tokens = dict(special_tokens)
        try:
            variables = meta.find_undeclared_variables(environment.parse(source))
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise TokenizerError(f"the chat template is not valid Jinja: {error}") from None
        self.knows_tools = "tools" in variables
        """Whether it can tell the model of tools."""

    def render(self, messages: Messages, *, add_generation_prompt: bool, tools: Tools | None = None) -> str:
        """Lay out `messages`, and at the end the opening of an answer if `add_generation_prompt`.

        `tools` are functions that the model may call, as OpenAI describes them.

        Raises:
            TokenizerError: the template refuses these messages.
        """
        try:
            return self._template.render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except Exception as error:  # a foreign program may raise anything
            raise TokenizerError(f"the chat template refuses these messages: {error}") from None


class _GenerationBlock(Extension):
    """{% generation %} ... {% endgeneration %}: marks answers for training; here, only its content."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's interface)

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which is not wanted in a prompt."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
