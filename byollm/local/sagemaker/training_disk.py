"""The disk of one training instance: what the container finds under /opt/ml, and what it leaves there.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from byollm.local.protocol import Members
from byollm.local.sagemaker.s3_files import Mirror, S3FilesError, download, files, listed, put, upload

FAILURE = 1024  # characters of /opt/ml/output/failure that AWS shows
GROUP = "homogeneousCluster"


class Disk:
    """One instance's /opt/ml.

    Args:
        root: the directory; made anew.
        job: as it was asked for.
        hosts: the names of all instances.
        number: which of them this is.
    """

    def __init__(self, root: Path, job: Members, hosts: list[str], number: int) -> None:
        self.root = root
        self._job, self._hosts, self._number = job, hosts, number
        shutil.rmtree(root, ignore_errors=True)
        for part in ("input/config", "input/data", "model", "output/data", "code", "checkpoints"):
            (root / part).mkdir(parents=True)

    def configure(self) -> None:
        """Write what the container is told: its hyperparameters, its channels, the instances."""
        resources = self._job["ResourceConfig"]
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": "File",
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": "None",
                **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            }
            for channel in self._job.get("InputDataConfig", ())
        }
        group = {
            "instance_group_name": GROUP,
            "instance_type": resources["InstanceType"],
            "hosts": self._hosts,
        }
        told = {
            "hyperparameters": self._job.get("HyperParameters", {}),
            "inputdataconfig": channels,
            "resourceconfig": {
                "current_host": self._hosts[self._number],
                "current_instance_type": resources["InstanceType"],
                "current_group_name": GROUP,
                "hosts": self._hosts,
                "instance_groups": [group],
                "network_interface_name": "lo",
            },
        }
        for name, content in told.items():
            (self.root / "input/config" / f"{name}.json").write_text(json.dumps(content))

    def fill(self, client: Any) -> None:
        """Download every channel.

        Raises:
            S3FilesError: there is nothing in one.
            BotoCoreError, ClientError, OSError: it cannot be had.
        """
        for channel in self._job.get("InputDataConfig", ()):
            source = channel["DataSource"]["S3DataSource"]
            keys = listed(client, source["S3Uri"])
            if not keys:
                raise S3FilesError(
                    f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source.'
                )
            if source.get("S3DataDistributionType") == "ShardedByS3Key":
                keys = keys[self._number :: len(self._hosts)]
            place = self.root / "input/data" / channel["ChannelName"]
            place.mkdir()
            download(client, source["S3Uri"], keys, place)

    def checkpoints(self, client: Any) -> Mirror | None:
        """Return the directory of checkpoints and its copy in S3, if the job has one."""
        config = self._job.get("CheckpointConfig")
        if config is None:
            return None
        place = self.root / PurePosixPath(config.get("LocalPath", "/opt/ml/checkpoints")).relative_to(
            "/opt/ml"
        )
        place.mkdir(parents=True, exist_ok=True)
        return Mirror(client, place, config["S3Uri"])

    @property
    def failure(self) -> str:
        """What the container says of why it failed."""
        try:
            with (self.root / "output/failure").open(errors="replace") as file:
                return file.read(FAILURE).strip()
        except OSError:
            return ""


def deliver(client: Any, disks: list[Disk], job: Members, *, model: bool) -> None:
    """Put what the containers made into S3: the model, if it is to be kept, and other output.

    Of several instances all files are put together; where two have the same name, the first instance's stays.

    Raises:
        Boto3Error, BotoCoreError, ClientError, OSError: S3 does not take it.
    """
    config = job["OutputDataConfig"]
    kept = [("model", "model", "model")] if model else []
    for part, archived, plain in (*kept, ("output/data", "output", "data")):
        merged = disks[0].root / part
        for disk in disks[1:]:
            _add(disk.root / part, merged)
        if not any(files(merged)):
            continue
        encryption = _encryption(config)
        if config.get("CompressionType") == "NONE":
            upload(client, merged, f"{output_of(job)}/{plain}", encryption)
        else:
            archive = disks[0].root / f"{archived}.tar.gz"
            with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
                packed.add(merged, arcname=".")
            put(client, archive, f"{output_of(job)}/{archived}.tar.gz", encryption)


def output_of(job: Members) -> str:
    """Return the prefix under which a job's results are put."""
    return f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output"


def model_of(job: Members) -> str:
    """Return the URL of the model that a job makes."""
    plain = job["OutputDataConfig"].get("CompressionType") == "NONE"
    return f"{output_of(job)}/model/" if plain else f"{output_of(job)}/model.tar.gz"


def _add(source: Path, target: Path) -> None:
    for path in files(source):
        place = target / path.relative_to(source)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)


def _encryption(config: Members) -> dict[str, str]:
    if not config.get("KmsKeyId"):
        return {}
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": config["KmsKeyId"]}
