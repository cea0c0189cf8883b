"""The model's card: the facts that the server tells, and the Markdown that lies beside the weights."""

import html
import re
from collections.abc import Mapping
from typing import Any

_LABELS = {
    "model": "Name",
    "parameters": "Parameters",
    "max_context": "Context",
    "family": "Architecture",
    "layers": "Layers",
    "hidden_size": "Width",
    "vocab_size": "Vocabulary",
    "tokenizer": "Tokenizer",
    "dtype": "Precision",
    "device": "Device",
    "license": "Licence",
}
_UNITS = {"max_context": " tokens", "vocab_size": " tokens"}


def facts(info: Mapping[str, Any]) -> str:
    """Lay the facts out as an HTML description list: the known ones first, then whatever else is told."""
    rest = [key for key, value in info.items() if key not in _LABELS and key != "card" and _is_short(value)]
    rows = []
    for key in [*_LABELS, *rest]:
        value = info.get(key)
        if value is not None and _is_short(value):
            label = _LABELS.get(key) or key.replace("_", " ").capitalize()
            rows.append(f"<div><dt>{html.escape(label)}</dt><dd>{html.escape(_write(key, value))}</dd></div>")
    return f"<dl>{''.join(rows)}</dl>" if rows else "<p>The model server tells nothing about its model.</p>"


def card(info: Mapping[str, Any]) -> str:
    """Return the card's Markdown without its front matter and its pictures, which the page cannot show."""
    text = info.get("card")
    if not isinstance(text, str):
        return ""
    text = re.sub(r"\A---\n.*?\n---\n", "", text.replace("\r\n", "\n"), flags=re.DOTALL)
    return re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text).strip()


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and 0 < len(str(value)) <= 120


def _write(key: str, value: str | int | float) -> str:
    if key == "parameters" and isinstance(value, int):
        for size, letter in ((10**9, "B"), (10**6, "M")):
            if value >= size:
                return f"{value / size:.2f} {letter}".replace(".00", "")
    return (f"{value:,}" if isinstance(value, int | float) else value) + _UNITS.get(key, "")
