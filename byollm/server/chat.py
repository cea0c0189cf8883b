"""OpenAI's chat completions: the request."""

from functools import cached_property
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from byollm.engine import SamplingParams
from byollm.engine.grammar import Grammar
from byollm.server.messages import Conversation
from byollm.server.parameters import broken_rule
from byollm.server.structured import ConstrainedSampling, Constraint
from byollm.server.tools import Tool, ToolChoiceOption, Tools, calls_grammar


class ChatRequest(ConstrainedSampling):
    """The body of `POST /v1/chat/completions`."""

    neutral: ClassVar = {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "modalities": (["text"],),
        "moderation": (),
        "prediction": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": ("in_memory",),
        "reasoning_effort": ("none",),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    messages: Conversation
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    metadata: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """Accepted, as are the two below; they change nothing."""
    safety_identifier: str = ""
    prompt_cache_key: str = ""
    tools: Tools = []  # noqa: RUF012 (pydantic copies it)
    tool_choice: ToolChoiceOption | None = None
    parallel_tool_calls: bool = True

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if "top_logprobs" in self.model_fields_set and not self.logprobs:
            raise broken_rule("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise broken_rule(
                "max_tokens", "'max_tokens' and 'max_completion_tokens' differ; give one of them."
            )
        return self

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise broken_rule("tools", "Two of 'tools' have the same name.")
        if self.structured_outputs is not None and self.offered_tools:
            raise broken_rule("structured_outputs", "'structured_outputs' and 'tools' exclude each other.")
        choice = self.tool_choice
        if choice is None or choice.mode == "none":
            return self
        if not names:
            raise broken_rule("tool_choice", "'tool_choice' is only allowed when 'tools' are given.")
        unknown = [name for name in choice.names or [] if name not in names]
        if unknown:
            raise broken_rule("tool_choice", f"'{unknown[0]}' is not one of 'tools'.")
        return self

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the model is told of."""
        forbidden = self.tool_choice is not None and self.tool_choice.mode == "none"
        return [] if forbidden else self.tools

    @property
    def must_call(self) -> bool:
        """Whether the answer is calls and nothing else."""
        return self.tool_choice is not None and self.tool_choice.required

    @cached_property
    def answer_constraint(self) -> Constraint | None:
        """The grammar that the answer has to follow, calls included, if there is one."""
        if not self.offered_tools:
            return self.constraint
        choice = self.tool_choice
        allowed = None if choice is None else choice.names
        return calls_grammar(
            [tool for tool in self.tools if allowed is None or tool.function.name in allowed],
            required=self.must_call,
            parallel=self.parallel_tool_calls and (choice is None or choice.function is None),
            otherwise=None if self.schema_wanted is None else self.schema_wanted[0],
        )

    @property
    def limit(self) -> int | None:
        """The most tokens to generate for each choice, if the client said so."""
        return self.max_completion_tokens or self.max_tokens

    def sampling_params(self, grammar: Grammar | None) -> SamplingParams:
        """What the engine is asked for."""
        return self.params(self.limit, self.n, self.top_logprobs if self.logprobs else None, grammar)
