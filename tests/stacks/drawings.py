"""What docs/architecture.md and docs/security.md show, made from the committed templates.

`make snapshots` renews it; a test fails where a document shows another app than the one there is.
"""

import re
from collections.abc import Callable

from tests.stacks.diagrams import around, flows, pipeline, question, release, stacks, stored
from tests.stacks.permissions import written
from tests.stacks.support import ROOT
from tests.stacks.templates import Platform

DOCUMENTS = ("architecture", "security")
BLOCK = re.compile(r"(<!-- made from the templates: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

DRAWN: dict[str, Callable[[Platform], object]] = {
    diagram.__name__: diagram for diagram in (stacks, flows, question, around, release, pipeline, stored)
}


def part(name: str) -> str:
    """Return what stands between two marks: a diagram in Mermaid, or the permissions."""
    platform = Platform()
    return written(platform) if name == "permissions" else f"```mermaid\n{DRAWN[name](platform)}\n```"


def document(name: str) -> str:
    """Return a document with its blocks as the templates are now."""
    text = (ROOT / "docs" / f"{name}.md").read_text()
    return BLOCK.sub(lambda block: f"{block[1]}{part(block[2])}\n{block[3]}", text)


def write() -> None:
    """Renew the documents."""
    for name in DOCUMENTS:
        (ROOT / "docs" / f"{name}.md").write_text(document(name))


if __name__ == "__main__":
    write()
