"""Drafts of answers that follow a grammar: fewer steps, and the same tokens."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from byollm.engine import Engine, Output, SamplingParams
from byollm.engine.grammar import Grammar
from byollm.modeling import Tokenizer
from tests.engine.support import Oracle, run

MakeEngine = Callable[..., Engine]
PROMPT = [5, 9, 40, 7, 31, 12] * 3
LIST = (
    Grammar("ebnf", 'root ::= "[" pair ("," pair){9,} "]"\npair ::= [a-c] "=" [0-9]'),
    r"\[[a-c]=\d(,([a-c](=(\d)?)?)?)*\]?",  # the limit may cut it anywhere
)
SCHEMA = (
    Grammar(
        "json_schema",
        '{"type": "array", "minItems": 5, "maxItems": 5, "items": {"type": "object",'
        ' "properties": {"kind": {"enum": ["cat", "dog"]}}, "required": ["kind"]}}',
    ),
    r'\[(\{"kind": "(cat|dog)"\}(, )?){5}\]',
)
WAYS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.2, "seed": 7},
    {"temperature": 0.8, "top_p": 0.9, "seed": 3, "repetition_penalty": 1.2, "logprobs": 2},
]


def answers(engine: Engine, **params: Any) -> dict[tuple[str, int], Output]:
    engine.add_request("a", PROMPT, SamplingParams(**({"max_tokens": 110, "n": 3} | params)))
    return run(engine)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("grammar", "pattern"), [LIST, SCHEMA], ids=["list", "schema"])
def test_a_constrained_answer_is_the_same_with_drafts(
    make_engine: MakeEngine,
    tokenizer: Tokenizer,
    grammar: Grammar,
    pattern: str,
    way: dict[str, Any],
) -> None:
    """Drafts with wrong tokens, most of which the grammar forbids, and with tokens beyond its end."""
    way = way | {"grammar": grammar}
    plain = make_engine(tokenizer, speculative="off", cache_blocks=16, max_batch_tokens=30)
    expected = answers(plain, **way)
    beyond = list(range(60, 70))
    told = Oracle([[*PROMPT, *output.token_ids, *beyond] for output in expected.values()])
    drafting = make_engine(tokenizer, cache_blocks=16, max_batch_tokens=30)
    drafting._drafter = told
    found = answers(drafting, **way)
    assert told.drafted > told.right > 20
    assert drafting.stats().steps_total < plain.stats().steps_total
    for key, output in expected.items():
        assert re.fullmatch(pattern, output.text)
        assert (found[key].token_ids, found[key].text) == (output.token_ids, output.text)
        assert found[key].finish_reason == output.finish_reason
        assert (found[key].logprobs is None) == (output.logprobs is None)
    assert drafting.stats().free_blocks == 16


def test_what_a_constrained_answer_repeats_is_guessed(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    way = {"temperature": 0, "n": 1, "grammar": SCHEMA[0]}
    plain, drafting = (make_engine(tokenizer, speculative=mode) for mode in ("off", "auto"))
    assert answers(drafting, **way)["a", 0].token_ids == answers(plain, **way)["a", 0].token_ids
    assert drafting.stats().accepted_tokens_total > 10
