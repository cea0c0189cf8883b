"""The operations on services."""

import asyncio
import secrets
from functools import partial

from botocore.exceptions import ClientError

from byollm.local.ecs.connect import Connect
from byollm.local.ecs.scheduler import Scheduler, namespace_of
from byollm.local.ecs.state import Document, State, page, shown
from byollm.local.ecs.tasks import Tasks, check_network
from byollm.local.protocol import AwsError, Members

CONFIGURATION = {
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    "strategy": "ROLLING",
}
# What a new deployment is made for when it changes, and what counts at once.
DEPLOYED = (
    "taskDefinition",
    "networkConfiguration",
    "platformVersion",
    "capacityProviderStrategy",
    "loadBalancers",
    "serviceConnectConfiguration",
    "volumeConfigurations",
)
SETTABLE = (
    "desiredCount",
    "healthCheckGracePeriodSeconds",
    "enableExecuteCommand",
    "enableECSManagedTags",
    "propagateTags",
    "serviceRegistries",
    "availabilityZoneRebalancing",
    "placementConstraints",
    "placementStrategy",
)
OF_A_DEPLOYMENT = (
    "taskDefinition",
    "launchType",
    "platformVersion",
    "networkConfiguration",
    "capacityProviderStrategy",
    "serviceConnectConfiguration",
)


class ServiceOperations:
    """CreateService and its neighbours."""

    def __init__(self, state: State, tasks: Tasks, connect: Connect) -> None:
        self._state, self._tasks, self._connect = state, tasks, connect
        self.schedulers: dict[str, Scheduler] = {}

    async def start(self) -> None:
        """Look after the services that there are."""
        for service in self._state.services.values():
            if service["status"] != "INACTIVE":
                await self._schedule(service)

    async def stop(self) -> None:
        """Look after them no more."""
        await asyncio.gather(*(scheduler.stop() for scheduler in self.schedulers.values()))

    async def create_service(self, given: Members) -> Members:
        """Declare a service; its tasks come to run."""
        cluster = self._state.cluster(given.get("cluster"))
        name = given["serviceName"]
        before = self._state.find_service(cluster["clusterName"], name)
        if before is not None and before["status"] != "INACTIVE":
            raise AwsError("InvalidParameterException", "Creation of service was not idempotent.")
        _check(given)
        definition = self._definition(given.get("taskDefinition", ""))
        check_network(definition, given)
        for balancer in given.get("loadBalancers", []):
            await self._check_balancer(balancer, definition)
        now = self._state.world.clock.now()
        service = {
            **{member: given[member] for member in (*DEPLOYED, *SETTABLE) if member in given},
            "serviceArn": self._state.arn(f"service/{cluster['clusterName']}/{name}"),
            "serviceName": name,
            "clusterArn": cluster["clusterArn"],
            "loadBalancers": given.get("loadBalancers", []),
            "serviceRegistries": given.get("serviceRegistries", []),
            "status": "ACTIVE",
            "desiredCount": given.get("desiredCount", 0),
            "runningCount": 0,
            "pendingCount": 0,
            "launchType": "FARGATE",
            "platformVersion": given.get("platformVersion", "LATEST"),
            "platformFamily": "Linux",
            "taskDefinition": definition["taskDefinitionArn"],
            "deploymentConfiguration": {**CONFIGURATION, **given.get("deploymentConfiguration", {})},
            "deployments": [],
            "events": [],
            "createdAt": now,
            "schedulingStrategy": "REPLICA",
            "deploymentController": {"type": "ECS"},
            "propagateTags": given.get("propagateTags", "NONE"),
            "tags": given.get("tags", []),
        }
        _deploy(service, now)
        self._state.put_service(service)
        await self._schedule(service)
        return {"service": shown(service)}

    def _definition(self, reference: str) -> Document:
        definition = self._state.definition(reference)
        if definition["status"] != "ACTIVE":
            raise AwsError("ClientException", "TaskDefinition is inactive")
        return definition

    async def _check_balancer(self, balancer: Document, definition: Document) -> None:
        """Look whether a target group is there, and leads to a port that there is.

        Raises:
            AwsError: not so.
        """
        name, port = balancer.get("containerName"), balancer.get("containerPort")
        if not any(
            container["name"] == name
            and any(mapping["containerPort"] == port for mapping in container["portMappings"])
            for container in definition["containerDefinitions"]
        ):
            raise AwsError(
                "InvalidParameterException",
                f"The container {name} did not have a container port {port} defined.",
            )
        arn = balancer.get("targetGroupArn", "")
        try:
            answer = await self._state.world.call("elbv2", "describe_target_groups", TargetGroupArns=[arn])
        except ClientError as error:
            raise AwsError("InvalidParameterException", error.response["Error"]["Message"]) from None
        if not answer["TargetGroups"][0]["LoadBalancerArns"]:
            raise AwsError(
                "InvalidParameterException",
                f"The target group with targetGroupArn {arn} does not have an associated load balancer.",
            )

    async def _schedule(self, service: Document) -> None:
        arn = service["serviceArn"]
        self.schedulers[arn] = Scheduler(self._state, self._tasks, service)
        await self._offer(service)

    async def _offer(self, service: Document) -> None:
        """Serve the names under which other services find this one."""
        deployment, scheduler = service["deployments"][0], self.schedulers[service["serviceArn"]]
        namespace = namespace_of(self._state.cluster(service["clusterArn"]), deployment)
        definition = self._state.definition(deployment["taskDefinition"])
        protocols = {
            mapping.get("name"): mapping.get("appProtocol")
            for container in definition["containerDefinitions"]
            for mapping in container["portMappings"]
        }
        for one in deployment.get("serviceConnectConfiguration", {}).get("services", []):
            name = one["portName"]
            if name not in protocols:
                raise AwsError("InvalidParameterException", f"portName {name} is not in the task definition.")
            await self._connect.offer(
                namespace,
                one,
                name,
                partial(scheduler.ready_ports, name),
                http=protocols[name] in {"http", "http2", "grpc"},
            )

    async def update_service(self, given: Members) -> Members:
        """Change a service; what its tasks are made from makes a new deployment."""
        cluster = self._state.cluster(given.get("cluster"))
        service = self._state.service(cluster["clusterName"], given["service"])
        _check(given)
        find = self._definition if "taskDefinition" in given else self._state.definition
        definition = find(given.get("taskDefinition") or service["taskDefinition"])
        given = {**given, "taskDefinition": definition["taskDefinitionArn"]}
        check_network(definition, {**service, **given})
        for balancer in given.get("loadBalancers", []):
            await self._check_balancer(balancer, definition)
        changed = [name for name in DEPLOYED if name in given and given[name] != service.get(name)]
        service.update({name: given[name] for name in (*DEPLOYED, *SETTABLE) if name in given})
        service["deploymentConfiguration"].update(given.get("deploymentConfiguration", {}))
        service["deployments"][0]["desiredCount"] = service["desiredCount"]
        if changed or given.get("forceNewDeployment"):
            _deploy(service, self._state.world.clock.now())
        self._state.put_service(service)
        await self._offer(service)
        scheduler = self.schedulers[service["serviceArn"]]
        scheduler.wake()
        return {"service": shown(scheduler.shown())}

    async def delete_service(self, given: Members) -> Members:
        """Stop a service's tasks and remove it."""
        cluster = self._state.cluster(given.get("cluster"))
        service = self._state.find_service(cluster["clusterName"], given["service"])
        if service is None or service["status"] == "INACTIVE":
            raise AwsError("ServiceNotFoundException", "Service not found.")
        if service["desiredCount"] and not given.get("force"):
            raise AwsError(
                "InvalidParameterException", "The service cannot be stopped while it is scaled above 0."
            )
        service.update(status="DRAINING", desiredCount=0)
        self._state.put_service(service)
        deployment = service["deployments"][0]
        for one in deployment.get("serviceConnectConfiguration", {}).get("services", []):
            await self._connect.withdraw(namespace_of(cluster, deployment), one, one["portName"])
        scheduler = self.schedulers[service["serviceArn"]]
        scheduler.wake()
        return {"service": shown(scheduler.shown())}

    async def describe_services(self, given: Members) -> Members:
        """Tell of services; those that are not there are failures."""
        cluster = self._state.cluster(given.get("cluster"))
        found, failures = [], []
        for reference in given["services"]:
            service = self._state.find_service(cluster["clusterName"], reference)
            if service is None:
                name = reference.rpartition("/")[2]
                arn = self._state.arn(f"service/{cluster['clusterName']}/{name}")
                failures.append({"arn": arn, "reason": "MISSING"})
                continue
            scheduler = self.schedulers.get(service["serviceArn"])
            found.append(shown(scheduler.shown() if scheduler else service, given))
        return {"services": found, "failures": failures}

    async def list_services(self, given: Members) -> Members:
        """List the services of a cluster."""
        cluster = self._state.cluster(given.get("cluster"))
        arns = [
            service["serviceArn"]
            for service in self._state.services.values()
            if service["clusterArn"] == cluster["clusterArn"] and service["status"] != "INACTIVE"
        ]
        return page("serviceArns", sorted(arns), given)


def _deploy(service: Document, now: float) -> None:
    """Put a new deployment before those that there are."""
    for deployment in service["deployments"]:
        deployment.update(status="ACTIVE", desiredCount=0)
    identity = f"ecs-svc/{secrets.randbelow(9 * 10**18) + 10**18}"
    deployment = {
        **{name: service[name] for name in OF_A_DEPLOYMENT if name in service},
        "id": identity,
        "status": "PRIMARY",
        "desiredCount": service["desiredCount"],
        "pendingCount": 0,
        "runningCount": 0,
        "failedTasks": 0,
        "createdAt": now,
        "updatedAt": now,
        "rolloutState": "IN_PROGRESS",
        "rolloutStateReason": f"ECS deployment {identity} in progress.",
    }
    service["deployments"].insert(0, deployment)


def _check(given: Members) -> None:
    """Refuse what could not be run here as it says.

    Raises:
        AwsError: such as services on instances, or another way to deploy.
    """
    providers = {one["capacityProvider"] for one in given.get("capacityProviderStrategy", [])}
    if given.get("launchType", "FARGATE") != "FARGATE" or providers - {"FARGATE", "FARGATE_SPOT"}:
        raise AwsError("InvalidParameterException", "Only Fargate is emulated.")
    if given.get("schedulingStrategy", "REPLICA") != "REPLICA":
        raise AwsError("InvalidParameterException", "Only services of replicas are emulated.")
    if given.get("deploymentController", {}).get("type", "ECS") != "ECS":
        raise AwsError("InvalidParameterException", "Only the deployment controller ECS is emulated.")
    if given.get("deploymentConfiguration", {}).get("strategy", "ROLLING") != "ROLLING":
        raise AwsError("InvalidParameterException", "Only rolling deployments are emulated.")
    if given.get("desiredCount", 0) < 0:
        raise AwsError("InvalidParameterException", "desiredCount must not be negative.")
