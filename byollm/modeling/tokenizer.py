"""Tokenizers in Hugging Face's files, over the `tokenizers` library."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import tokenizers

from byollm.modeling.chat_template import ChatTemplate, Messages, Tools
from byollm.modeling.detokenizer import IncrementalDetokenizer
from byollm.modeling.errors import TokenizerError
from byollm.modeling.literal_text import LiteralText
from byollm.modeling.token_pieces import piece_rules

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Tokenizer:
    """Text to tokens and back, as transformers' AutoTokenizer would with the same files.

    `bos_id`, `pad_id`: the token that opens a text and the one that fills up a batch, None if there is none.
    `eos_ids`: the tokens that end a generation, from generation_config.json where there is one; `eos_id`: the
    first of them. `vocab_size`: one more than the highest id; a model's matrices may have more rows. `texts`:
    what `IncrementalDetokenizer` keeps here.
    """

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the tokenizer in a model directory.

        Raises:
            TokenizerError: tokenizer.json is absent, a file is damaged, or the kind is not supported.
        """
        directory = Path(directory)
        if not (directory / "tokenizer.json").exists():
            raise TokenizerError(
                f"{directory / 'tokenizer.json'}: absent; expected a fast tokenizer, which "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes for the older kinds"
            )
        try:
            files = {
                name: (directory / name).read_bytes()
                for name in TOKENIZER_FILES
                if (directory / name).is_file()
            }
            return cls(directory, files)
        except OSError as error:
            raise TokenizerError(f"{directory}: cannot be read ({error})") from None

    def __init__(self, directory: Path, files: dict[str, bytes]) -> None:
        self.directory = directory
        self._files = files
        path = directory / "tokenizer.json"
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"{path}: damaged or too new ({error}); copy the file afresh") from None
        self._tokenizer.no_truncation()  # files that were saved after training may carry either
        self._tokenizer.no_padding()
        try:
            self._rules = piece_rules(json.loads(files["tokenizer.json"]).get("decoder"))
        except TokenizerError as error:
            raise TokenizerError(f"{path}: {error}") from None
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = frozenset(id for id, token in added.items() if token.special)
        self._literal = LiteralText([self._token(id) for id in self._special_ids])
        self._pieces: dict[int, bytes] = {}
        self.texts: dict[int, str] = {}
        self.leading_spaces = self._rules.strip_spaces
        self.vocab_size: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._config = self._read_json("tokenizer_config.json")
        self.special_tokens = self._read_special_tokens()
        self.bos_id = self._id("bos_token")
        self.pad_id = self._id("pad_token")
        self.eos_ids = self._read_eos_ids()
        self.eos_id = self.eos_ids[0] if self.eos_ids else None
        self._chat_template = self._read_chat_template()

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Return the token ids of `text`; with `special`, also those that the tokenizer puts around a text.

        A special token that is spelled out in `text` becomes that token, as in transformers.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Return the text of `ids`. Bytes that are no character become U+FFFD, unknown ids nothing."""
        stream = IncrementalDetokenizer(self, skip_special=skip_special)
        return "".join([stream.push(id) for id in ids]) + stream.flush()

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        """Return the bytes that a token stands for; none for an id outside the vocabulary.

        With `first` it begins a text, where some tokenizers write a space that is not meant.
        """
        if first and self._rules.first_drops_space:
            return self._rules.first_piece(self._token(token_id))
        piece = self._pieces.get(token_id)
        if piece is None:
            piece = self._pieces[token_id] = self._rules.piece(self._token(token_id))
        return piece

    def is_special(self, token_id: int) -> bool:
        """Tell whether a token is a control token rather than text."""
        return token_id in self._special_ids

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be laid out for this model."""
        return self._chat_template is not None

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template tells the model of tools."""
        return self._chat_template is not None and self._chat_template.knows_tools

    def render_chat(
        self, messages: Messages, add_generation_prompt: bool = True, tools: Tools | None = None
    ) -> str:
        """Lay out a conversation as the text that the model was taught on.

        Raises:
            TokenizerError: there is no chat template, or it refuses these messages.
        """
        if self._chat_template is None:
            raise TokenizerError(
                f"{self.directory}: there is no chat template; expected chat_template.jinja or chat_template "
                "in tokenizer_config.json. A base model continues text: use completions, or fine-tune it"
            )
        return self._chat_template.render(messages, add_generation_prompt=add_generation_prompt, tools=tools)

    def apply_chat_template(
        self, messages: Messages, add_generation_prompt: bool = True, tools: Tools | None = None
    ) -> list[int]:
        """Return the tokens of a conversation.

        Special tokens that the template writes are obeyed; those spelled out in a message are plain text, so
        that nobody can end their own turn and speak as another role.

        Raises:
            TokenizerError: there is no chat template, or it refuses these messages.
        """
        marked = None if tools is None else self._literal.mark(tools)
        rendered = self.render_chat(self._literal.mark(messages), add_generation_prompt, marked)
        ids: list[int] = []
        for text, is_literal in self._literal.split(rendered):
            tokenizer = self._without_special if is_literal else self._tokenizer
            ids += tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def save(self, directory: Path) -> None:
        """Write the tokenizer's files into `directory`, byte for byte as they were read."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (directory / name).write_bytes(content)

    @cached_property
    def _without_special(self) -> tokenizers.Tokenizer:
        """The same tokenizer, for which special tokens in a text are text."""
        plain = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        plain.encode_special_tokens = True
        return plain

    def _token(self, token_id: int) -> str:
        return self._tokenizer.id_to_token(token_id) or ""

    def _id(self, kind: str) -> int | None:
        """Return the id of a special token such as `bos_token`, None if it is not set."""
        if kind not in self.special_tokens:
            return None
        token_id: int | None = self._tokenizer.token_to_id(self.special_tokens[kind])
        if token_id is None:
            raise TokenizerError(
                f"{self.directory / 'tokenizer_config.json'}: {kind} is {self.special_tokens[kind]!r}, "
                "which is not in the vocabulary; copy the tokenizer's files afresh"
            )
        return token_id

    def _read_special_tokens(self) -> dict[str, str]:
        values = self._read_json("special_tokens_map.json") | self._config
        tokens = {}
        for kind in SPECIAL_TOKENS:
            value = values.get(kind)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str) and value:
                tokens[kind] = value
        return tokens

    def _read_eos_ids(self) -> tuple[int, ...]:
        for name in ("generation_config.json", "config.json"):
            path = self.directory / name
            if not path.is_file():
                continue
            value = _json_object(path, path.read_bytes()).get("eos_token_id")
            ids = [value] if isinstance(value, int) else value
            if not ids:
                continue
            if not isinstance(ids, list) or any(not isinstance(id, int) or id < 0 for id in ids):
                raise TokenizerError(f"{path}: eos_token_id is {value!r}; expected token ids of at least 0")
            return tuple(ids)
        eos = self._id("eos_token")
        return () if eos is None else (eos,)

    def _read_chat_template(self) -> ChatTemplate | None:
        source: Any = self._config.get("chat_template")
        if "chat_template.jinja" in self._files:
            source = self._files["chat_template.jinja"].decode(errors="replace")
        elif isinstance(source, list):  # several by name
            named = [entry for entry in source if isinstance(entry, dict) and entry.get("name") == "default"]
            source = named[0].get("template") if named else None
        if not source:
            return None
        try:
            return ChatTemplate(str(source), self.special_tokens)
        except TokenizerError as error:
            raise TokenizerError(f"{self.directory}: {error}") from None

    def _read_json(self, name: str) -> dict[str, Any]:
        return _json_object(self.directory / name, self._files[name]) if name in self._files else {}


def _json_object(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise TokenizerError(f"{path}: not readable as JSON ({error}); copy the file afresh") from None
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: expected a JSON object; copy the file afresh")
    return value
