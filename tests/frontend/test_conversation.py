from frontend.conversation import Message, prompt, read, show, turns
from frontend.notes import MARK, note

CONVERSATION = [
    Message("user", "one"),
    Message("assistant", "  indented\n    code", note("4 tokens")),
    Message("user", "failed"),
    Message("assistant", "", note(problem="It broke.")),
    Message("user", "two"),
]


def test_conversation_survives_the_browser() -> None:
    assert read(show(CONVERSATION)) == CONVERSATION
    assert read(None) == []


def test_question_that_got_no_answer_is_not_sent_again() -> None:
    assert [message["content"] for message in prompt(CONVERSATION, "")] == [
        "one",
        "  indented\n    code",
        "two",
    ]
    assert len(turns(CONVERSATION)) == 2


def test_system_prompt_comes_first_and_stays_when_turns_are_left_out() -> None:
    assert prompt(CONVERSATION, "Be kind.", leave_out=1) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "two"},
    ]


def test_blank_system_prompt_is_not_sent() -> None:
    assert prompt(CONVERSATION, "  ")[0]["role"] == "user"


def test_note_is_marked_and_holds_no_markup_of_others() -> None:
    written = note("12 tokens", problem="died: <b>*x*</b>\n\n# [y](z)")
    assert written.startswith(f"{MARK}**died: \\<b\\>\\*x\\*")
    assert "\n\n*12 tokens*" in written
    assert "\n" not in written.partition("\n\n*")[0]
