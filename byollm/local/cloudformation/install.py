"""Puts our providers into ministack's CloudFormation engine."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ministack.core.responses import get_region
from ministack.services.cloudformation import provisioners, stacks

from byollm.local.cloudformation import (
    balancing,
    containers,
    delivery,
    learning,
    network,
    scaling,
    watching,
)
from byollm.local.cloudformation.provider import Made, Properties, Provider, Resource
from byollm.local.world import World

PROVIDERS: dict[str, Provider] = {
    **balancing.PROVIDERS,
    **containers.PROVIDERS,
    **delivery.PROVIDERS,
    **learning.PROVIDERS,
    **network.PROVIDERS,
    **scaling.PROVIDERS,
    **watching.PROVIDERS,
}


def install_providers(world: World) -> None:
    """Give ministack the types of `PROVIDERS`, in place of its own where it has them."""
    for kind, provider in PROVIDERS.items():
        provisioners._RESOURCE_HANDLERS[kind] = _handlers(world, provider)
        if provider.replaces != "all":
            provisioners._REPLACING_PROPERTIES[kind] = provider.replaces
        if provider.name is not None:
            provisioners._CUSTOM_NAME_REPLACEMENT[kind] = {"name": provider.name}
        if provider.tags is not None:
            provisioners._STACK_TAG_PROPERTY[kind] = ("Tags", provider.tags)
    _off_the_event_loop()


def _handlers(world: World, provider: Provider) -> dict[str, Any]:
    """Write a provider as ministack has them."""

    def resource(logical_id: str, properties: Properties, stack: str) -> Resource:
        return Resource(
            world=replace(world, region=get_region()),
            properties=_without_own_tags(properties),
            named=lambda longest: provisioners._physical_name(stack, logical_id, max_len=longest),
        )

    def create(logical_id: str, properties: Properties, stack: str) -> Made:
        return provider.create(resource(logical_id, properties, stack))

    def update(id: str, old: Properties, new: Properties, stack: str, logical_id: str | None = None) -> Made:
        if provider.replaces == "all":
            # Another physical id: the engine removes the predecessor once the update has succeeded.
            provisioners._NAME_SEED.set(provisioners.new_uuid()[:8])
            return create(logical_id or id, new, stack)
        return provider.update(resource(logical_id or id, new, stack), id, old)

    def delete(id: str, properties: Properties) -> None:
        provider.delete(resource("", properties, ""), id)

    return {"create": create, "update": update, "update_with_logical_id": True, "delete": delete}


def _without_own_tags(properties: Properties) -> Properties:
    """Leave out the tags that only CloudFormation itself may set: services refuse them from their callers."""
    tags = properties.get("Tags")
    if not isinstance(tags, list):
        return properties
    return {**properties, "Tags": [tag for tag in tags if not tag["Key"].startswith("aws:")]}


def _off_the_event_loop() -> None:
    """Run our providers on threads: they call the front door, which asks this process in turn."""
    theirs: Callable[[str], bool] = stacks._runs_on_worker_thread
    stacks._runs_on_worker_thread = lambda kind: kind in PROVIDERS or theirs(kind)
