"""Models: which image and which files."""

from byollm.local.containers import Containers
from byollm.local.protocol import Members
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.faults import invalid, not_emulated
from byollm.local.sagemaker.plan import only_container


class Models:
    """CreateModel, DescribeModel, ListModels, DeleteModel: models of one container."""

    def __init__(self, models: Collection, containers: Containers) -> None:
        self._models, self._containers = models, containers

    async def create_model(self, given: Members) -> Members:
        """CreateModel."""
        container = _container(given)
        if not self._containers.knows(container["Image"]):
            raise invalid(f"Requested image {container['Image']} not found.")
        return {"ModelArn": self._models.add(given)["ModelArn"]}

    async def describe_model(self, given: Members) -> Members:
        """DescribeModel."""
        return self._models.get(given["ModelName"])

    async def list_models(self, given: Members) -> Members:
        """ListModels."""
        return self._models.page(given, ())

    async def delete_model(self, given: Members) -> None:
        """DeleteModel; endpoints that have it go on serving it, as in AWS."""
        self._models.remove(given["ModelName"])


def _container(given: Members) -> Members:
    """Return the one container of a model; what is not emulated is refused by name."""
    if len(given.get("Containers", ())) > 1:
        raise not_emulated("a model of several containers")
    container = only_container(given)
    if container.get("Mode") == "MultiModel":
        raise not_emulated("MultiModel mode")
    if "ModelPackageName" in container:
        raise not_emulated("a model of a ModelPackageName")
    if "Image" not in container:
        raise invalid("A model needs a container with an Image.")
    return container
