"""What Application Auto Scaling remembers: targets, their policies, and what was done."""

import uuid
from collections.abc import Iterable

from byollm.local.protocol import Members
from byollm.local.scaling.decisions import Change
from byollm.local.store import Store
from byollm.local.world import World

ACTIVITIES_KEPT = 200  # a target

KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


def key_of(given: Members) -> str:
    """Name a target: a policy and a request name it by the same three members."""
    return "|".join(given[member] for member in KEY)


class Records:
    """Targets, policies and activities in one store."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._store: Store = world.store("application-autoscaling")

    def target(self, given: Members) -> Members | None:
        """Return the target that a request names."""
        return self._store.get("target", key_of(given))

    def targets(self) -> list[Members]:
        """Return all targets."""
        return list(self._store.list("target"))

    def put_target(self, target: Members) -> None:
        """Write a target."""
        self._store.put("target", key_of(target), target)

    def delete_target(self, target: Members) -> None:
        """Remove a target; its policies are removed by their own names, before."""
        self._store.delete("target", key_of(target))

    def policies(self, target: Members | None = None) -> list[Members]:
        """Return all policies, or those of one target."""
        found = self._store.list("policy")
        return [policy for policy in found if target is None or key_of(policy) == key_of(target)]

    def policy(self, given: Members) -> Members | None:
        """Return the policy that a request names."""
        return self._store.get("policy", f"{key_of(given)}|{given['PolicyName']}")

    def put_policy(self, policy: Members) -> None:
        """Write a policy."""
        self._store.put("policy", f"{key_of(policy)}|{policy['PolicyName']}", policy)

    def put_change(self, given: Members, change: Change) -> None:
        """Write down what a policy did last, unless it is gone."""
        if policy := self.policy(given):
            self.put_policy({**policy, "LastChange": vars(change)})

    def delete_policy(self, policy: Members) -> None:
        """Remove a policy."""
        self._store.delete("policy", f"{key_of(policy)}|{policy['PolicyName']}")

    def activities(self) -> list[Members]:
        """Return what was done, the newest first."""
        return list(self._store.list("activity"))[::-1]

    def begin(self, target: Members, description: str, cause: str) -> Members:
        """Write down that something is being done to a target, and forget what was done long ago."""
        now = self._world.clock.now()
        activity = {
            "ActivityId": str(uuid.uuid4()),
            **{member: target[member] for member in KEY},
            "Description": description,
            "Cause": cause,
            "StartTime": now,
            "StatusCode": "InProgress",
        }
        self.put_activity(activity)
        own = (done for done in self.activities() if key_of(done) == key_of(target))
        for old in list(own)[ACTIVITIES_KEPT:]:
            self._store.delete("activity", _activity_name(old))
        return activity

    def put_activity(self, activity: Members) -> None:
        """Write down how it went on."""
        self._store.put("activity", _activity_name(activity), activity)

    def under_way(self, target: Members) -> Iterable[Members]:
        """Return what was begun and has not ended."""
        for activity in self.activities():
            if activity["StatusCode"] == "InProgress" and key_of(activity) == key_of(target):
                yield activity


def last_change(policy: Members) -> Change | None:
    """Return what the policy did last."""
    last = policy.get("LastChange")
    return Change(**last) if last else None


def _activity_name(activity: Members) -> str:
    return f"{activity['StartTime']:020.3f} {activity['ActivityId']}"
