"""What watches the platform: alarms, budgets, the record of calls, the firewall's place."""

from dataclasses import dataclass

from byollm.local.cloudformation.provider import Made, Members, Properties, Provider, Resource
from byollm.local.cloudformation.table import Calls


class _Budget(Provider):
    """A budget and who is told of it."""

    replaces = ("NotificationsWithSubscribers",)  # its API has no call that changes them as a whole

    def create(self, resource: Resource) -> Made:
        """Make it."""
        budget = self._budget(resource)
        rest = {name: value for name, value in resource.properties.items() if name != "Budget"}
        resource.call("budgets", "CreateBudget", {**self._account(resource), **rest, "Budget": budget})
        return budget["BudgetName"], {}

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change its limit, filters or period."""
        budget = {**self._budget(resource), "BudgetName": id}
        resource.call("budgets", "UpdateBudget", {**self._account(resource), "NewBudget": budget})
        return id, {}

    def delete(self, resource: Resource, id: str) -> None:
        """Remove it."""
        resource.remove("budgets", "DeleteBudget", {**self._account(resource), "BudgetName": id})

    def _budget(self, resource: Resource) -> Members:
        return {"BudgetName": resource.named(100), **resource.properties["Budget"]}

    @staticmethod
    def _account(resource: Resource) -> Members:
        return {"AccountId": resource.world.account}


class _Trail(Provider):
    """A record of calls."""

    replaces = ("TrailName",)
    name = "TrailName"
    tags = "list"

    def create(self, resource: Resource) -> Made:
        """Make it, and let it record where it should."""
        name = resource.properties.get("TrailName") or resource.named(128)
        made = resource.call("cloudtrail", "CreateTrail", self._members(resource, name))
        self._settle(resource, name)
        return name, {"Arn": made["TrailARN"]}

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change it."""
        members = self._members(resource, id)
        tags = members.pop("TagsList")
        arn = resource.call("cloudtrail", "UpdateTrail", members)["TrailARN"]
        if tags:
            resource.call("cloudtrail", "AddTags", {"ResourceId": arn, "TagsList": tags})
        self._settle(resource, id)
        return id, {"Arn": arn}

    def delete(self, resource: Resource, id: str) -> None:
        """Remove it."""
        resource.remove("cloudtrail", "DeleteTrail", {"Name": id})

    @staticmethod
    def _members(resource: Resource, name: str) -> Members:
        apart = ("EventSelectors", "IsLogging", "Tags", "TrailName")
        given = {key: value for key, value in resource.properties.items() if key not in apart}
        return {**given, "Name": name, "TagsList": resource.properties["Tags"]}

    @staticmethod
    def _settle(resource: Resource, name: str) -> None:
        recording = str(resource.properties["IsLogging"]).lower() == "true"
        resource.call("cloudtrail", "StartLogging" if recording else "StopLogging", {"Name": name})
        selectors = resource.properties.get("EventSelectors")
        if selectors:
            given = {"TrailName": name, "EventSelectors": selectors}
            resource.call("cloudtrail", "PutEventSelectors", given)


@dataclass(frozen=True)
class _Alarm(Provider):
    """An alarm, of a metric or of other alarms.

    Args:
        puts: the operation that makes and changes it.
    """

    puts: str
    replaces = ("AlarmName",)
    name = "AlarmName"
    tags = "list"

    def create(self, resource: Resource) -> Made:
        """Make it."""
        return self._put(resource, {"AlarmName": resource.named(255), **resource.properties})

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change it; its tags are changed by themselves."""
        members = {**resource.properties, "AlarmName": id}
        tags = members.pop("Tags")
        made = self._put(resource, members)
        if tags:
            resource.call("cloudwatch", "TagResource", {"ResourceARN": made[1]["Arn"], "Tags": tags})
        return made

    def delete(self, resource: Resource, id: str) -> None:
        """Remove it."""
        resource.remove("cloudwatch", "DeleteAlarms", {"AlarmNames": [id]})

    def _put(self, resource: Resource, members: Properties) -> Made:
        resource.call("cloudwatch", self.puts, members)
        name = members["AlarmName"]
        return name, {"Arn": resource.world.arn("cloudwatch", f"alarm:{name}")}


PROVIDERS: dict[str, Provider] = {
    "AWS::Budgets::Budget": _Budget(),
    "AWS::CloudTrail::Trail": _Trail(),
    "AWS::CloudWatch::Alarm": _Alarm("PutMetricAlarm"),
    "AWS::CloudWatch::CompositeAlarm": _Alarm("PutCompositeAlarm"),
    "AWS::WAFv2::WebACLAssociation": Calls(
        service="wafv2",
        creates="AssociateWebACL",
        removes="DisassociateWebACL",
        read=lambda given, _: (f"{given['WebACLArn']}|{given['ResourceArn']}", {}),
        key=lambda _, properties: {"ResourceArn": properties["ResourceArn"]},
    ),
}
