from byollm.modeling.literal_text import LiteralText

GUARD = LiteralText(["<|end|>", "<|end|>!", ""])


def test_text_without_special_tokens_is_one_piece() -> None:
    assert list(GUARD.split(GUARD.mark("hello <b>"))) == [("hello <b>", False)]
    assert list(GUARD.split("")) == []


def test_special_tokens_in_text_come_back_as_literal_pieces() -> None:
    assert list(GUARD.split(GUARD.mark("a<|end|>b<|end|>!"))) == [
        ("a", False),
        ("<|end|>", True),
        ("b", False),
        ("<|end|>!", True),
    ]


def test_special_tokens_added_after_marking_are_not_literal() -> None:
    assert list(GUARD.split(GUARD.mark("a") + "<|end|>")) == [("a<|end|>", False)]


def test_messages_are_marked_throughout_and_other_values_kept() -> None:
    marked = GUARD.mark([{"role": "user", "parts": ["<|end|>", 3, None]}, True])
    assert marked == [{"role": "user", "parts": ["\ufdd0<|end|>\ufdd1", 3, None]}, True]


def test_marks_in_the_text_itself_are_dropped() -> None:
    assert GUARD.mark("a\ufdd0b\ufdd1") == "ab"


def test_a_mark_that_a_template_tore_off_still_parts_the_text() -> None:
    assert list(GUARD.split("a\ufdd0<|en")) == [("a", False), ("<|en", False)]


def test_no_special_tokens_guard_nothing() -> None:
    assert list(LiteralText([]).split(LiteralText([]).mark("abc"))) == [("abc", False)]
