"""The page's notes beneath an answer, in Markdown."""

import re

MARK = "\N{INVISIBLE SEPARATOR}"
"""Begins every note, so that page.js can tell it from what the model said when an answer is copied."""


def note(*remarks: str, problem: str = "") -> str:
    """Write a note: a problem in bold, then remarks in italics; the style sheet gives them their look."""
    lines = [f"**{_plain(problem)}**"] if problem else []
    if remarks:
        lines.append(f"*{_plain(' · '.join(remarks))}*")
    return MARK + "\n\n".join(lines)


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup, but for `code`, which the messages of this house use."""
    return re.sub(r"([\\*_{}\[\]()<>#+!|~$])", r"\\\1", " ".join(text.split()))
