"""What the documentation links to is there: files, and headings in them."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"\bdocs/[\w/-]+\.md(?:#[\w-]+)?")
"""A page as code and messages name it."""

MARKDOWN = MarkdownIt().enable("table")


@cache
def parsed(page: Path) -> list[Token]:
    return MARKDOWN.parse(page.read_text())


def tokens(page: Path) -> Iterator[Token]:
    for token in parsed(page):
        yield token
        yield from token.children or ()


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for opening, inside in pairwise(parsed(page)):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inside.children or ())
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            repeated = (f"{name}-{number}" for number in range(1, 100))
            found.add(next(each for each in (name, *repeated) if each not in found))
    return found


def broken(page: Path, link: str) -> str | None:
    """Say what is wrong with a link of a page."""
    path, _, anchor = unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{page.relative_to(ROOT)}: {link}: there is no such file"
    if anchor and anchor not in anchors(target):
        return f"{page.relative_to(ROOT)}: {link}: {target.name} has no such heading"
    return None


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    links = [
        (page, str(token.attrs.get("href") or token.attrs.get("src")))
        for page in PAGES
        for token in tokens(page)
        if token.type in ("link_open", "image")
    ]
    assert len(links) > 50
    inside = [(page, link) for page, link in links if not re.match(r"[a-z]+:", link)]
    assert list(filter(None, (broken(page, link) for page, link in inside))) == []


def test_every_page_that_the_code_names_is_there() -> None:
    code = [
        path
        for part in ("byollm", "stacks", "lambdas", "frontend", "bench", "scripts", "config", "containers")
        for path in (ROOT / part).rglob("*")
        if path.suffix in ("", ".py", ".yaml", ".md") and path.is_file()
    ]
    named = {(path, name) for path in [*code, *PAGES] for name in NAMED.findall(path.read_text())}
    assert len(named) > 10
    assert [fault for path, name in sorted(named) if (fault := broken(ROOT / "README.md", name))] == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    readme = ROOT / "README.md"
    assert broken(readme, "docs/nothing.md") == "README.md: docs/nothing.md: there is no such file"
    assert "has no such heading" in (broken(readme, "docs/local.md#nothing") or "")
    assert broken(readme, "docs/local.md#with-real-containers") is None
