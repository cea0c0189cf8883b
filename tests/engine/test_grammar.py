"""Answers that follow a grammar: compiled within bounds, and no burden to others."""

import json
import re
from collections.abc import Callable

import pytest

from byollm.engine import Engine
from byollm.engine.errors import GrammarError, SamplingParamsError
from byollm.engine.grammar import ForkingProgram, Grammar, GrammarCompiler
from byollm.engine.sampling_params import SamplingParams
from byollm.modeling import Tokenizer
from tests.engine.conftest import VOCAB
from tests.engine.support import run

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["kind", "legs"],
    "additionalProperties": False,
}
DIGITS = Grammar("regex", "[0-9]{6}")
# Every way of cutting the text into pieces is a reading of its own, and all are followed at once.
AMBIGUOUS = Grammar("regex", "((a*)*)*b")


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, VOCAB)


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar("regex", "(cat|dog)-[a-f]{3}"), "(cat|dog)-[a-f]{3}"),
        (Grammar("ebnf", 'root ::= "<" word ">"\nword ::= [xyz] [xyz]'), "<[xyz][xyz]>"),
        (Grammar("json_schema", json.dumps(SCHEMA)), r'\{"kind": "(cat|dog)", "legs": \d{1,2}\}'),
    ],
)
def test_answers_follow_every_kind_of_grammar(
    make_engine: Callable[..., Engine],
    tokenizer: Tokenizer,
    grammar: Grammar,
    pattern: str,
) -> None:
    engine = make_engine(tokenizer)
    params = SamplingParams(max_tokens=60, grammar=grammar, n=2, seed=4, logprobs=1)
    engine.add_request("hot", [5, 6, 7], params)
    engine.add_request("free", [5, 6, 7], SamplingParams(max_tokens=8, temperature=0))
    outputs = run(engine)
    for index in range(2):
        assert re.fullmatch(pattern, outputs["hot", index].text)
        assert outputs["hot", index].finish_reason == "stop"
    alone = make_engine(tokenizer)
    alone.add_request("free", [5, 6, 7], SamplingParams(max_tokens=8, temperature=0))
    assert run(alone)["free", 0].token_ids == outputs["free", 0].token_ids


def test_preemption_does_not_change_where_an_answer_is_in_its_grammar(
    make_engine: Callable[..., Engine], tokenizer: Tokenizer
) -> None:
    answers = {}
    for blocks in (64, 5):
        engine = make_engine(tokenizer, cache_blocks=blocks, max_running=4)
        for name in "abcd":
            params = SamplingParams(max_tokens=20, grammar=DIGITS, seed=ord(name))
            engine.add_request(name, list(range(14)), params)
        outputs = run(engine)
        answers[blocks] = [outputs[name, 0].text for name in "abcd"]
        assert (engine.scheduler.preemptions > 0) == (blocks == 5)
    assert answers[64] == answers[5]
    assert all(re.fullmatch("[0-9]{6}", text) for text in answers[5])


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (Grammar("regex", "(a"), "parenthesis"),
        (Grammar("regex", r"(a)\1"), "Backreference"),
        (Grammar("ebnf", "root ::= nothing"), "nothing"),
        (Grammar("json_schema", '{"type": "robot"}'), "robot"),
        (Grammar("json_schema", "{"), "JSON"),
        (
            Grammar("json_schema", '{"type": "array", "items": {"$ref": "https://a.test/b"}}'),
            "https://a.test/b",
        ),
        (Grammar("regex", "a" * 70_000), "70000 characters"),
    ],
)
def test_a_grammar_that_is_not_valid_is_refused_with_the_reason(
    compiler: GrammarCompiler, grammar: Grammar, words: str
) -> None:
    with pytest.raises(GrammarError, match=re.escape(words)) as refused:
        compiler.compile(grammar)
    assert ".cc" not in str(refused.value)


def test_what_was_asked_for_is_not_in_the_log(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("byollm.engine.grammar._PROGRAM", ForkingProgram())  # it says what it says to capfd
    pattern = '{"type": "string", "pattern": "(?=my secret)a"}'  # the library warns that it passes this over
    assert compiler.compile(Grammar("json_schema", pattern))
    assert capfd.readouterr().err == ""


def test_a_grammar_that_explodes_is_given_up(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byollm.engine.grammar.COMPILE_CPU_S", 1)
    with pytest.raises(GrammarError, match="too complex"):
        compiler.compile(Grammar("regex", "a?" * 5000 + "a" * 5000))
    assert compiler.compile(Grammar("regex", "a?a"))


def test_an_ambiguous_grammar_fails_alone(
    make_engine: Callable[..., Engine],
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("byollm.engine.grammar_state.CREDIT_S", 0.1)
    engine = make_engine(tokenizer)
    never_b = {token: -100.0 for token in range(VOCAB) if b"b" in tokenizer.token_bytes(token)}
    bad = SamplingParams(max_tokens=250, grammar=AMBIGUOUS, logit_bias=never_b)
    engine.add_request("bad", [1, 2], bad)
    engine.add_request("good", [1, 2], SamplingParams(max_tokens=20, grammar=DIGITS))
    outputs = run(engine)
    assert re.fullmatch("[0-9]{6}", outputs["good", 0].text)
    assert outputs["bad", 0].finish_reason == "error"
    assert outputs["bad", 0].blames == "grammar"


def test_a_compiled_grammar_is_kept(compiler: GrammarCompiler) -> None:
    first = compiler.compile(DIGITS)
    assert compiler.compile(DIGITS) is first
    assert compiler.cached(DIGITS) is first


def test_a_grammar_says_itself_where_an_answer_ends() -> None:
    with pytest.raises(SamplingParamsError, match="min_tokens"):
        SamplingParams(grammar=DIGITS, min_tokens=3, max_tokens=5)
    with pytest.raises(SamplingParamsError, match="ignore_eos"):
        SamplingParams(grammar=DIGITS, ignore_eos=True)
