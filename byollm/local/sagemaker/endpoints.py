"""Endpoints: created, updated, scaled and deleted as AWS does it, one change at a time."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from byollm.local.protocol import Members
from byollm.local.sagemaker.changes import Changes
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.faults import REASON, check_quota, in_progress, invalid
from byollm.local.sagemaker.fleet import FleetError, Yard
from byollm.local.sagemaker.host import Host, UpdateError
from byollm.local.sagemaker.plan import EndpointPlan, VariantPlan, plan_of
from byollm.local.store import Document

log = logging.getLogger(__name__)

SETTLED = ("InService", "Failed", "UpdateRollbackFailed")
PROPERTIES = {"DesiredInstanceCount": "count", "DesiredWeight": "weight"}


class Endpoints:
    """CreateEndpoint, DescribeEndpoint, ListEndpoints, UpdateEndpoint and its kin, DeleteEndpoint.

    An endpoint's document holds the plan that is in force and, during an update, the one that is to be: what
    was under way when this process was killed is begun again, and ends well or is taken back.

    Args:
        yard: what endpoints are made with.
        endpoints, configs, models: the collections.
    """

    def __init__(self, yard: Yard, endpoints: Collection, configs: Collection, models: Collection) -> None:
        self._yard = yard
        self._endpoints, self._configs, self._models = endpoints, configs, models
        self.hosts: dict[str, Host] = {}
        self._changes = Changes()

    async def start(self) -> None:
        """Bring up what was there, and go on with what was under way."""
        for document in self._endpoints.all():
            if document["EndpointStatus"] == "InService":  # unavailable for a while, by no wish of the client
                self._settle(document["EndpointName"], "SystemUpdating")
            if document["EndpointStatus"] not in ("Failed", "UpdateRollbackFailed"):
                self._changes.begin(self._resume(document))

    async def stop(self) -> None:
        """End every container; documents say what to go on with."""
        await self._changes.cancel()
        await asyncio.gather(*(host.stop() for host in self.hosts.values()))

    async def create_endpoint(self, given: Members) -> Members:
        """CreateEndpoint."""
        plan = self._plan(given["EndpointConfigName"])
        _check_quota(plan)
        members = {key: value for key, value in given.items() if key != "DeploymentConfig"}
        document = self._endpoints.add(members, EndpointStatus="Creating", Plan=plan.model_dump())
        self._changes.begin(self._begin(given["EndpointName"]))
        return {"EndpointArn": document["EndpointArn"]}

    async def describe_endpoint(self, given: Members) -> Members:
        """DescribeEndpoint."""
        document = self._endpoints.get(given["EndpointName"])
        hidden = ("Plan", "Next")
        answer = {key: value for key, value in document.items() if key not in hidden}
        host = self.hosts.get(given["EndpointName"])
        following = document.get("Next", {})
        plan = EndpointPlan.model_validate(document["Plan"])
        desired = EndpointPlan.model_validate(following["Plan"]) if "Rescale" in following else plan
        for kind, shadow in (("ProductionVariants", False), ("ShadowProductionVariants", True)):
            variants = [
                _described(one, desired.variant(one.name) or one, host)
                for one in plan.variants
                if one.shadow is shadow
            ]
            if variants and document["EndpointStatus"] not in ("Creating", "Failed"):
                answer[kind] = variants
        if "DeploymentConfig" in following:
            answer["PendingDeploymentSummary"] = {
                "EndpointConfigName": following["Plan"]["config"],
                "StartTime": document["LastModifiedTime"],
            }
        return answer

    async def list_endpoints(self, given: Members) -> Members:
        """ListEndpoints."""
        return self._endpoints.page(given, ("EndpointStatus", "LastModifiedTime"))

    async def update_endpoint(self, given: Members) -> Members:
        """UpdateEndpoint."""
        document = self._settled(given["EndpointName"])
        plan = self._plan(given["EndpointConfigName"])
        before = EndpointPlan.model_validate(document["Plan"])
        if plan.hosts_components is not before.hosts_components:
            raise invalid("An endpoint goes on hosting models, or inference components, as it was created.")
        if given.get("RetainAllVariantProperties"):
            excluded = {
                one["VariantPropertyType"] for one in given.get("ExcludeRetainedVariantProperties", ())
            }
            kept = [member for kind, member in PROPERTIES.items() if kind not in excluded]
            retained = {
                one.name: {member: getattr(one, member) for member in kept} for one in before.variants
            }
            plan = plan.with_variants(retained)
        _check_quota(plan)
        deployment = given.get("DeploymentConfig", {})
        if given.get("RetainDeploymentConfig"):
            deployment = document.get("LastDeploymentConfig", {})
        if "RollingUpdatePolicy" in deployment and max(len(plan.variants), len(before.variants)) > 1:
            raise invalid("Rolling deployments are supported for endpoints with a single variant only.")
        document["Next"] = {"Plan": plan.model_dump(), "DeploymentConfig": deployment}
        return self._change(document, self._update(given["EndpointName"]))

    async def update_endpoint_weights_and_capacities(self, given: Members) -> Members:
        """UpdateEndpointWeightsAndCapacities."""
        document = self._settled(given["EndpointName"])
        plan = EndpointPlan.model_validate(document["Plan"])
        changed: dict[str, dict[str, float]] = {}
        for desired in given["DesiredWeightsAndCapacities"]:
            variant = plan.variant(desired["VariantName"])
            if variant is None:
                raise invalid(
                    f'Could not find variant "{desired["VariantName"]}" of endpoint '
                    f'"{document["EndpointArn"]}".'
                )
            if desired.get("DesiredInstanceCount", 1) < 1 and not plan.hosts_components:
                raise invalid("DesiredInstanceCount: a production variant keeps at least one instance.")
            changed[variant.name] = {
                member: desired[kind] for kind, member in PROPERTIES.items() if kind in desired
            }
        desired_plan = plan.with_variants(changed)
        _check_quota(desired_plan)
        document["Next"] = {"Plan": desired_plan.model_dump(), "Rescale": True}
        return self._change(document, self._rescale(given["EndpointName"]))

    async def delete_endpoint(self, given: Members) -> None:
        """DeleteEndpoint."""
        document = self._endpoints.get(given["EndpointName"])
        if document["EndpointStatus"] not in SETTLED:
            raise in_progress("endpoint", document["EndpointArn"])
        host = self.hosts.get(given["EndpointName"])
        if host is not None and host.components:
            raise invalid(
                f'Cannot delete endpoint "{document["EndpointArn"]}" while it hosts inference components: '
                f"{', '.join(sorted(host.components))}."
            )
        self._change(document, self._delete(given["EndpointName"]), "Deleting")

    def in_service(self, name: str) -> Host | None:
        """Return what answers for the endpoint; None where there is none, or it does not answer yet."""
        document = self._endpoints.find(name)
        answers = ("InService", "Updating", "RollingBack", "SystemUpdating")
        return self.hosts.get(name) if document and document["EndpointStatus"] in answers else None

    def hosting(self, name: str) -> Document:
        """Return an endpoint that components can be put on.

        Raises:
            AwsError: there is none of that name, or it hosts models of its own.
        """
        document = self._settled(name)
        if not EndpointPlan.model_validate(document["Plan"]).hosts_components:
            raise invalid(
                f'Endpoint "{document["EndpointArn"]}" does not support inference components: '
                "its variants have models of their own."
            )
        return document

    def host(self, name: str) -> Host:
        """Return what runs of an endpoint, which may be nothing yet."""
        return self.hosts.setdefault(name, Host(self._yard, name))

    def _plan(self, config: str) -> EndpointPlan:
        document = self._configs.get(config)
        variants = [*document["ProductionVariants"], *document.get("ShadowProductionVariants", ())]
        names = {variant["ModelName"] for variant in variants if "ModelName" in variant}
        return plan_of(document, {name: self._models.get(name) for name in names})

    def _settled(self, name: str) -> Document:
        document = self._endpoints.get(name)
        status = document["EndpointStatus"]
        if status not in SETTLED:
            raise in_progress("endpoint", document["EndpointArn"])
        if status != "InService":
            raise invalid(
                f'Cannot update endpoint "{document["EndpointArn"]}" in status {status}; delete it.'
            )
        return document

    def _change(
        self, document: Document, change: Coroutine[Any, Any, None], status: str = "Updating"
    ) -> Members:
        document["EndpointStatus"] = status
        document.pop("FailureReason", None)
        self._endpoints.put(document)
        self._changes.begin(change)
        return {"EndpointArn": document["EndpointArn"]}

    def _settle(self, name: str, status: str, **members: object) -> None:
        document = self._endpoints.get(name) | {"EndpointStatus": status} | members
        if status in SETTLED:
            document.pop("Next", None)
        self._endpoints.put(document)

    def _fail(self, name: str, status: str, error: Exception) -> None:
        log.warning("endpoint %s: %s", name, error)
        self._settle(name, status, FailureReason=str(error)[:REASON])

    async def _resume(self, document: Document) -> None:
        name, status = document["EndpointName"], document["EndpointStatus"]
        if status == "Deleting":
            await self._delete(name)
        elif status in ("Creating", "InService", "SystemUpdating"):
            await self._begin(name)
        elif await self._begin(name, leave=True):
            following = document.get("Next", {})
            if status == "RollingBack":
                self._settle(name, "InService", FailureReason="The update was taken back.")
            else:
                await (self._rescale(name) if following.get("Rescale") else self._update(name))

    async def _begin(self, name: str, leave: bool = False) -> bool:
        """Bring an endpoint up; `leave` leaves the status to what follows."""
        plan = EndpointPlan.model_validate(self._endpoints.get(name)["Plan"])
        try:
            await self.host(name).begin(plan)
        except FleetError as error:
            self._fail(name, "Failed", error)
            return False
        if not leave:
            self._settle(name, "InService")
        return True

    async def _update(self, name: str) -> None:
        following = self._endpoints.get(name)["Next"]
        plan, deployment = EndpointPlan.model_validate(following["Plan"]), following["DeploymentConfig"]
        try:
            await self.host(name).update(plan, deployment, lambda: self._settle(name, "RollingBack"))
        except UpdateError as error:
            self._fail(name, "InService", error)
        except FleetError as error:
            self._fail(name, "UpdateRollbackFailed", error)
        else:
            done: dict[str, object] = {"Plan": plan.model_dump(), "EndpointConfigName": plan.config}
            if deployment:
                done["LastDeploymentConfig"] = deployment
            self._settle(name, "InService", **done)

    async def _rescale(self, name: str) -> None:
        plan = EndpointPlan.model_validate(self._endpoints.get(name)["Next"]["Plan"])
        try:
            await self.host(name).rescale(plan)
        except FleetError as error:
            self._fail(name, "InService", error)
        else:
            self._settle(name, "InService", Plan=plan.model_dump())

    async def _delete(self, name: str) -> None:
        await self.host(name).stop()
        del self.hosts[name]
        self._endpoints.remove(name)


def _check_quota(plan: EndpointPlan) -> None:
    check_quota(plan.variants[0].instance_type, sum(variant.count for variant in plan.variants))


def _described(variant: VariantPlan, desired: VariantPlan, host: Host | None) -> Members:
    current = host.current if host else None
    fleet = current.fleets.get(variant.name) if current else None
    answer: Members = {
        "VariantName": variant.name,
        "CurrentWeight": variant.weight,
        "DesiredWeight": desired.weight,
        "CurrentInstanceCount": len(fleet.ready) if fleet else 0,
        "DesiredInstanceCount": desired.count,
        "RoutingConfig": {"RoutingStrategy": variant.strategy},
    }
    if variant.container is not None:
        image = variant.container.image
        answer["DeployedImages"] = [{"SpecifiedImage": image, "ResolvedImage": image}]
    elif host is not None:
        count = host.instances(variant)
        answer |= {"CurrentInstanceCount": count, "DesiredInstanceCount": count}
    if variant.managed is not None:
        least, most = variant.managed
        scaling = {"Status": "ENABLED", "MinInstanceCount": least, "MaxInstanceCount": most}
        answer["ManagedInstanceScaling"] = scaling
    if host is not None and host.stage:
        answer["VariantStatus"] = [{"Status": host.stage}]
    return answer
