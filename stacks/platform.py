"""All stacks of one environment, put together."""

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from byollm.settings import Settings
from stacks.copies import ModelCopyStack
from stacks.dashboards import DashboardsStack
from stacks.functions import FunctionPlace
from stacks.inference import InferencePlace, InferenceStack
from stacks.keys import KeysStack
from stacks.lifecycle import LifecyclePlace, LifecycleStack
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.optional import Foundation, add_delivery, add_images, add_instance, add_services
from stacks.registry import RegistryStack
from stacks.storage import StorageStack
from stacks.training import TrainingPlace, TrainingStack


def add_platform(app: App, *, env: str, settings: Settings) -> None:
    """Add every stack of environment `env` to `app`, with the checks that refuse a synth."""
    aws, storage = settings.aws, settings.storage
    keys = KeysStack(app, env=env, settings=aws)
    network = NetworkStack(app, env=env, aws=aws, network=settings.network, logs_key=keys.logs)
    stored = StorageStack(
        app,
        env=env,
        aws=aws,
        storage=storage,
        data_key=keys.data,
        copies=[
            ModelCopyStack(app, env=env, region=region, aws=aws, storage=storage)
            for region in storage.model_copies
        ],
    )
    observability = ObservabilityStack(
        app,
        env=env,
        aws=aws,
        watching=settings.observability,
        data_key=keys.data,
        logs_key=keys.logs,
        access_logs=stored.access_logs,
    )
    registry = RegistryStack(app, env=env, aws=aws, storage=storage, data_key=keys.data)
    training = TrainingStack(
        app,
        env=env,
        aws=aws,
        jobs=settings.jobs,
        place=TrainingPlace(
            subnets=network.private_subnets,
            group=network.groups.training,
            data=stored.data,
            models=stored.models,
            artefacts=stored.artefacts,
            key=keys.data,
            repository=registry.repositories["training"],
        ),
    )
    functions = FunctionPlace(
        aws=aws,
        watching=settings.observability,
        data_key=keys.data,
        logs_key=keys.logs,
        alarms=observability.alarms,
    )
    inference = InferenceStack(
        app,
        env=env,
        spec=settings.endpoint,
        place=InferencePlace(
            subnets=network.private_subnets,
            group=network.groups.inference,
            key=keys.data,
            repository=registry.repositories["inference"],
            models=stored.models,
        ),
        functions=functions,
    )
    # As soon as it stands, the reconciler asks which versions there are.
    inference.add_stack_dependency(training)
    lifecycle = LifecycleStack(
        app,
        env=env,
        inference=inference,
        place=LifecyclePlace(
            models=stored.models,
            repository=registry.repositories["inference"],
            overspending=observability.overspending,
        ),
        functions=functions,
    )
    DashboardsStack(
        app,
        env=env,
        aws=aws,
        watching=settings.observability,
        spec=settings.endpoint,
        guards=inference.guards,
        functions=[*inference.functions, *lifecycle.functions],
    )
    base = Foundation(
        keys=keys, network=network, stored=stored, registry=registry, observability=observability
    )
    for add in (add_services, add_instance, add_images, add_delivery):
        add(app, env=env, settings=settings, base=base)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
