"""CodePipeline: pipelines are kept, shown and changed, and do not run; there is no source here to follow."""

from starlette.applications import Starlette
from starlette.routing import Route

from byollm.local.protocol import AwsError, JsonService, Members
from byollm.local.world import World

_KIND = "pipeline"


class Pipelines(JsonService):
    """The pipelines of one world.

    Args:
        world: where they are kept.
    """

    def __init__(self, world: World) -> None:
        super().__init__("codepipeline")
        self._world, self._store = world, world.store("codepipeline")
        self.app = Starlette(routes=[Route("/", self.answer, methods=["POST"])])

    async def start(self) -> None:
        """Do nothing: no pipeline runs."""

    async def stop(self) -> None:
        """Give the store back."""
        self._store.close()

    async def create_pipeline(self, given: Members) -> Members:
        """Keep a new pipeline."""
        name = given["pipeline"]["name"]
        if self._store.get(_KIND, name):
            raise AwsError("PipelineNameInUseException", f"A pipeline with the name '{name}' already exists")
        pipeline = {**given["pipeline"], "version": 1}
        self._put(pipeline, given.get("tags", []))
        return {"pipeline": pipeline, "tags": given.get("tags", [])}

    async def update_pipeline(self, given: Members) -> Members:
        """Put another definition in a pipeline's place."""
        kept = self._get(given["pipeline"]["name"])
        pipeline = {**given["pipeline"], "version": kept["pipeline"]["version"] + 1}
        self._put(pipeline, kept["tags"])
        return {"pipeline": pipeline}

    async def get_pipeline(self, given: Members) -> Members:
        """Return a pipeline's definition."""
        pipeline = self._get(given["name"])["pipeline"]
        return {"pipeline": pipeline, "metadata": {"pipelineArn": self._arn(given["name"])}}

    async def delete_pipeline(self, given: Members) -> None:
        """Forget a pipeline; one that is not there is no error."""
        self._store.delete(_KIND, given["name"])

    async def list_pipelines(self, given: Members) -> Members:
        """Return the names of all."""
        found = (kept["pipeline"] for kept in self._store.list(_KIND))
        return {"pipelines": [{"name": each["name"], "version": each["version"]} for each in found]}

    async def tag_resource(self, given: Members) -> Members:
        """Add tags to a pipeline, in place of those of the same keys."""
        kept = self._get(given["resourceArn"].rpartition(":")[2])
        tags = {tag["key"]: tag for tag in [*kept["tags"], *given["tags"]]}
        self._put(kept["pipeline"], list(tags.values()))
        return {}

    async def list_tags_for_resource(self, given: Members) -> Members:
        """Return the tags of a pipeline."""
        return {"tags": self._get(given["resourceArn"].rpartition(":")[2])["tags"]}

    def _get(self, name: str) -> Members:
        kept = self._store.get(_KIND, name)
        if kept is None:
            message = f"Account {self._world.account} does not have a pipeline with name '{name}'"
            raise AwsError("PipelineNotFoundException", message)
        return kept

    def _put(self, pipeline: Members, tags: list[Members]) -> None:
        self._store.put(_KIND, pipeline["name"], {"pipeline": pipeline, "tags": tags})

    def _arn(self, name: str) -> str:
        return self._world.arn("codepipeline", name)
