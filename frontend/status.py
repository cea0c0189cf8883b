"""Whether the model is there: asked when a page opens and every few seconds after, so that pages recover."""

import html
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from frontend.client import ModelClient
from frontend.errors import ModelLoadingError, PageError

State = Literal["ready", "loading", "down"]
_WORDS: dict[State, str] = {"ready": "ready", "loading": "loading", "down": "not connected"}


@dataclass(frozen=True)
class Status:
    """The model server at one moment."""

    state: State
    model: str = ""
    problem: str = ""
    info: dict[str, Any] | None = None
    """What the server tells of its model; None if it was not asked, being shown already."""

    @property
    def key(self) -> str:
        """Differs where what is shown should."""
        return f"{self.state} {self.model}{self.problem}"

    def chip(self) -> str:
        """Write the model's name and state for the head of the page."""
        name = html.escape(self.model or "no model")
        return (
            f'<span class="chip {self.state}" title="{name}: {_WORDS[self.state]}">'
            f'<i aria-hidden="true"></i><span class="model">{name}</span>'
            f'<span class="sr-only">: {_WORDS[self.state]}</span></span>'
        )

    def banner(self) -> str:
        """Write what is wrong and what to do; nothing when all is well."""
        if self.state == "ready":
            return '<div role="status"></div>'
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(self.problem, quote=False))
        return f'<div role="status" class="banner {self.state}"><p>{text}</p></div>'


async def look(client: ModelClient, shown: str) -> Status:
    """Ask the server how it is, and for its facts unless `shown` is the key of what it is."""
    try:
        model = await client.model()
    except ModelLoadingError as error:
        return Status("loading", problem=str(error))
    except PageError as error:
        return Status("down", problem=str(error))
    status = Status("ready", model)
    return status if status.key == shown else replace(status, info=await client.info())
