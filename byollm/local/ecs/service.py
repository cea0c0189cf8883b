"""Amazon ECS: the API, the tasks and the services, put together."""

import asyncio
import secrets

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from byollm.local.containers import Containers
from byollm.local.ecs.clusters import ClusterOperations
from byollm.local.ecs.connect import Connect
from byollm.local.ecs.definitions import DefinitionOperations
from byollm.local.ecs.environment import CREDENTIALS
from byollm.local.ecs.services import ServiceOperations
from byollm.local.ecs.state import State
from byollm.local.ecs.tasks import TaskOperations, Tasks
from byollm.local.ecs.usage import Usage
from byollm.local.protocol import JsonService
from byollm.local.world import World


class Ecs(JsonService):
    """Amazon ECS of one world, whose Fargate tasks are containers on this machine.

    Args:
        world: where it stands; secrets, roles and load balancers are asked of it.
        containers: runs the tasks.
    """

    def __init__(self, world: World, containers: Containers) -> None:
        self._state = State(world, world.store("ecs"))
        self._connect = Connect(self._state)
        self._tasks = Tasks(self._state, containers, self._connect)
        self._services = ServiceOperations(self._state, self._tasks, self._connect)
        self._usage = Usage(self._state, self._tasks)
        super().__init__(
            "ecs",
            ClusterOperations(self._state),
            DefinitionOperations(self._state),
            TaskOperations(self._state, self._tasks),
            self._services,
        )
        self.app = Starlette(
            routes=[
                Route("/", self.answer, methods=["POST"]),
                Route(f"{CREDENTIALS}/{{task}}", self._credentials),
            ]
        )

    async def start(self) -> None:
        """Start the services that there were; the tasks of before ended with the process of before."""
        await self._tasks.bury()
        await self._services.start()
        self._measuring = asyncio.create_task(self._usage.measure())

    async def stop(self) -> None:
        """End all tasks; the services are there again at the next start."""
        self._measuring.cancel()
        await asyncio.gather(self._measuring, return_exceptions=True)
        await self._services.stop()
        await self._tasks.stop()
        await self._connect.stop()
        self._state.store.close()

    async def _credentials(self, request: Request) -> Response:
        """Give a task the credentials of its role, and nobody else."""
        task = self._tasks.get(request.path_params["task"])
        token = request.headers.get("authorization", "").encode()
        if task is None or task.ended or not secrets.compare_digest(token, task.environment.token.encode()):
            return JSONResponse({"message": "not a task's, or not its token"}, 403)
        return JSONResponse(await task.environment.credentials())
