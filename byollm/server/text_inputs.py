"""What completions call a prompt and embeddings an input: one text or many, as text or as token ids."""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

MOST_TEXTS = 2048  # as OpenAI has it


def _as_list(given: Any) -> list[str | list[int]]:
    """Every form as a list of texts or token lists, checked as fast as millions of ids need."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        kinds = set(map(type, given))
        if kinds <= {str, list} and len(given) > MOST_TEXTS:
            raise PydanticCustomError(
                "too_long", "There should be at most {most} texts", {"most": MOST_TEXTS}
            )
        if kinds == {str}:
            return given
        if _are_token_ids(given):
            return [given]
        if kinds == {list} and all(_are_token_ids(tokens) for tokens in given):
            return given
    raise PydanticCustomError(
        "text_type",
        "Input should be a string, a list of strings, a list of token ids or a list of such lists",
    )


def _are_token_ids(tokens: list[Any]) -> bool:
    return set(map(type, tokens)) <= {int} and (not tokens or min(tokens) >= 0)


TextInputs = Annotated[
    Any, BeforeValidator(_as_list, json_schema_input_type=str | list[str] | list[int] | list[list[int]])
]
"""After validation a list of texts and lists of token ids."""
