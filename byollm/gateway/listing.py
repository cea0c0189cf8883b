"""What the endpoint serves, adapters among it: asked of it now and then, and remembered meanwhile."""

import asyncio
import logging
from time import monotonic, time
from typing import Any

import orjson

from byollm.gateway.passing import Passage
from byollm.web.errors import ApiError

log = logging.getLogger(__name__)

FRESH_S = 60.0
AWAKE_S = 300.0  # an endpoint goes to sleep after 15 minutes without calls


class Listing:
    """The models as OpenAI lists them.

    An endpoint that may be asleep is asked only soon after it answered a call: to ask would wake it, and
    pages ask every few seconds. Until it has told, there is the one model that the settings name.

    Args:
        passage: the way to the endpoint.
    """

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        name = passage.settings.model_name
        self._known = [{"id": name, "object": "model", "created": int(time()), "owned_by": "byollm"}]
        self._asked = -FRESH_S
        self._asking = asyncio.Lock()

    async def models(self, request_id: str) -> list[dict[str, Any]]:
        """Return them, the base model first."""
        async with self._asking:
            if monotonic() - self._asked >= FRESH_S and self._is_awake():
                self._asked = monotonic()
                await self._ask(request_id)
        return self._known

    def _is_awake(self) -> bool:
        return not self._passage.runtime.may_sleep or monotonic() - self._passage.answered < AWAKE_S

    async def _ask(self, request_id: str) -> None:
        try:
            told = orjson.loads(await self._passage.runtime.models(request_id))
            models = [dict(model, id=str(model["id"])) for model in told["data"]]
        except (ApiError, ValueError, LookupError, TypeError) as error:
            # Another container than ours, perhaps, which has no such route.
            log.info("the endpoint does not tell its models", extra={"fault": str(error)[:500]})
        else:
            self._known = models or self._known
