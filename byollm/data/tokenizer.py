"""The tokenizer we train: byte-level BPE, in the files that transformers, vLLM and llama.cpp read.

The pre-tokenizer is Qwen2's, because llama.cpp knows it by name; there is no normaliser, so that decoding
gives back every byte. Control tokens are never recognised inside text: `encode` spells `<|im_start|>` out.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Encoding, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from byollm.data.errors import DataError

END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, MESSAGE_START, MESSAGE_END)  # ids 0, 1, 2

# https://huggingface.co/Qwen/Qwen2.5-0.5B/blob/main/tokenizer.json (pre_tokenizer)
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PIECE = 2**18  # characters
_CUT = re.compile(r"\n(?=\S)|(?<=[^\W\d_])(?= [^\W\d_])")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer of at most `vocab_size` entries, the control tokens first.

    The result depends on the texts and the size only.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = (piece for text in texts for piece in _pieces(text))
    tokenizer.train_from_iterator(pieces, trainer=trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` with the ChatML template."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    config = {
        # not Qwen2TokenizerFast: transformers 5 puts an NFC normaliser into that, which loses bytes
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "add_prefix_space": False,
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "model_max_length": 1_000_000,
        "added_tokens_decoder": {
            str(index): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for index, token in enumerate(CONTROL_TOKENS)
        },
        "additional_special_tokens": [MESSAGE_START, MESSAGE_END],
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (directory / "tokenizer_config.json").write_text(text, encoding="utf-8")


class TextEncoder:
    """A trained tokenizer for text that nobody vouches for: control tokens in it are spelled out."""

    def __init__(self, directory: Path) -> None:
        file = directory / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise DataError(f"{file}: not a tokenizer that can be read ({error}).") from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)

    def control(self, token: str) -> int:
        """Return the id of a control token.

        Raises:
            DataError: the vocabulary has no such token.
        """
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise DataError(f"the tokenizer has no control token {token}; those of `byollm data prepare` do.")
        return int(index)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the token ids of each text; a long text is encoded in pieces, which bounds the memory."""
        pieces = [_pieces(text) for text in texts]
        short = [parts[0] for parts in pieces if len(parts) == 1]
        encodings = iter(self._tokenizer.encode_batch_fast(short, add_special_tokens=False))
        return [self._ids(next(encodings)) if len(parts) == 1 else self._joined(parts) for parts in pieces]

    def _joined(self, parts: list[str]) -> NDArray[np.int64]:
        return np.concatenate(
            [self._ids(self._tokenizer.encode(part, add_special_tokens=False)) for part in parts]
        )

    @staticmethod
    def _ids(encoding: Encoding) -> NDArray[np.int64]:
        return np.array(encoding.ids, dtype=np.int64)


def _pieces(text: str) -> list[str]:
    """Cut a long text where its tokens cannot notice.

    The pre-tokenizer never joins the end of a line to a next line that does not start with white space, nor a
    letter to a space behind it.
    """
    pieces, start = list[str](), 0
    while len(text) - start > 2 * PIECE and (cut := _CUT.search(text, start + PIECE)) is not None:
        pieces.append(text[start : cut.end()])
        start = cut.end()
    return [*pieces, text[start:]]
