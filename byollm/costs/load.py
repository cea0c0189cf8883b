"""What a stated load adds: instances that work, tasks, bytes, requests."""

import math
from collections.abc import Iterator

from pydantic import Field

from byollm.costs.fixed import Count
from byollm.costs.line import HOURS
from byollm.settings import Settings
from byollm.settings.base import Section

GB = 10**9


class Load(Section):
    """How much is asked in a month."""

    requests: int = Field(default=100_000, ge=0)
    """Requests of the month."""
    seconds: float = Field(default=5.0, gt=0, le=480)
    """How long the model takes for each."""
    hours: float = Field(default=240.0, gt=0, le=HOURS)
    """Hours of the month that they come in, evenly; eight a day by default."""
    asked_bytes: int = Field(default=4_000, ge=0)
    """Bytes of each request."""
    answered_bytes: int = Field(default=16_000, ge=0)
    """Bytes of each answer; a stream has some 200 for each token."""
    logged_bytes: int = Field(default=1_000, ge=0)
    """Bytes that each request has logged."""


def endpoint(settings: Settings, load: Load | None) -> Iterator[Count]:
    """Yield what the endpoint's instances take: the fewest, and those that the load needs on top."""
    spec = settings.endpoint
    item, fewest = f"SageMaker {spec.instance_type}", spec.scaling.minimum
    fleets = len(spec.variants)
    if load is None or not load.requests:
        if fewest:
            yield item, fleets * fewest * HOURS, f"{_each(fleets)}{fewest} x {HOURS} h"
        return
    under_way = load.requests * load.seconds / (load.hours * 3600)
    needed = min(max(math.ceil(under_way / spec.scaling.concurrency), fewest, 1), spec.scaling.maximum)
    idle = HOURS - load.hours
    how = f"{_each(fleets)}({needed} x {load.hours:g} h + {fewest} x {idle:g} h)"
    how += f"; {under_way:.2g} requests under way, {spec.scaling.concurrency} an instance"
    yield item, fleets * (needed * load.hours + fewest * idle), how


def storage(settings: Settings) -> Iterator[Count]:
    """Yield what the weights of one version take."""
    gib = settings.endpoint.weights_gib
    yield "S3 storage", gib, f"{gib:g} GB of weights"


def traffic(settings: Settings, load: Load) -> Iterator[Count]:
    """Yield what requests and answers cost on their way, and what is logged of them."""
    there, back = load.requests * load.asked_bytes / GB, load.requests * load.answered_bytes / GB
    both = f"{load.requests:,} x {load.asked_bytes + load.answered_bytes:,} bytes"
    inner = "interface endpoint traffic" if settings.network.interface_endpoints else "NAT gateway traffic"
    yield inner, there + back, both
    yield "load balancer capacity unit", there + back, f"{both}, 1 GB an hour each"
    yield "traffic to the internet", back, f"{load.requests:,} x {load.answered_bytes:,} bytes"
    yield "firewall request", load.requests / 10**6, f"{load.requests:,} requests"
    logged = load.requests * load.logged_bytes / GB
    yield "logs taken in", logged, f"{load.requests:,} x {load.logged_bytes:,} bytes"


def tasks(settings: Settings, load: Load) -> Iterator[Count]:
    """Yield the tasks of the gateway that the load needs beside the fewest."""
    services = settings.services
    minute = load.requests / (load.hours * 60)
    needed = min(math.ceil(minute / services.requests_per_target), services.maximum)
    more = max(needed - services.minimum, 0)
    if more:
        cpus, gib = services.gateway.cpu / 1024, services.gateway.memory_mib / 1024
        how = f"{more} more gateways x {{}} x {load.hours:g} h; {minute:.0f} requests a minute"
        yield "Fargate vCPU", more * cpus * load.hours, how.format(f"{cpus:g} vCPU")
        yield "Fargate GB", more * gib * load.hours, how.format(f"{gib:g} GB")


def _each(fleets: int) -> str:
    return f"{fleets} variants x " if fleets > 1 else ""
