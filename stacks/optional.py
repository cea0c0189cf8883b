"""What is deployed only where the settings ask for it. Its modules are large, and imported only then."""

from dataclasses import dataclass

from aws_cdk import App

from byollm.settings import Settings
from stacks.guards import Guarded
from stacks.keys import KeysStack
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.registry import RegistryStack
from stacks.storage import StorageStack


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """The stacks of one environment that all others stand on."""

    keys: KeysStack
    network: NetworkStack
    stored: StorageStack
    registry: RegistryStack
    observability: ObservabilityStack


def add_services(app: App, *, env: str, settings: Settings, base: Foundation) -> None:
    """Add gateway and page, once their images are there."""
    images = settings.images
    if images.gateway is None or images.frontend is None:
        return
    from stacks.services import ServicesPlace, ServicesStack

    ServicesStack(
        app,
        env=env,
        aws=settings.aws,
        network=settings.network,
        services=settings.services,
        endpoint=settings.endpoint,
        place=ServicesPlace(
            network=base.network,
            repositories=base.registry.repositories,
            digests={"gateway": images.gateway, "frontend": images.frontend},
            access_logs=base.stored.access_logs,
            logs_key=base.keys.logs,
            guarded=Guarded(
                watching=settings.observability,
                limits=settings.endpoint.rollout,
                topic=base.observability.alarms,
            ),
        ),
    )


def add_instance(app: App, *, env: str, settings: Settings, base: Foundation) -> None:
    """Add the instance that serves a model without SageMaker, where a model is named."""
    if settings.ec2.model_prefix is None or settings.images.inference is None:
        return
    from stacks.ec2 import Ec2Place, Ec2Stack

    Ec2Stack(
        app,
        env=env,
        aws=settings.aws,
        ec2_settings=settings.ec2,
        place=Ec2Place(
            network=base.network,
            repository=base.registry.repositories["inference"],
            digest=settings.images.inference,
            models=base.stored.models,
            data_key=base.keys.data,
            logs_key=base.keys.logs,
        ),
    )


def add_images(app: App, *, env: str, settings: Settings, base: Foundation) -> None:
    """Add the build of images, where no pipeline builds them."""
    if settings.delivery.connection_arn is not None:
        return
    from stacks.images import ImagesPlace, ImagesStack

    ImagesStack(
        app,
        env=env,
        aws=settings.aws,
        place=ImagesPlace(
            artefacts=base.stored.artefacts,
            repositories=base.registry.repositories,
            data_key=base.keys.data,
            logs_key=base.keys.logs,
        ),
    )


def add_delivery(app: App, *, env: str, settings: Settings, base: Foundation) -> None:
    """Add the pipeline, where it has a connection to follow."""
    if settings.delivery.connection_arn is None:
        return
    from stacks.delivery import DeliveryPlace, DeliveryStack

    DeliveryStack(
        app,
        env=env,
        aws=settings.aws,
        delivery=settings.delivery,
        place=DeliveryPlace(
            artefacts=base.stored.artefacts,
            repositories=base.registry.repositories,
            data_key=base.keys.data,
            logs_key=base.keys.logs,
            regions=(settings.aws.region, *settings.storage.model_copies),
        ),
    )
