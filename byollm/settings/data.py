"""Settings of the data floor: which texts and conversations, how they are cut, filtered, split and packed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from byollm.settings.base import Section

DocumentRule = Literal["auto", "file", "pages", "blank-lines", "rows"]


class TextSource(Section):
    """One file or archive of text, and how documents are found in it."""

    path: Path
    """File: `.txt`, `.md`, `.jsonl`, `.json`, `.csv` or a `.tar` of them, each also as `.gz` or `.xz`.
    Absolute, or relative to the data directory, the working directory or the repository."""

    members: Annotated[str, Field(min_length=1)] = "*"
    """Which members of an archive are read: a shell pattern over their whole names."""

    documents: DocumentRule = "auto"
    """What one document is. `file`: the whole file (the rows of a table joined); `pages`: a text cut at blank
    lines into pieces of about `page_characters`; `blank-lines`: what stands between blank lines; `rows`: one
    row of JSONL, JSON or CSV. `auto`: pages for text, rows for tables."""

    text_field: Annotated[str, Field(min_length=1)] = "text"
    """Field of a JSON object, or column of a CSV file, that holds the text."""


class ConversationSource(Section):
    """One file or archive of conversations."""

    path: Path
    """File: `.jsonl`, `.json`, `.csv` or `.txt` (`### Human:` / `### Assistant:`), or an archive of them.
    Absolute, or relative to the data directory, the working directory or the repository."""

    members: Annotated[str, Field(min_length=1)] = "*"
    """Which members of an archive are read: a shell pattern over their whole names."""

    format: Literal["auto", "fairytaleqa"] = "auto"
    """`auto` tells messages, Alpaca, Dolly, ShareGPT, self-instruct, input/output and Human/Assistant text
    apart row by row; `fairytaleqa` pairs an archive's story sections with its question tables."""

    repeat: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often each of its conversations stands in the train split; a few written by hand weigh more so."""


DEFAULT_SOURCES = (
    TextSource(path=Path("wiki_core_lead4k.txt.xz"), documents="blank-lines"),
    TextSource(path=Path("openstax-ccby.tar.xz"), documents="pages"),
    TextSource(path=Path("fairytaleqa.tar.xz"), members="*/section-stories/train/*.csv", documents="file"),
)

DEFAULT_CONVERSATIONS = (
    ConversationSource(path=Path("models/persona.jsonl")),
    ConversationSource(path=Path("databricks-dolly-15k.jsonl.xz")),
    ConversationSource(path=Path("self-instruct.tar.xz")),
    ConversationSource(path=Path("fairytaleqa.tar.xz"), members="*/train/*.csv", format="fairytaleqa"),
)


class DataSettings(Section):
    """Texts and conversations in, packed tokens out."""

    directory: Path = Path("data")
    """Directory in which relative source paths are looked up first."""

    output: Path = Path("var/data")
    """Directory that `byollm data prepare` writes and training reads."""

    sources: Annotated[tuple[TextSource, ...], Field(min_length=1)] = DEFAULT_SOURCES
    """Texts to pretrain on, in reading order."""

    conversations: tuple[ConversationSource, ...] = DEFAULT_CONVERSATIONS
    """Conversations to teach chat with, in reading order."""

    vocab_size: Annotated[int, Field(ge=259, le=1_000_000)] = 8192
    """Size of the tokenizer's vocabulary: 256 bytes, 3 control tokens, and merges for the rest."""

    tokenizer_sample_bytes: Annotated[int, Field(ge=1)] = 32 * 2**20
    """Bytes of the train split, drawn at random by document, that the tokenizer is trained on."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Chooses the split and the tokenizer's sample; the same seed and inputs give the same bytes."""

    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of the documents, chosen by hash, that is kept for validation."""

    validation_minimum: Annotated[int, Field(ge=1)] = 4
    """Documents kept for validation at least, up to half of all."""

    shard_tokens: Annotated[int, Field(ge=1)] = 4 * 2**20
    """Tokens at which a shard is closed; what a killed run can lose is at most one unfinished shard."""

    page_characters: Annotated[int, Field(ge=1)] = 8000
    """Length from which a page ends at the next blank line."""

    min_characters: Annotated[int, Field(ge=1)] = 64
    """Shorter documents are rejected."""

    min_letter_fraction: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Least share of letters among what is not white space; a document below it is rejected."""

    max_compression: Annotated[float, Field(gt=1)] = 8.0
    """A document that deflates by more than this factor is rejected as repetitive (English prose: 2 to 3)."""

    max_replacement_fraction: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Largest share of U+FFFD, the mark of text decoded wrongly, in a document."""

    max_line_bytes: Annotated[int, Field(ge=1)] = 16 * 2**20
    """Longer lines are set aside unread; bounds memory against hostile input."""

    max_document_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    """Longer documents (and whole `.json` files) are set aside; bounds memory against hostile input."""

    max_unpacked_bytes: Annotated[int, Field(ge=1)] = 256 * 2**30
    """Bytes one source may unpack to before it is refused as a decompression bomb."""

    max_conversation_characters: Annotated[int, Field(ge=1)] = 200_000
    """Longer conversations are rejected."""
