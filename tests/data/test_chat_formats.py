"""Every known shape of a conversation, and what is not one."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byollm.data.chat_formats import ShapeError, conversations, validated

HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [HI, HELLO]},
        [HI, HELLO],
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "id": 7},
        {"conversation": [{"role": "Human", "content": "Hi"}, {"role": "Assistant", "content": "Hello"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, HELLO]},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "context": "", "response": "Hello", "category": "open_qa"},
        {"instruction": "Hi", "context": None, "response": "Hello"},
        {"instruction": "Hi", "instances": [{"input": "", "output": "Hello"}]},
        {"input": "Hi", "output": "Hello"},
        {"prompt": "Hi", "completion": "Hello"},
        {"question": "Hi", "answer": "Hello"},
        {"human": "Hi", "assistant": "Hello"},
        {"text": "### Human: Hi### Assistant: Hello"},
        {"text": "### Human: Hi\n### Assistant: Hello\n"},
        {"text": "\n\nHuman: Hi\n\nAssistant: Hello"},
        "### human:\nHi\n\n### ASSISTANT:\nHello",
    ],
)
def test_a_row_of_each_shape_is_understood(row: Any) -> None:
    assert [validated(messages, 100) for messages in conversations(row)] == [[HI, HELLO]]


def test_an_input_follows_its_instruction() -> None:
    row = {"instruction": "Translate. ", "input": " Bonjour", "output": "Hello"}
    assert conversations(row)[0][0]["content"] == "Translate.\n\nBonjour"


def test_self_instruct_rows_hold_several_conversations() -> None:
    instances = [{"input": "1", "output": "one"}, {"input": "2", "output": "two"}]
    found = conversations({"instruction": "Spell.", "instances": instances})
    assert [[turn["content"] for turn in messages] for messages in found] == [
        ["Spell.\n\n1", "one"],
        ["Spell.\n\n2", "two"],
    ]


def test_many_turns_and_a_system_message_are_kept() -> None:
    text = "### System: Be kind.### Human: Hi### Assistant: Hello### Human: Hi### Assistant: Hello"
    expected = [SYSTEM, HI, HELLO, HI, HELLO]
    assert validated(conversations(text)[0], 100) == expected
    assert (
        validated(conversations({"system": "Be kind.", "conversations": [HI, HELLO, HI, HELLO]})[0], 100)
        == expected
    )


def test_tags_inside_a_line_are_text() -> None:
    found = conversations("Human: Say 'Assistant: no'.\nAssistant: The word Human: is a tag.")[0]
    assert [turn["content"].strip() for turn in found] == [
        "Say 'Assistant: no'.",
        "The word Human: is a tag.",
    ]


def test_contents_are_stripped_and_have_unix_line_ends() -> None:
    found = validated([{"role": "user", "content": " a\r\nb\rc\n"}, HELLO], 100)
    assert found[0]["content"] == "a\nb\nc"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (7, "unknown shape"),
        ({}, "unknown shape"),
        ({"title": "x", "body": "y"}, "unknown shape"),
        ({"text": "no tags"}, "unknown shape"),
        ({"text": "Preface. ### Human: Hi### Assistant: Hello"}, "text before the first tag"),
        ({"messages": "Hi"}, "unknown shape"),
        ({"messages": ["Hi"]}, "unknown shape"),
        ({"messages": []}, "no messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "unknown role"),
        ({"messages": [{"content": "x"}]}, "unknown role"),
        ({"messages": [{"role": "user", "content": 7}, HELLO]}, "not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, HELLO]}, "not text"),
        ({"messages": [{"role": "user", "content": " \n"}, HELLO]}, "empty message"),
        ({"messages": [HI, {"role": "assistant", "content": "a\0b"}]}, "control characters"),
        ({"messages": [HI, {"role": "assistant", "content": "\ud800"}]}, "not Unicode text (lone surrogate)"),
        ({"messages": [HELLO, HI, HELLO]}, "roles do not take turns"),
        ({"messages": [HI, HI, HELLO]}, "roles do not take turns"),
        ({"messages": [HI, HELLO, SYSTEM, HI, HELLO]}, "roles do not take turns"),
        ({"messages": [HI, HELLO, HI]}, "no answer at the end"),
        ({"messages": [SYSTEM]}, "no answer at the end"),
        ({"messages": [HI, {"role": "assistant", "content": "x" * 100}]}, "conversation too long"),
        ({"instruction": "Hi"}, "unknown shape"),
        ({"instruction": "Hi", "instances": ["x"]}, "unknown shape"),
        ({"instruction": "", "output": "Hello"}, "empty message"),
        ({"input": "Hi", "output": ""}, "empty message"),
    ],
)
def test_what_is_no_conversation_has_a_reason(row: Any, reason: str) -> None:
    with pytest.raises(ShapeError) as caught:
        [validated(messages, 100) for messages in conversations(row)]
    assert caught.value.reason == reason


KEYS = st.sampled_from(
    ["messages", "conversations", "role", "from", "content", "value", "instruction", "instances"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            KEYS | st.sampled_from(["input", "output", "text", "type", "system"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
def test_any_json_is_a_conversation_or_has_a_reason(row: Any) -> None:
    with contextlib.suppress(ShapeError):
        for messages in conversations(row):
            canonical = validated(messages, 1000)
            assert canonical[-1]["role"] == "assistant"
            assert validated(canonical, 1000) == canonical
