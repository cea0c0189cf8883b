"""The API of Application Auto Scaling."""

import asyncio
import contextlib
import uuid

from botocore.exceptions import BotoCoreError, ClientError
from starlette.applications import Starlette
from starlette.routing import Route

from byollm.local.paging import page
from byollm.local.protocol import AwsError, JsonService, Members
from byollm.local.scaling.alarms import tracking_alarms
from byollm.local.scaling.capacity import scalable
from byollm.local.scaling.loop import Loop
from byollm.local.scaling.metrics import watched
from byollm.local.scaling.records import KEY, Records
from byollm.local.world import World

TOKEN = "InvalidNextTokenException"  # noqa: S105 - the name of an error
POLICY_TYPES = {
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
    "StepScaling": "StepScalingPolicyConfiguration",
}
INNER = ("AlarmDefinitions", "LastChange")  # what a policy's record holds beyond what it shows
ROLE = "role/aws-service-role/{0}.application-autoscaling.amazonaws.com/"
ROLES = {
    "sagemaker": "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
    "ecs": "AWSServiceRoleForApplicationAutoScaling_ECSService",
}


class AutoScaling(JsonService):
    """Scalable targets and policies, and the loop that follows them.

    Args:
        world: whose CloudWatch measures, and whose SageMaker and ECS are scaled.
    """

    def __init__(self, world: World) -> None:
        super().__init__("application-autoscaling")
        self._world = world
        self._records = Records(world)
        self._loop: asyncio.Task[None] | None = None
        self.app = Starlette(routes=[Route("/", self.answer, methods=["POST"])])

    async def start(self) -> None:
        """Begin to follow the policies that there are."""
        self._loop = asyncio.create_task(Loop(self._world, self._records).run())

    async def stop(self) -> None:
        """Stop following them."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop

    async def register_scalable_target(self, given: Members) -> Members:
        """Make a target, or change one."""
        known = self._records.target(given)
        thing = scalable(self._world, *(given[member] for member in KEY))
        if known is None and await thing.read() is None:
            raise AwsError("ValidationException", f"{given['ResourceId']} does not exist")
        target = {**(known or self._new_target(given)), **{key: given[key] for key in given if key != "Tags"}}
        if not {"MinCapacity", "MaxCapacity"} <= target.keys():
            raise AwsError("ValidationException", "MinCapacity and MaxCapacity are required for a new target")
        if not thing.least <= target["MinCapacity"] <= target["MaxCapacity"]:
            raise AwsError(
                "ValidationException",
                f"{thing.least} <= MinCapacity ({target['MinCapacity']}) <= MaxCapacity "
                f"({target['MaxCapacity']}) must hold for {given['ScalableDimension']}",
            )
        target["Tags"] = {**target.get("Tags", {}), **given.get("Tags", {})}
        self._records.put_target(target)
        return {"ScalableTargetARN": target["ScalableTargetARN"]}

    async def describe_scalable_targets(self, given: Members) -> Members:
        """List targets."""
        wanted = given.get("ResourceIds")
        found = [
            {key: value for key, value in target.items() if key != "Tags"}
            for target in _of(given, self._records.targets())
            if not wanted or target["ResourceId"] in wanted
        ]
        targets, token = page(found, given, TOKEN)
        return {"ScalableTargets": targets, **token}

    async def deregister_scalable_target(self, given: Members) -> None:
        """Remove a target, its policies and their alarms; what was scaled stays as it is."""
        target = self._target(given)
        for policy in self._records.policies(target):
            await self._delete(policy)
        self._records.delete_target(target)

    async def put_scaling_policy(self, given: Members) -> Members:
        """Make a policy or change one, and the alarms of target tracking."""
        self._target(given)
        known = self._records.policy(given)
        kind = given.get("PolicyType") or (known or {}).get("PolicyType", "StepScaling")
        if kind not in POLICY_TYPES:
            raise AwsError("ValidationException", f"PolicyType {kind} is not emulated (docs/local.md)")
        member = POLICY_TYPES[kind]
        if known and known["PolicyType"] != kind:
            raise AwsError("ValidationException", "The type of a policy cannot be changed; delete it first")
        if member not in given and (known is None or member not in known):
            raise AwsError("ValidationException", f"{member} is required for PolicyType {kind}")
        policy: Members = {**(known or self._new_policy(given)), "PolicyType": kind}
        policy[member] = given.get(member, policy.get(member))
        if kind == "StepScaling":
            _check_steps(policy[member])
            definitions: list[Members] = []
        else:
            if policy[member]["TargetValue"] <= 0:
                raise AwsError("ValidationException", "TargetValue must be above 0")
            metric, period = watched(policy[member], given["ResourceId"], given["ScalableDimension"])
            identifier = policy["PolicyARN"].partition("scalingPolicy:")[2].partition(":")[0]
            definitions = tracking_alarms(policy, metric, period, identifier)
        await self._replace_alarms((known or {}).get("AlarmDefinitions", []), definitions)
        policy["AlarmDefinitions"] = definitions
        self._records.put_policy(policy)
        return {"PolicyARN": policy["PolicyARN"], "Alarms": self._named(definitions)}

    async def describe_scaling_policies(self, given: Members) -> Members:
        """List policies, with the alarms that move them."""
        names = given.get("PolicyNames")
        found = [
            {**{key: policy[key] for key in policy if key not in INNER}, "Alarms": await self._moving(policy)}
            for policy in _of(given, self._records.policies())
            if not names or policy["PolicyName"] in names
        ]
        policies, token = page(found, given, TOKEN)
        return {"ScalingPolicies": policies, **token}

    async def delete_scaling_policy(self, given: Members) -> None:
        """Remove a policy, and the alarms that were made for it."""
        policy = self._records.policy(given)
        if policy is None:
            raise _not_found("scaling policy", given, f" and name {given['PolicyName']}")
        await self._delete(policy)

    async def describe_scaling_activities(self, given: Members) -> Members:
        """List what was done, the newest first."""
        activities, token = page(_of(given, self._records.activities()), given, TOKEN)
        return {"ScalingActivities": activities, **token}

    async def tag_resource(self, given: Members) -> None:
        """Put tags on a target."""
        target = self._by_arn(given)
        self._records.put_target({**target, "Tags": {**target["Tags"], **given["Tags"]}})

    async def untag_resource(self, given: Members) -> None:
        """Take tags off a target."""
        target = self._by_arn(given)
        tags = {key: value for key, value in target["Tags"].items() if key not in given["TagKeys"]}
        self._records.put_target({**target, "Tags": tags})

    async def list_tags_for_resource(self, given: Members) -> Members:
        """Return the tags of a target."""
        return {"Tags": self._by_arn(given)["Tags"]}

    def _new_target(self, given: Members) -> Members:
        namespace = given["ServiceNamespace"]
        role = ROLE.format(namespace) + ROLES[namespace]
        return {
            "CreationTime": self._world.clock.now(),
            "RoleARN": f"arn:aws:iam::{self._world.account}:{role}",
            "ScalableTargetARN": self._world.arn(
                "application-autoscaling", f"scalable-target/{uuid.uuid4().hex[:24]}"
            ),
        }

    def _new_policy(self, given: Members) -> Members:
        resource = f"resource/{given['ServiceNamespace']}/{given['ResourceId']}"
        name = f"scalingPolicy:{uuid.uuid4()}:{resource}:policyName/{given['PolicyName']}"
        return {
            "PolicyARN": self._world.arn("autoscaling", name),
            "PolicyName": given["PolicyName"],
            **{member: given[member] for member in KEY},
            "CreationTime": self._world.clock.now(),
        }

    def _target(self, given: Members) -> Members:
        target = self._records.target(given)
        if target is None:
            raise _not_found("scalable target", given)
        return target

    def _by_arn(self, given: Members) -> Members:
        arn = given["ResourceARN"]
        for target in self._records.targets():
            if target["ScalableTargetARN"] == arn:
                return target
        raise AwsError("ResourceNotFoundException", f"No scalable target has the ARN {arn}")

    async def _delete(self, policy: Members) -> None:
        await self._replace_alarms(policy["AlarmDefinitions"], [])
        self._records.delete_policy(policy)

    async def _replace_alarms(self, old: list[Members], new: list[Members]) -> None:
        """Make the alarms of a policy what they are to be."""
        kept = {alarm["AlarmName"] for alarm in new}
        try:
            for alarm in new:
                await self._world.call("cloudwatch", "put_metric_alarm", **alarm)
            if gone := [alarm["AlarmName"] for alarm in old if alarm["AlarmName"] not in kept]:
                await self._world.call("cloudwatch", "delete_alarms", AlarmNames=gone)
        except (BotoCoreError, ClientError) as error:
            raise AwsError("FailedResourceAccessException", f"CloudWatch: {error}") from None

    async def _moving(self, policy: Members) -> list[Members]:
        """Name the alarms that move a policy: its own, or those that others made with it as their action."""
        if policy["PolicyType"] == "TargetTrackingScaling":
            return self._named(policy["AlarmDefinitions"])
        try:
            found = await self._world.call("cloudwatch", "describe_alarms", ActionPrefix=policy["PolicyARN"])
        except (BotoCoreError, ClientError) as error:
            raise AwsError("FailedResourceAccessException", f"CloudWatch: {error}") from None
        return self._named(found["MetricAlarms"])

    def _named(self, alarms: list[Members]) -> list[Members]:
        return [
            {
                "AlarmName": alarm["AlarmName"],
                "AlarmARN": self._world.arn("cloudwatch", f"alarm:{alarm['AlarmName']}"),
            }
            for alarm in alarms
        ]


def _check_steps(configuration: Members) -> None:
    if not configuration.get("AdjustmentType") or not configuration.get("StepAdjustments"):
        raise AwsError("ValidationException", "A step policy needs AdjustmentType and StepAdjustments")


def _of(given: Members, entries: list[Members]) -> list[Members]:
    """Keep what a request asks for by namespace, resource and dimension, as far as it names them."""
    return [
        entry for entry in entries if all(entry[member] == given[member] for member in KEY if member in given)
    ]


def _not_found(what: str, given: Members, more: str = "") -> AwsError:
    return AwsError(
        "ObjectNotFoundException",
        f"No {what} found for service namespace: {given['ServiceNamespace']}, resource ID: "
        f"{given['ResourceId']}, scalable dimension: {given['ScalableDimension']}{more}",
    )
