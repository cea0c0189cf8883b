"""Calls are found in an answer however its text is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byollm.server.tool_calls import CallParser, split_calls
from byollm.server.tool_prompt import spell_out_tools

ONE = '<tool_call>\n{"name": "add", "arguments": {"a": [1, {"b": "}\\"{"}]}}\n</tool_call>'
TWO = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        ("just text < 3", "just text < 3", []),
        ("  spaces \n kept  ", "  spaces \n kept  ", []),
        ("not a <tool_ca", "not a <tool_ca", []),
        (ONE, "", [("add", '{"a": [1, {"b": "}\\"{"}]}')]),
        (f"I add. \n{ONE}\n{TWO}\n", "I add.", [("add", '{"a": [1, {"b": "}\\"{"}]}'), ("now", "{}")]),
        (f"{TWO}\nDone.", "Done.", [("now", "{}")]),
        (ONE[: ONE.index("[1") + 2], "", [("add", '{"a": [1')]),
        ('<tool_call>\n{"name": "a', "", []),
    ],
)
@given(cuts=st.lists(st.integers(0, 200)))
def test_calls_are_the_same_however_the_text_is_cut(
    answer: str, text: str, calls: list[tuple[str, str]], cuts: list[int]
) -> None:
    whole, found = split_calls(answer, CallParser())
    assert (whole, [(call.name, call.arguments) for call in found]) == (text, calls)
    parser = CallParser()
    edges = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    pieces = [piece for start, end in itertools.pairwise(edges) for piece in parser.push(answer[start:end])]
    pieces += parser.flush()
    assert "".join(piece.value for piece in pieces if piece.kind == "text") == text
    assert [piece.value for piece in pieces if piece.kind == "call"] == [name for name, _ in calls]
    streamed = "".join(piece.value for piece in pieces if piece.kind == "arguments")
    assert streamed == "".join(arguments for _, arguments in calls)


def test_where_calls_alone_are_allowed_the_beginning_of_a_tag_is_no_text() -> None:
    assert split_calls(f"{TWO}\n<tool_ca", CallParser(calls_only=True))[0] == ""
    assert split_calls(f"{TWO}\n<tool_ca", CallParser())[0] == "<tool_ca"


@pytest.mark.parametrize(
    ("answer", "called"),
    [
        ("text", False),
        (TWO, True),
        (TWO[:-3], True),
        (ONE + TWO[:-14], True),
        (ONE + TWO[:-15], False),
        (ONE[:50], False),
    ],
)
def test_a_call_whose_arguments_are_cut_short_is_none(answer: str, called: bool) -> None:
    parser = CallParser()
    parser.push(answer)
    assert parser.called == called


def test_a_template_without_tools_gets_them_in_words() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": {}}}
    written = spell_out_tools(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": "", "tool_calls": [call, call]},
            {"role": "tool", "content": "noon", "tool_call_id": "1"},
            {"role": "tool", "content": "night", "tool_call_id": "1"},
        ],
        [{"type": "function", "function": {"name": "now"}}],
    )
    assert [message["role"] for message in written] == ["system", "user", "assistant", "user"]
    assert written[0]["content"].startswith("Be kind.\n\n")
    assert '"name": "now"' in written[0]["content"]
    assert written[2]["content"] == f"{TWO}\n{TWO}"
    assert written[3]["content"].count("<tool_response>") == 2
    assert all(set(message) == {"role", "content"} for message in written)
    assert spell_out_tools([{"role": "user", "content": "x"}], []) == [{"role": "user", "content": "x"}]
