"""Image repositories, one for each container."""

from aws_cdk import App
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms

from byollm.settings import AwsSettings, StorageSettings
from stacks.base import PlatformStack

IMAGES = ("inference", "training", "gateway", "frontend")


class RegistryStack(PlatformStack):
    """Repositories `byollm-<env>/<image>`: scanned on push, tags that never move, old images removed."""

    def __init__(
        self, app: App, *, env: str, aws: AwsSettings, storage: StorageSettings, data_key: kms.IKey
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="registry",
            settings=aws,
            description="Image repositories of the byollm platform",
        )
        self.repositories = {
            image: ecr.Repository(
                self,
                image.capitalize(),
                repository_name=f"byollm-{env}/{image}",
                image_scan_on_push=True,
                image_tag_mutability=ecr.TagMutability.IMMUTABLE,
                encryption=ecr.RepositoryEncryption.KMS,
                encryption_key=data_key,
                lifecycle_rules=[ecr.LifecycleRule(max_image_count=storage.images_kept)],
                removal_policy=self.removal_policy,
                empty_on_delete=not aws.retain,
            )
            for image in IMAGES
        }
