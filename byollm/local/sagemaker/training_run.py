"""One training job, from its start to its end, through every interruption."""

import asyncio
import contextlib
import logging
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.containers import Container, ContainerError, Containers, Mount
from byollm.local.logs import LogStream
from byollm.local.metrics import Metrics
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.events import Events
from byollm.local.sagemaker.s3_files import Mirror, S3FilesError, address
from byollm.local.sagemaker.training_disk import Disk, deliver, model_of
from byollm.local.sagemaker.training_log import GROUP, TrainingLog
from byollm.local.store import Document
from byollm.local.world import ACCESS_KEY, SECRET_KEY, World

CHANGE = "SageMaker Training Job State Change"
GRACE_S = 120.0  # between SIGTERM and SIGKILL; in real seconds: a model is saved no faster by the clock
SPOT_BACK_S = 60  # until there is a spot instance again after one was taken away
# What a second on a spot instance is billed as: the share in the example of AWS's documentation.
# https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html
SPOT_SHARE = 0.2
REASON = 1024  # characters of a FailureReason
FOLLOW_S = 1.0  # real seconds between two looks at logs and checkpoints

ENDINGS = {
    "Completed": ("Completed", "Training job completed"),
    "Failed": ("Failed", "Training job failed"),
    "Stopped": ("Stopped", "Training job stopped"),
    "MaxRuntimeExceeded": ("Stopped", "Training job runtime exceeded MaxRuntimeInSeconds provided"),
    "MaxWaitTimeExceeded": ("Stopped", "Training job wait time exceeded MaxWaitTimeInSeconds provided"),
}

log = logging.getLogger(__name__)


class JobFailedError(Exception):
    """The job cannot go on; the message is its FailureReason."""


@dataclass(frozen=True)
class Place:
    """What every job needs: where it stands, what runs it, where it is written down, who is told."""

    world: World
    containers: Containers
    jobs: Collection
    events: Events
    metrics: Metrics


class TrainingRun:
    """A job that runs.

    Args:
        place: where.
        job: its document, as DescribeTrainingJob shows it.
    """

    def __init__(self, place: Place, job: Document) -> None:
        self._place, self._world, self.job = place, place.world, job
        self._clock = place.world.clock
        self._root = place.world.directory / "training" / job["TrainingJobName"]
        self._stop, self._interrupt = asyncio.Event(), asyncio.Event()
        if job["TrainingJobStatus"] == "Stopping":
            self._stop.set()

    def stop(self) -> None:
        """Ask the containers to end, and keep what they made."""
        self.enter("Stopping", "Stopping the training job", status="Stopping")
        self._stop.set()

    def interrupt(self) -> bool:
        """Take the instances away without a warning; False where there is none."""
        if self.job["SecondaryStatus"] != "Training":
            return False
        self._interrupt.set()
        return True

    async def run(self) -> None:
        """Go through the whole life of the job, from where it is."""
        try:
            ending = await self._attempts()
            self._end(ending)
        except JobFailedError as error:
            self._end("Failed", str(error))
        except Exception:
            log.exception("training job %s", self.job["TrainingJobName"])
            self._end("Failed", "InternalServerError: We encountered an internal error. Please try again.")
        await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)

    async def _attempts(self) -> str:
        """Run the job as often as it takes, and return how it ended."""
        while True:
            if self._stop.is_set():
                return "Stopped"
            try:
                ending = await self._attempt()
            except (S3FilesError, BotoCoreError, ClientError, Boto3Error, OSError) as error:
                raise JobFailedError(f"ClientError: {error}") from None
            except ContainerError as error:
                raise JobFailedError(f"ClientError: Cannot run the training image. {error}") from None
            if ending != "Interrupted":
                return ending
            self.enter("Interrupted", "The spot instance was taken away. Waiting for another one.")
            pause = self._clock.sleep(max(min(SPOT_BACK_S, self._wait_left()), 0))
            await _first(_then(self._stop.wait(), "Stopped"), _then(pause, "Again"))
            if self._wait_left() <= 0:
                return "MaxWaitTimeExceeded"

    async def _attempt(self) -> str:
        """Run the job on instances of its own, and return how it ended, or `Interrupted`."""
        self.enter("Starting", "Preparing the instances for training")
        begun = self._clock.now()
        self.job.setdefault("TrainingStartTime", begun)
        try:
            self.enter("Downloading", "Downloading input data")
            hosts = [
                f"127.0.0.{number}" for number in range(1, self.job["ResourceConfig"]["InstanceCount"] + 1)
            ]
            disks = [Disk(self._root / host, self.job, hosts, number) for number, host in enumerate(hosts)]
            mirrors = await asyncio.to_thread(self._fill, disks)
            self.enter("Training", "Training image download completed. Training in progress.")
            return await self._train(disks, mirrors)
        finally:
            self._count(self._clock.now() - begun)

    def _fill(self, disks: list[Disk]) -> list[Mirror]:
        client = self._world.client("s3")
        output = self.job["OutputDataConfig"]["S3OutputPath"]
        try:  # not after hours of training
            client.head_bucket(Bucket=address(output)[0])
        except ClientError as error:
            raise JobFailedError(
                f"ClientError: S3OutputPath {output} cannot be written to: {error}"
            ) from None
        mirrors = []
        for disk in disks:
            disk.configure()
            try:
                disk.fill(client)
            except (S3FilesError, ClientError) as error:
                raise JobFailedError(f"ClientError: Data download failed:{error}") from None
            if mirror := disk.checkpoints(client):
                mirror.fetch()
                mirrors.append(mirror)
        return mirrors

    async def _train(self, disks: list[Disk], mirrors: list[Mirror]) -> str:
        self._interrupt.clear()
        containers: list[Container] = []
        try:
            for number, disk in enumerate(disks, 1):
                containers.append(await self._start(disk, number))
            logs = [container.log for container in containers]
            told = TrainingLog(self._clock, self._place.metrics, self.job, logs)
            async with self._followed(told, mirrors):
                ending = await self._until_end(containers)
            codes = [container.exit_code for container in containers]
        finally:
            for container in containers:
                container.kill()
            await asyncio.gather(*(container.wait() for container in containers))
        await asyncio.to_thread(told.follow)
        self.job["FinalMetricDataList"] = list(told.final.values())
        if ending == "Interrupted":
            return ending
        for mirror in mirrors:
            await asyncio.to_thread(mirror.push)
        self.enter("Uploading", "Uploading generated training model")
        if ending != "Failed":
            self.job["ModelArtifacts"] = {"S3ModelArtifacts": model_of(self.job)}
        client = self._world.client("s3")
        await asyncio.to_thread(deliver, client, disks, self.job, model=ending != "Failed")
        if ending == "Failed":
            raise JobFailedError(_reason(disks, codes))
        return ending

    async def _start(self, disk: Disk, number: int) -> Container:
        job = self.job
        stream = f"{job['TrainingJobName']}/algo-{number}-{int(self._clock.now())}"
        environment = {
            "TRAINING_JOB_NAME": job["TrainingJobName"],
            "TRAINING_JOB_ARN": job["TrainingJobArn"],
            "AWS_REGION": self._world.region,
        }
        if not job.get("EnableNetworkIsolation"):
            environment |= {
                "AWS_DEFAULT_REGION": self._world.region,
                "AWS_ENDPOINT_URL": self._world.address,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            }
        algorithm = job["AlgorithmSpecification"]
        return await self._place.containers.start(
            algorithm["TrainingImage"],
            algorithm.get("ContainerArguments", ["train"]),
            log=LogStream(GROUP, stream),
            environment={**environment, **job.get("Environment", {})},
            mounts=[Mount(disk.root, "/opt/ml", read_only=False)],
        )

    async def _until_end(self, containers: list[Container]) -> str:
        """Wait until all containers have ended, one has failed, or something ends them all."""
        limit, exceeded = min(
            (self._run_left(), "MaxRuntimeExceeded"), (self._wait_left(), "MaxWaitTimeExceeded")
        )
        ending = await _first(
            _ended(containers),
            _then(self._interrupt.wait(), "Interrupted"),
            _then(self._stop.wait(), "Stopped"),
            _then(self._clock.sleep(max(limit, 0)), exceeded),
        )
        if ending == exceeded:
            self.enter("Stopping", ENDINGS[exceeded][1], status="Stopping")
        if ending in (exceeded, "Stopped"):
            await asyncio.gather(*(container.stop(GRACE_S) for container in containers))
        return ending

    @contextlib.asynccontextmanager
    async def _followed(self, told: TrainingLog, mirrors: list[Mirror]) -> AsyncIterator[None]:
        """Hand on logs and checkpoints all the while."""
        ended = asyncio.Event()
        following = asyncio.create_task(self._follow(told, mirrors, ended))
        try:
            yield
        finally:
            ended.set()
            await following

    async def _follow(self, told: TrainingLog, mirrors: list[Mirror], ended: asyncio.Event) -> None:
        while not ended.is_set():
            await asyncio.to_thread(told.follow)
            for mirror in mirrors:
                try:
                    await asyncio.to_thread(mirror.push)
                except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
                    log.warning("checkpoints of %s wait: %s", self.job["TrainingJobName"], error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), FOLLOW_S)

    def enter(self, secondary: str, message: str, status: str | None = None) -> None:
        """Write down, and tell, that the job is in another state."""
        now, job = self._clock.now(), self.job
        transitions = job.setdefault("SecondaryStatusTransitions", [])
        if transitions:
            transitions[-1].setdefault("EndTime", now)
        transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        job["SecondaryStatus"] = secondary
        job["TrainingJobStatus"] = status or job["TrainingJobStatus"]
        self._place.jobs.put(job)
        self._place.events.tell(CHANGE, job["TrainingJobArn"], job)

    def _end(self, ending: str, reason: str | None = None) -> None:
        status, message = ENDINGS[ending]
        now, job = self._clock.now(), self.job
        if reason is not None:
            job["FailureReason"] = reason[:REASON]
        job["TrainingEndTime"] = now
        self.enter(ending, message, status=status)
        job["SecondaryStatusTransitions"][-1]["EndTime"] = now
        self._place.jobs.put(job)

    def _count(self, seconds: float) -> None:
        """Add what an attempt took to what the job took, and to what it costs."""
        ran = self.job.get("RanSeconds", 0.0) + seconds
        share = SPOT_SHARE if self.job.get("EnableManagedSpotTraining") else 1.0
        self.job["RanSeconds"] = ran
        self.job["TrainingTimeInSeconds"] = math.ceil(ran)
        self.job["BillableTimeInSeconds"] = math.ceil(ran * share)

    def _run_left(self) -> float:
        limit: float = self.job["StoppingCondition"]["MaxRuntimeInSeconds"]
        return limit - float(self.job.get("RanSeconds", 0.0))

    def _wait_left(self) -> float:
        limit = self.job["StoppingCondition"].get("MaxWaitTimeInSeconds", math.inf)
        return float(self.job["CreationTime"] + limit - self._clock.now())


async def _first(*outcomes: Coroutine[Any, Any, str]) -> str:
    """Return the first outcome, and give the others up."""
    tasks = [asyncio.create_task(outcome) for outcome in outcomes]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()


async def _then(event: Awaitable[object], outcome: str) -> str:
    await event
    return outcome


async def _ended(containers: list[Container]) -> str:
    for ended in asyncio.as_completed([container.wait() for container in containers]):
        if await ended:
            return "Failed"
    return "Completed"


def _reason(disks: list[Disk], codes: list[int | None]) -> str:
    """Say why a job failed, by what the first container that failed left."""
    code, disk = next((code, disk) for code, disk in zip(codes, disks, strict=True) if code)
    said = disk.failure or f"nothing was written to /opt/ml/output/failure; see the log in {GROUP}"
    return f"AlgorithmError: {said}, exit code: {code}"
