"""What the sampling controls say, as the fields of a request; and what they start from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from byollm.settings import PageSettings

NEUTRAL: dict[str, float] = {
    "temperature": 1,
    "top_p": 1,
    "top_k": 0,
    "min_p": 0,
    "repetition_penalty": 1,
}
"""OpenAI's defaults, and vLLM's for what OpenAI does not have: the values that change nothing."""


@dataclass(frozen=True)
class Sampling:
    """The controls, in the order in which they stand on the page."""

    temperature: float
    top_p: float
    max_tokens: int
    top_k: int
    min_p: float
    seed: int | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float

    def fields(self, known: Collection[str] = ()) -> dict[str, Any]:
        """Return the fields to send: what changes something, and what has a `known` default at the server.

        A server need not know `top_k` or `min_p` to be of use, and refuses what it does not know. One that
        does not tell its defaults, as behind a gateway, draws as its model wants where nothing was chosen.
        """
        neutral = NEUTRAL | {"seed": None, "presence_penalty": 0, "frequency_penalty": 0}
        chosen = {
            name: getattr(self, name)
            for name, value in neutral.items()
            if name in known or getattr(self, name) != value
        }
        return {
            "max_tokens": int(self.max_tokens),
            **{name: int(value) if name in ("top_k", "seed") else value for name, value in chosen.items()},
        }


def start(settings: PageSettings, defaults: Mapping[str, Any]) -> dict[str, float]:
    """Return what the controls start from: the page's settings, else the model's defaults, else nothing."""
    values = {}
    for name, neutral in NEUTRAL.items():
        told = defaults.get(name)
        wished = told if isinstance(told, int | float) else neutral
        chosen = getattr(settings, name)
        values[name] = wished if chosen is None else chosen
    return values
