"""The build that `byollm deploy` has make the images where its own machine has no container engine."""

from dataclasses import dataclass

from aws_cdk import App
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from byollm.settings import AwsSettings
from stacks.base import PlatformStack
from stacks.builds import Builds, Work
from stacks.delivery import IMAGES
from stacks.rights import registry

SOURCE = "images/"
ARCHIVE = "source.zip"


@dataclass(frozen=True, kw_only=True)
class ImagesPlace:
    """Where the source is laid, and where the images go."""

    artefacts: s3.IBucket
    repositories: dict[str, ecr.Repository]
    data_key: kms.IKey
    logs_key: kms.IKey


class ImagesStack(PlatformStack):
    """The project `byollm-<env>-images`: an archive of the checkout in, images in the registry out."""

    def __init__(self, app: App, *, env: str, aws: AwsSettings, place: ImagesPlace) -> None:
        super().__init__(
            app, env=env, role="images", settings=aws, description="Image builds of the byollm platform"
        )
        work = Work(place.artefacts, SOURCE, place.data_key, archive=ARCHIVE)
        builds = Builds(self, aws=aws, work=work, logs_key=place.logs_key)
        pushed = [place.repositories[image].repository_arn for image in IMAGES]
        builds.add("images", rights=registry(pushed=pushed), docker=True)
