"""Models: which image and which files."""

from byollm.local.containers import Containers
from byollm.local.protocol import AwsError, Members
from byollm.local.sagemaker.collection import Collection


class Models:
    """CreateModel, DescribeModel, ListModels, DeleteModel: models of one container."""

    def __init__(self, models: Collection, containers: Containers) -> None:
        self._models, self._containers = models, containers

    async def create_model(self, given: Members) -> Members:
        """CreateModel."""
        container = _container(given)
        if not self._containers.knows(container["Image"]):
            raise AwsError("ValidationException", f"Requested image {container['Image']} not found.")
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
    containers = given.get("Containers") or [given.get("PrimaryContainer", {})]
    if len(containers) != 1:
        raise AwsError("ValidationException", "models of one container are emulated (docs/local.md)", 501)
    container: Members = containers[0]
    if container.get("Mode") == "MultiModel":
        raise AwsError("ValidationException", "MultiModel mode is not emulated (docs/local.md)", 501)
    if "Image" not in container:
        raise AwsError(
            "ValidationException", "models of a ModelPackageName are not emulated (docs/local.md)", 501
        )
    return container
