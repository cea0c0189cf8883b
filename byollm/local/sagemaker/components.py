"""Inference components: copies of a model on an endpoint's instances, down to none."""

import asyncio
import logging

from byollm.local.protocol import Members
from byollm.local.sagemaker.alarms import AlarmError, Watch
from byollm.local.sagemaker.changes import Changes
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.copies import Copies
from byollm.local.sagemaker.endpoints import Endpoints
from byollm.local.sagemaker.faults import REASON, check_quota, in_progress, invalid, not_emulated
from byollm.local.sagemaker.fleet import FleetError, Yard
from byollm.local.sagemaker.plan import ContainerPlan, EndpointPlan, only_container
from byollm.local.store import Document

log = logging.getLogger(__name__)


class Components:
    """CreateInferenceComponent and its kin.

    Args:
        yard: what copies are made with.
        components, models: the collections.
        endpoints: what the components stand on.
    """

    def __init__(self, yard: Yard, components: Collection, models: Collection, endpoints: Endpoints) -> None:
        self._yard = yard
        self._components, self._models, self._endpoints = components, models, endpoints
        self._changes = Changes()

    async def start(self) -> None:
        """Bring up what was there, and go on with what was under way."""
        for document in self._components.all():
            self._place(document)
            if document["InferenceComponentStatus"] != "Failed":
                self._changes.begin(self._resume(document))

    async def stop(self) -> None:
        """End every copy."""
        await self._changes.cancel()
        hosts = self._endpoints.hosts.values()
        await asyncio.gather(*(copies.stop() for host in hosts for copies in host.components.values()))

    async def create_inference_component(self, given: Members) -> Members:
        """CreateInferenceComponent."""
        endpoint = self._endpoints.hosting(given["EndpointName"])
        plan = EndpointPlan.model_validate(endpoint["Plan"])
        name = given.get("VariantName", plan.variants[0].name)
        if plan.variant(name) is None:
            raise invalid(f'Could not find variant "{name}" of endpoint "{endpoint["EndpointArn"]}".')
        container = self._container(given)
        copies = given.get("RuntimeConfig", {}).get("CopyCount", 1)
        check_quota(plan.variants[0].instance_type, copies)
        document = self._components.add(
            given,
            VariantName=name,
            EndpointArn=endpoint["EndpointArn"],
            InferenceComponentStatus="Creating",
            Plan=container.model_dump(),
            Copies=copies,
        )
        self._place(document)
        self._changes.begin(self._begin(document))
        return {"InferenceComponentArn": document["InferenceComponentArn"]}

    async def describe_inference_component(self, given: Members) -> Members:
        """DescribeInferenceComponent."""
        document = self._components.get(given["InferenceComponentName"])
        copies = self._copies(document)
        answer = {key: value for key, value in document.items() if key not in ("Plan", "Copies", "Next")}
        if container := document["Specification"].get("Container"):
            image = {"SpecifiedImage": container["Image"], "ResolvedImage": container["Image"]}
            summary = {key: value for key, value in container.items() if key != "Image"}
            answer["Specification"] |= {"Container": {**summary, "DeployedImage": image}}
        answer["RuntimeConfig"] = {
            "DesiredCopyCount": document["Copies"],
            "CurrentCopyCount": len(copies.ready),
        }
        return answer

    async def list_inference_components(self, given: Members) -> Members:
        """ListInferenceComponents."""
        members = (
            "EndpointArn",
            "EndpointName",
            "VariantName",
            "InferenceComponentStatus",
            "LastModifiedTime",
        )
        return self._components.page(given, members, equal=("EndpointName", "VariantName"))

    async def update_inference_component(self, given: Members) -> Members:
        """UpdateInferenceComponent."""
        document = self._settled(given["InferenceComponentName"])
        specification = document["Specification"] | given.get("Specification", {})
        document["Next"] = {
            "Specification": specification,
            "Plan": self._container(given | {"Specification": specification}).model_dump(),
            "Copies": given.get("RuntimeConfig", {}).get("CopyCount", document["Copies"]),
            "LastDeploymentConfig": given.get("DeploymentConfig", {}),
        }
        return self._change(document)

    async def update_inference_component_runtime_config(self, given: Members) -> Members:
        """UpdateInferenceComponentRuntimeConfig."""
        document = self._settled(given["InferenceComponentName"])
        document["Next"] = {"Copies": given["DesiredRuntimeConfig"]["CopyCount"]}
        return self._change(document)

    async def delete_inference_component(self, given: Members) -> None:
        """DeleteInferenceComponent."""
        document = self._components.get(given["InferenceComponentName"])
        if document["InferenceComponentStatus"] not in ("InService", "Failed"):
            raise in_progress("inference component", document["InferenceComponentArn"])
        document["InferenceComponentStatus"] = "Deleting"
        self._components.put(document)
        self._changes.begin(self._delete(document))

    def _container(self, given: Members) -> ContainerPlan:
        specification = given.get("Specification", {})
        if "Specifications" in given or "BaseInferenceComponentName" in specification:
            raise not_emulated("a component of Specifications or of a BaseInferenceComponentName")
        container = specification.get("Container", {})
        if "ModelName" in specification:
            container = only_container(self._models.get(specification["ModelName"]))
        if "Image" not in container:
            raise invalid("Specification: a ModelName or a Container with an Image is required.")
        if not self._yard.containers.knows(container["Image"]):
            raise invalid(f"Requested image {container['Image']} not found.")
        startup = specification.get("StartupParameters", {})
        return ContainerPlan.of(container, startup.get("ContainerStartupHealthCheckTimeoutInSeconds"))

    def _settled(self, name: str) -> Document:
        document = self._components.get(name)
        arn, status = document["InferenceComponentArn"], document["InferenceComponentStatus"]
        if status == "Failed":
            raise invalid(f'Cannot update inference component "{arn}" in status Failed; delete it.')
        if status != "InService":
            raise in_progress("inference component", arn)
        return document

    def _change(self, document: Document) -> Members:
        check_quota("inference component copies", document["Next"]["Copies"])
        document["InferenceComponentStatus"] = "Updating"
        document.pop("FailureReason", None)
        self._components.put(document)
        self._changes.begin(self._update(document))
        return {"InferenceComponentArn": document["InferenceComponentArn"]}

    def _place(self, document: Document) -> None:
        components = self._endpoints.host(document["EndpointName"]).components
        components[document["InferenceComponentName"]] = Copies(self._yard, document)

    def _copies(self, document: Document) -> Copies:
        components = self._endpoints.host(document["EndpointName"]).components
        return components[document["InferenceComponentName"]]

    def _settle(self, document: Document, status: str, **members: object) -> None:
        document = self._components.get(document["InferenceComponentName"]) | members
        document["InferenceComponentStatus"] = status
        document.pop("Next", None)
        self._components.put(document)

    def _fail(self, document: Document, status: str, error: Exception) -> None:
        log.warning("inference component %s: %s", document["InferenceComponentName"], error)
        self._settle(document, status, FailureReason=str(error)[:REASON])

    async def _resume(self, document: Document) -> None:
        if document["InferenceComponentStatus"] == "Deleting":
            await self._delete(document)
        elif await self._begin(document) and "Next" in document:
            self._components.put(document)
            await self._update(document)

    async def _begin(self, document: Document) -> bool:
        try:
            await self._copies(document).scale(document["Copies"])
        except FleetError as error:
            self._fail(document, "Failed", error)
            return False
        self._settle(document, "InService")
        return True

    async def _update(self, document: Document) -> None:
        following = document["Next"]
        copies = self._copies(document)
        deployment = following.get("LastDeploymentConfig", {})
        try:
            if "Plan" in following:
                plan = ContainerPlan.model_validate(following["Plan"])
                await copies.replace(
                    plan, following["Copies"], deployment, Watch(self._yard.world, deployment)
                )
            else:
                await copies.scale(following["Copies"])
        except (FleetError, AlarmError) as error:
            self._fail(document, "InService", error)
        else:
            self._settle(document, "InService", **following)

    async def _delete(self, document: Document) -> None:
        await self._copies(document).stop()
        del self._endpoints.host(document["EndpointName"]).components[document["InferenceComponentName"]]
        self._components.remove(document["InferenceComponentName"])
