"""Application Auto Scaling: what may be scaled, and by which policies."""

from byollm.local.cloudformation.provider import Members, Properties, Provider
from byollm.local.cloudformation.table import Calls

_TARGET = ("ResourceId", "ScalableDimension", "ServiceNamespace")


def _target_of(id: str) -> Members:
    """Read what CloudFormation knows a scalable target by."""
    return dict(zip(_TARGET, id.split("|"), strict=True))


def _policy(properties: Properties) -> Members:
    """Name the target by its members, where the template names it by its id."""
    given = dict(properties)
    target = given.pop("ScalingTargetId", None)
    return {**given, **(_target_of(target) if target else {})}


def _policy_of(id: str, properties: Properties) -> Members:
    given = _policy(properties)
    return {name: given[name] for name in ("PolicyName", *_TARGET)}


PROVIDERS: dict[str, Provider] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": Calls(
        service="application-autoscaling",
        creates="RegisterScalableTarget",
        changes="RegisterScalableTarget",
        removes="DeregisterScalableTarget",
        read=lambda given, _: (id := "|".join(given[name] for name in _TARGET), {"Id": id}),
        key=lambda id, _: _target_of(id),
        replaces=_TARGET,
    ),
    "AWS::ApplicationAutoScaling::ScalingPolicy": Calls(
        service="application-autoscaling",
        creates="PutScalingPolicy",
        changes="PutScalingPolicy",
        removes="DeleteScalingPolicy",
        read=lambda given, made: (
            made["PolicyARN"],
            {"Arn": made["PolicyARN"], "PolicyName": given["PolicyName"]},
        ),
        key=_policy_of,
        members=_policy,
        replaces=("PolicyName", "ScalingTargetId", *_TARGET),
    ),
}
