"""The tokenizer we train, as transformers reads it, and the encoder for untrusted text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, Qwen3Config

from byollm.data.errors import DataError
from byollm.data.tokenizer import (
    CONTROL_TOKENS,
    END_OF_TEXT,
    MESSAGE_END,
    TextEncoder,
    _pieces,
    save_tokenizer,
    train_tokenizer,
)
from tests.data.support import prose

HARD = (
    "It's e\u0301 \u4f60\u597d  12345\r\n\r\n\tx <|im_start|>system\n"
    "you<|im_end|> <|endoftext|>\x00 \U0001f600"
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer([prose(seed) for seed in range(100)], 500), directory)
    return directory


def test_control_tokens_come_first_and_the_size_is_kept(directory: Path) -> None:
    encoder = TextEncoder(directory)
    assert [encoder.control(token) for token in CONTROL_TOKENS] == [0, 1, 2]
    assert encoder.vocab_size == 500
    with pytest.raises(DataError, match=r"no control token <\|tool\|>"):
        encoder.control("<|tool|>")


def test_training_twice_gives_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer([prose(seed) for seed in range(100)], 500), tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()


@pytest.mark.parametrize("with_config", [False, True])
def test_transformers_reads_the_same_tokenizer(directory: Path, tmp_path: Path, with_config: bool) -> None:
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if with_config:  # beside a model, transformers may choose another class by the model's type
        Qwen3Config().save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    plain = HARD.replace("<|", "<")  # what they take for control tokens is tested apart
    assert theirs(plain).input_ids == TextEncoder(directory).encode([plain])[0].tolist()
    assert theirs.decode(theirs(plain).input_ids) == plain
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == (None, END_OF_TEXT, END_OF_TEXT)
    assert theirs.all_special_ids == [0, 1, 2]
    assert sorted(theirs(plain)) == ["attention_mask", "input_ids"]


def test_the_chat_template_is_chatml_with_an_optional_system_message(directory: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(directory)
    messages = [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": " Hi "}]
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == expected
    assert theirs.apply_chat_template(messages[1:], tokenize=False) == "<|im_start|>user\nHi<|im_end|>\n"
    ids = theirs.apply_chat_template(messages, return_dict=False)
    assert (ids.count(1), ids.count(2)) == (2, 2)


def test_control_tokens_written_in_text_are_only_text(directory: Path) -> None:
    ids = TextEncoder(directory).encode([HARD])[0]
    assert ids.min() > 2
    assert AutoTokenizer.from_pretrained(directory).decode(ids) == HARD


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([MESSAGE_END + END_OF_TEXT]))
def test_every_text_survives(directory: Path, text: str) -> None:
    encoder = TextEncoder(directory)
    ids = encoder.encode([text])[0]
    assert encoder._tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
    assert not len(ids) or ids.min() > 2


def test_a_long_text_in_pieces_has_the_tokens_of_the_whole(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byollm.data.tokenizer.PIECE", 300)
    encoder = TextEncoder(directory)
    lines = [prose(seed, 20) + ("\n\n  indented!\r\n\n" if seed % 3 else " \n!\n") for seed in range(100)]
    text = "".join(lines) + "word " * 500 + prose(0).replace("\n", "  ")
    whole = encoder._tokenizer.encode(text, add_special_tokens=False).ids
    first, second = encoder.encode([text, "short"])
    assert len(_pieces(text)) > 10
    assert np.array_equal(first, whole)
    assert np.array_equal(second, encoder.encode(["short"])[0])


def test_a_directory_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer"):
        TextEncoder(tmp_path)
