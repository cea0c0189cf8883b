"""The default sources, where their packs are at hand: what they are taken for is what they are."""

import os
from itertools import islice
from pathlib import Path

import pytest

from byollm.data.conversations import prepare_conversations
from byollm.data.documents import Document, documents
from byollm.data.quality import fault
from byollm.settings.data import ConversationSource, DataSettings, TextSource

DIRECTORY = os.environ.get("BYOLLM__DATA__DIRECTORY", "")
pytestmark = pytest.mark.skipif(
    not (Path(DIRECTORY) / "wiki_core_lead4k.txt.xz").is_file(),
    reason="needs the data packs: set BYOLLM__DATA__DIRECTORY to their directory",
)
SETTINGS = DataSettings(directory=Path(DIRECTORY or "."))


def first(source: TextSource, count: int) -> list[Document]:
    found = documents(SETTINGS.directory / source.path, source, SETTINGS, lambda count: None)
    return [item for item in islice(found, count) if isinstance(item, Document)]


def test_each_default_text_source_gives_documents_worth_keeping() -> None:
    wiki, books, tales = (first(source, 50) for source in SETTINGS.sources)
    assert [document.text.partition("\n")[0] for document in wiki[:2]] == ["Anarchism", "Autism"]
    assert max(len(document.text) for document in wiki) <= 4000
    assert books[0].member.startswith("openstax-ccby.tar.xz:openstax/")
    assert 7000 < sum(len(document.text) for document in books) / 50 < 12_000
    assert all("/train/" in document.member and document.number == 2 for document in tales)
    assert not [
        fault(document.text, SETTINGS) for document in wiki + books + tales if fault(document.text, SETTINGS)
    ]


def test_the_larger_wiki_packs_are_read_by_the_same_rule() -> None:
    source = TextSource(path=Path("wiki_core_rest_1.txt.xz"), documents="blank-lines")
    if not (SETTINGS.directory / source.path).is_file():
        pytest.skip("needs wiki_core_rest_1.txt.xz")
    found = first(source, 20)
    assert found[0].text.startswith("Anarchism\n")
    assert len(found) == 20


def test_the_conversation_packs_are_read_without_loss(tmp_path: Path) -> None:
    sources = [source for source in SETTINGS.conversations if (SETTINGS.directory / source.path).is_file()]
    tales = [source for source in sources if source.format == "fairytaleqa"]
    small = ConversationSource(path=Path("self-instruct.tar.xz"))
    assert small in sources
    manifest = prepare_conversations(SETTINGS.override(conversations=[small, *tales]), tmp_path)
    assert [entry["kept"] for entry in manifest["sources"]] == [427, 8548]
    assert manifest["rejected"] == {}
