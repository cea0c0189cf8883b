"""What watches the platform: budgets, the record of calls, alarms made of alarms."""

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


PROVIDERS: dict[str, Provider] = {
    "AWS::Budgets::Budget": _Budget(),
    "AWS::CloudTrail::Trail": _Trail(),
    "AWS::CloudWatch::CompositeAlarm": Calls(
        service="cloudwatch",
        creates="PutCompositeAlarm",
        changes="PutCompositeAlarm",
        removes="DeleteAlarms",
        read=lambda given, _: (given["AlarmName"], {}),
        key=lambda id, _: {"AlarmNames": [id]},
        longest=255,
        name="AlarmName",
        replaces=("AlarmName",),
        tags="list",
    ),
}
