"""CodePipeline."""

from byollm.local.cloudformation.provider import Made, Members, Properties, Provider, Resource


class _Pipeline(Provider):
    """A pipeline."""

    replaces = ("Name",)
    name = "Name"
    tags = "list"

    def create(self, resource: Resource) -> Made:
        """Make it."""
        pipeline, tags = self._read(resource, resource.properties.get("Name") or resource.named(100))
        made = resource.call("codepipeline", "CreatePipeline", {"pipeline": pipeline, "tags": tags})
        return pipeline["name"], {"Version": str(made["pipeline"]["version"])}

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change it."""
        pipeline, tags = self._read(resource, id)
        made = resource.call("codepipeline", "UpdatePipeline", {"pipeline": pipeline})
        if tags:
            arn = resource.world.arn("codepipeline", id)
            resource.call("codepipeline", "TagResource", {"resourceArn": arn, "tags": tags})
        return id, {"Version": str(made["pipeline"]["version"])}

    def delete(self, resource: Resource, id: str) -> None:
        """Remove it."""
        resource.remove("codepipeline", "DeletePipeline", {"name": id})

    @staticmethod
    def _read(resource: Resource, name: str) -> tuple[Members, list[Members]]:
        # To run again is CloudFormation's own wish: nothing runs here.
        apart = ("Name", "RestartExecutionOnUpdate", "Tags")
        given = {key: value for key, value in resource.properties.items() if key not in apart}
        return {**given, "name": name}, resource.properties["Tags"]


PROVIDERS: dict[str, Provider] = {"AWS::CodePipeline::Pipeline": _Pipeline()}
