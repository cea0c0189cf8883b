"""Training jobs: CreateTrainingJob and what belongs to it, and spot interruptions on demand."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from byollm.local.containers import Containers
from byollm.local.metrics import Metrics
from byollm.local.protocol import AwsError, Members
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.events import Events
from byollm.local.sagemaker.training_request import MAX_RUNTIME_S, check
from byollm.local.sagemaker.training_run import Place, TrainingRun
from byollm.local.store import Document
from byollm.local.world import World

INTERRUPT = "/_byollm/sagemaker/training-jobs/{name}/interrupt"
SUMMARY = ("TrainingEndTime", "LastModifiedTime", "TrainingJobStatus", "SecondaryStatus")
OVER = ("Completed", "Failed", "Stopped")


class TrainingJobs:
    """Every training job, and those that run.

    Args:
        jobs: where they are written down.
        events: who is told of them.
    """

    def __init__(self, world: World, containers: Containers, jobs: Collection, events: Events) -> None:
        self._place = Place(world, containers, jobs, events, Metrics(world))
        self._runs: dict[str, tuple[TrainingRun, asyncio.Task[None]]] = {}
        self.routes = [Route(INTERRUPT, self._interrupt, methods=["POST"])]

    async def start(self) -> None:
        """Go on with the jobs that were under way: on new instances, from their checkpoints."""
        for job in self._place.jobs.all():
            if job["TrainingJobStatus"] in OVER:
                continue
            run = TrainingRun(self._place, job)
            if job["TrainingJobStatus"] == "InProgress":
                lost = "Interrupted" if job.get("EnableManagedSpotTraining") else "Restarting"
                run.enter(lost, "The instances were lost. Restarting from the last checkpoint.")
            self._run(run)

    async def stop(self) -> None:
        """End every container; the jobs stay under way."""
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create_training_job(self, given: Members) -> Members:
        """CreateTrainingJob."""
        check(given)
        name, jobs = given["TrainingJobName"], self._place.jobs
        if jobs.find(name) is not None:
            raise AwsError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a training job with "
                f"this name already exists ({jobs.arn(name)})",
            )
        image = given["AlgorithmSpecification"]["TrainingImage"]
        if not self._place.containers.knows(image):
            raise AwsError("ValidationException", f"Requested image {image} not found.")
        limits = {"MaxRuntimeInSeconds": MAX_RUNTIME_S} | given.get("StoppingCondition", {})
        job = jobs.add(
            {**given, "StoppingCondition": limits},
            TrainingJobStatus="InProgress",
            SecondaryStatus="Starting",
        )
        self._run(TrainingRun(self._place, job))
        return {"TrainingJobArn": job["TrainingJobArn"]}

    async def describe_training_job(self, given: Members) -> Members:
        """DescribeTrainingJob."""
        return self._job(given)

    async def list_training_jobs(self, given: Members) -> Members:
        """ListTrainingJobs."""
        return self._place.jobs.page(given, SUMMARY, plural="TrainingJobSummaries")

    async def stop_training_job(self, given: Members) -> None:
        """StopTrainingJob: SIGTERM, two minutes, SIGKILL; what the container made is kept."""
        job = self._job(given)
        status = job["TrainingJobStatus"]
        if status in OVER:
            raise AwsError(
                "ValidationException",
                f"The request was rejected because the training job is in status {status}.",
            )
        if status != "Stopping":
            self._runs[job["TrainingJobName"]][0].stop()

    async def _interrupt(self, request: Request) -> Response:
        """Take the instances of a spot job away, as when AWS needs them back, but without its warning."""
        name = request.path_params["name"]
        running, job = self._runs.get(name), self._place.jobs.find(name)
        if job is None:
            return _told(404, f"there is no training job {name}")
        if running is None or job["TrainingJobStatus"] in OVER:  # its files may still be swept up
            return _told(409, f"{name} is over")
        run = running[0]
        if not run.job.get("EnableManagedSpotTraining"):
            return _told(400, f"{name} does not run on spot instances: EnableManagedSpotTraining is not set")
        if not run.interrupt():
            return _told(409, f"{name} is {run.job['SecondaryStatus']}; only Training can be interrupted")
        return _told(202, f"the instances of {name} are gone")

    def _job(self, given: Members) -> Document:
        job = self._place.jobs.find(given["TrainingJobName"])
        if job is None:
            raise AwsError("ValidationException", "Requested resource not found.")
        return job

    def _run(self, run: TrainingRun) -> None:
        name = run.job["TrainingJobName"]
        task = asyncio.create_task(run.run(), name=f"training job {name}")
        self._runs[name] = (run, task)
        task.add_done_callback(lambda _: self._runs.pop(name, None))


def _told(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)
