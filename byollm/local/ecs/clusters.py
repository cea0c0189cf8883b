"""The operations on clusters, and on the tags of everything."""

from byollm.local.ecs.state import DEFAULT_CLUSTER, Document, State, page, shown
from byollm.local.protocol import AwsError, Members

SETTABLE = ("settings", "configuration", "serviceConnectDefaults")


class ClusterOperations:
    """CreateCluster and its neighbours."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def create_cluster(self, given: Members) -> Members:
        """Declare a cluster; one that is there already stays as it is."""
        name = given.get("clusterName", DEFAULT_CLUSTER)
        found = self._state.store.get("cluster", name)
        if found is None or found["status"] != "ACTIVE":
            found = {
                "clusterArn": self._state.arn(f"cluster/{name}"),
                "clusterName": name,
                "status": "ACTIVE",
                "settings": given.get("settings", [{"name": "containerInsights", "value": "disabled"}]),
                "capacityProviders": given.get("capacityProviders", []),
                "defaultCapacityProviderStrategy": given.get("defaultCapacityProviderStrategy", []),
                "tags": given.get("tags", []),
                **{name: given[name] for name in SETTABLE[1:] if name in given},
            }
            self._put(found)
        return {"cluster": self._shown(found)}

    def _put(self, cluster: Document) -> None:
        self._state.store.put("cluster", cluster["clusterName"], cluster)

    def _shown(self, cluster: Document, given: Members | None = None) -> Document:
        tasks = self._state.tasks(clusterArn=cluster["clusterArn"])
        services = [one for one in self._services(cluster) if one["status"] == "ACTIVE"]
        return {
            **shown(cluster, given),
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": sum(task["lastStatus"] == "RUNNING" for task in tasks),
            "pendingTasksCount": sum(task["lastStatus"] in {"PROVISIONING", "PENDING"} for task in tasks),
            "activeServicesCount": len(services),
        }

    def _services(self, cluster: Document) -> list[Document]:
        return [
            service
            for service in self._state.services.values()
            if service["clusterArn"] == cluster["clusterArn"] and service["status"] != "INACTIVE"
        ]

    async def describe_clusters(self, given: Members) -> Members:
        """Tell of clusters; those that are not there are failures."""
        found, failures = [], []
        for reference in given.get("clusters") or [DEFAULT_CLUSTER]:
            name = reference.rpartition("/")[2]
            cluster = self._state.store.get("cluster", name)
            if cluster is None:
                failures.append({"arn": self._state.arn(f"cluster/{name}"), "reason": "MISSING"})
            else:
                found.append(self._shown(cluster, given))
        return {"clusters": found, "failures": failures}

    async def list_clusters(self, given: Members) -> Members:
        """List the clusters there are."""
        active = [one for one in self._state.store.list("cluster") if one["status"] == "ACTIVE"]
        return page("clusterArns", [cluster["clusterArn"] for cluster in active], given)

    async def update_cluster(self, given: Members) -> Members:
        """Change a cluster."""
        cluster = self._state.cluster(given["cluster"])
        cluster.update({name: given[name] for name in SETTABLE if name in given})
        self._put(cluster)
        return {"cluster": self._shown(cluster)}

    async def update_cluster_settings(self, given: Members) -> Members:
        """Change the settings of a cluster."""
        return await self.update_cluster(given)

    async def put_cluster_capacity_providers(self, given: Members) -> Members:
        """Say which capacity a cluster uses; here all of it is this machine."""
        cluster = self._state.cluster(given["cluster"])
        for name in ("capacityProviders", "defaultCapacityProviderStrategy"):
            cluster[name] = given[name]
        self._put(cluster)
        return {"cluster": self._shown(cluster)}

    async def delete_cluster(self, given: Members) -> Members:
        """Remove a cluster in which nothing is left."""
        cluster = self._state.cluster(given["cluster"])
        if self._services(cluster):
            raise AwsError(
                "ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active."
            )
        if any(
            task["lastStatus"] != "STOPPED" for task in self._state.tasks(clusterArn=cluster["clusterArn"])
        ):
            raise AwsError(
                "ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active."
            )
        cluster["status"] = "INACTIVE"
        self._put(cluster)
        return {"cluster": self._shown(cluster)}

    async def tag_resource(self, given: Members) -> Members:
        """Set tags."""
        kind, name, document = self._tagged(given["resourceArn"])
        tags = {tag["key"]: tag for tag in [*document.get("tags", []), *given["tags"]]}
        self._state.store.put(kind, name, {**document, "tags": list(tags.values())})
        return {}

    async def untag_resource(self, given: Members) -> Members:
        """Remove tags."""
        kind, name, document = self._tagged(given["resourceArn"])
        tags = [tag for tag in document.get("tags", []) if tag["key"] not in given["tagKeys"]]
        self._state.store.put(kind, name, {**document, "tags": tags})
        return {}

    async def list_tags_for_resource(self, given: Members) -> Members:
        """List tags."""
        return {"tags": self._tagged(given["resourceArn"])[2].get("tags", [])}

    def _tagged(self, arn: str) -> tuple[str, str, Document]:
        """Return kind, name and document of what an ARN stands for."""
        kind, _, path = arn.rpartition(":")[2].partition("/")
        if ":task-definition/" in arn:
            kind, path = "definition", arn.partition(":task-definition/")[2]
        name = path if kind in {"service", "definition"} else path.rpartition("/")[2]
        document = self._state.store.get(kind, name)
        if document is None:
            raise AwsError("InvalidParameterException", f"The specified resource is not found: {arn}")
        return kind, name, document
