"""Alarms that a deployment is watched by."""

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.protocol import Members
from byollm.local.world import World
from byollm.settings.errors import ByollmError

WATCH_S = 10.0
KINDS = ("MetricAlarm", "CompositeAlarm")


class AlarmError(ByollmError):
    """An alarm went off; the message is AWS's FailureReason."""


class Watch:
    """The alarms of one deployment.

    Args:
        world: whose CloudWatch has them, and whose clock is waited by.
        deployment: a DeploymentConfig, which may name none.
    """

    def __init__(self, world: World, deployment: Members) -> None:
        self._world = world
        alarms = deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        self._names = [alarm["AlarmName"] for alarm in alarms]

    async def wait(self, seconds: float) -> None:
        """Let so many seconds of the clock go by.

        Raises:
            AlarmError: an alarm went off, or nobody can tell.
        """
        clock = self._world.clock
        end = clock.now() + seconds
        await self._check()
        while (left := end - clock.now()) > 0:
            await clock.sleep(min(left, WATCH_S))
            await self._check()

    async def _check(self) -> None:
        if not self._names:
            return
        try:
            found = await self._world.call(
                "cloudwatch", "describe_alarms", AlarmNames=self._names, AlarmTypes=KINDS
            )
        except (BotoCoreError, ClientError) as error:
            raise AlarmError(f"The alarms of the deployment cannot be read: {error}") from None
        alarms = [*found.get("MetricAlarms", ()), *found.get("CompositeAlarms", ())]
        ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
        if ringing:
            raise AlarmError(
                "One or more configured alarm(s) went into ALARM state during the deployment: "
                f"{', '.join(ringing)}"
            )
