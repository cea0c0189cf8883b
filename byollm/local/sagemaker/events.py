"""What SageMaker tells EventBridge of.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

import asyncio
import json
import logging

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.protocol import Members
from byollm.local.world import World

log = logging.getLogger(__name__)


class Events:
    """Puts events on the default bus, in order, without making anybody wait."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: asyncio.Task[None] | None = None

    def tell(self, what: str, arn: str, detail: Members) -> None:
        """Tell of a change of state.

        Args:
            what: the event's detail type, such as `SageMaker Training Job State Change`.
            arn: of what has changed.
            detail: what its Describe operation answers.
        """
        entry = {
            "Source": "aws.sagemaker",
            "DetailType": what,
            "Resources": [arn],
            "Detail": json.dumps(detail),
        }
        self._last = asyncio.create_task(self._put(entry, self._last))

    async def _put(self, entry: Members, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        try:
            await self._world.call("events", "put_events", Entries=[entry])
        except (BotoCoreError, ClientError) as error:
            log.warning("nobody was told of %s: %s", entry["DetailType"], error)
