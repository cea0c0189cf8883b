from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byollm.modeling import IncrementalDetokenizer, Tokenizer

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.lists(
    st.sampled_from(
        ["hello", " ", "  ", "漢字", "😀", "👩‍👩‍👧", "é", "\n", "▁", "<|im_end|>", "</s>", "\u202e"]
    )
).map("".join)
DIRECTORIES = ["byte_level_directory", "sentencepiece_directory", "metaspace_directory"]


@pytest.fixture(scope="module", params=DIRECTORIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of each kind."""
    return Tokenizer.load(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def byte_level(byte_level_directory: Path) -> Tokenizer:
    return Tokenizer.load(byte_level_directory)


def pushed(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> list[str]:
    stream = IncrementalDetokenizer(tokenizer, skip_special=skip_special)
    return [*(stream.push(id) for id in ids), stream.flush()]


@given(text=ANY_TEXT, skip_special=st.booleans())
def test_pushes_of_a_text_are_what_the_library_decodes(
    tokenizer: Tokenizer, text: str, skip_special: bool
) -> None:
    ids = tokenizer.encode(text)
    expected = tokenizer._tokenizer.decode(ids, skip_special_tokens=skip_special)
    assert "".join(pushed(tokenizer, ids, skip_special)) == expected
    assert tokenizer.decode(ids, skip_special) == expected


@given(data=st.data())
def test_pushes_of_any_tokens_are_decode(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=40))
    assert "".join(pushed(tokenizer, ids)) == tokenizer.decode(ids)


@given(data=st.data(), skip_special=st.booleans())
def test_any_byte_level_tokens_are_what_the_library_decodes(
    byte_level: Tokenizer, data: st.DataObject, skip_special: bool
) -> None:
    ids = data.draw(st.lists(st.integers(0, byte_level.vocab_size - 1), max_size=40))
    expected = byte_level._tokenizer.decode(ids, skip_special_tokens=skip_special)
    assert "".join(pushed(byte_level, ids, skip_special)) == expected


@given(text=ANY_TEXT.filter(lambda text: "�" not in text))
def test_no_push_holds_half_a_character(byte_level: Tokenizer, text: str) -> None:
    pieces = pushed(byte_level, byte_level.encode(text), skip_special=False)
    assert "�" not in "".join(pieces)
    assert "".join(pieces) == text


@pytest.mark.parametrize("directory", DIRECTORIES[:2])
def test_a_character_appears_with_its_last_byte(directory: str, request: pytest.FixtureRequest) -> None:
    tokenizer = Tokenizer.load(request.getfixturevalue(directory))
    single = {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size)}
    ids = [single[bytes([byte])] for byte in "😀".encode()]
    assert pushed(tokenizer, ids) == ["", "", "", "😀", ""]


def test_a_character_cut_short_is_shown_at_the_end(byte_level_directory: Path) -> None:
    tokenizer = Tokenizer.load(byte_level_directory)
    emoji = [tokenizer.encode(chr(0x1F680 + i)) for i in range(4)]
    ids = next(ids for ids in emoji if len(ids) > 1)
    assert pushed(tokenizer, ids[:-1])[-1] == "�"


def test_bytes_that_are_no_character_do_not_take_their_neighbours_along(
    sentencepiece_directory: Path,
) -> None:
    tokenizer = Tokenizer.load(sentencepiece_directory)
    bad = 3 + 0xFF  # the token of a byte that UTF-8 never uses
    assert tokenizer.decode([*tokenizer.encode("😀"), bad, *(3 + byte for byte in "😀".encode())]) == "😀�😀"


def test_a_space_at_the_beginning_belongs_to_a_continued_text(
    sentencepiece_directory: Path, metaspace_directory: Path
) -> None:
    for directory in (sentencepiece_directory, metaspace_directory):
        tokenizer = Tokenizer.load(directory)
        ids = tokenizer.encode("hello")
        continued = IncrementalDetokenizer(tokenizer, continues=True)
        assert "".join(map(continued.push, ids)) + continued.flush() == " hello"
        assert tokenizer.decode(ids) == "hello"


def test_each_push_looks_at_its_own_token_only(byte_level_directory: Path) -> None:
    tokenizer = Tokenizer.load(byte_level_directory)

    class Counting:
        leading_spaces = 0
        looked_at = 0
        texts: ClassVar[dict[int, str]] = {}

        def token_bytes(self, token_id: int, first: bool = False) -> bytes:
            self.looked_at += 1
            return tokenizer.token_bytes(token_id, first)

        def is_special(self, token_id: int) -> bool:
            return tokenizer.is_special(token_id)

    counting = Counting()
    stream = IncrementalDetokenizer(counting)
    ids = tokenizer.encode("hello 漢字 😀 " * 200)
    assert "".join(map(stream.push, ids)) == "hello 漢字 😀 " * 200
    assert counting.looked_at < len(ids)
    assert set(counting.texts) < set(ids)
