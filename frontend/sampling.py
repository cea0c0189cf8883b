"""What the sampling controls say, as the fields of a request."""

from dataclasses import dataclass
from typing import Any


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

    def fields(self) -> dict[str, Any]:
        """Return the fields to send: OpenAI's two always, the others only where they change something.

        A server need not know `top_k` or `min_p` to be of use, and refuses what it does not know.
        """
        neutral = {
            "top_k": 0,
            "min_p": 0,
            "seed": None,
            "repetition_penalty": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
        }
        chosen = {
            name: getattr(self, name) for name, value in neutral.items() if getattr(self, name) != value
        }
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": int(self.max_tokens),
            **{name: int(value) if name in ("top_k", "seed") else value for name, value in chosen.items()},
        }
