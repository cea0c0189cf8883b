"""Which documents are rejected, and which count as the same."""

import random

import pytest

from byollm.data.quality import fault, identity, normal
from byollm.settings.data import DataSettings

PROSE = (
    "The harbour was quiet that morning. A few boats rocked beside the wall, and an old man mended his nets\n"
    "while he told nobody in particular about the storm of his youth, which grew with every telling.\n"
)
NOISE = "".join(random.Random(0).choices("0123456789+-*/=<>[](){}#%&", k=400))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("Cảng biển sáng hôm đó thật yên tĩnh, vài chiếc thuyền đung đưa bên bức tường đá cũ kỹ", None),
        ("那天早上港口很安静几艘船在墙边摇晃一位老人一边修补渔网一边讲述他年轻时的风暴" * 2, None),
        ("Too short.", "too short"),
        (PROSE + "\0", "control characters"),
        (PROSE + "\x07", "control characters"),
        (PROSE * 20 + "\x07", None),
        (PROSE + "\ufffd", "replacement characters"),
        (NOISE, "too few letters"),
        ("spam " * 300, "too repetitive"),
        (PROSE * 40, "too repetitive"),
        (PROSE + "\ud800", "not Unicode text (lone surrogate)"),
    ],
)
def test_the_reason_is_named(text: str, reason: str | None) -> None:
    settings = DataSettings(max_compression=8 if text != PROSE * 20 + "\x07" else 99)
    assert fault(text, settings) == reason


def test_a_long_document_is_judged_in_bounded_time_by_its_beginning() -> None:
    assert (
        fault("".join(random.Random(1).choices("abcdefgh ", k=2**16)) + "spam " * 10**6, DataSettings())
        is None
    )


def test_case_and_white_space_do_not_tell_documents_apart() -> None:
    assert normal("A  b\n\nC ") == normal("a B c") != normal("a b d")


def test_identity_depends_on_text_and_seed_and_nothing_else() -> None:
    assert identity("one", 0) == identity("one", 0)
    assert identity("one", 0) != identity("one", 1) != identity("two", 1)


def test_draws_are_uniform() -> None:
    below = sum(identity(str(number), 0).draw < 2**62 for number in range(4000))
    assert 900 < below < 1100
