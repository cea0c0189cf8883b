"""The emulated services that live in the front process, by the signing name of their requests."""

from byollm.local.balancer import Balancers
from byollm.local.containers import Containers
from byollm.local.door import REGISTRY
from byollm.local.ecs import Ecs
from byollm.local.front import Service
from byollm.local.pipelines import Pipelines
from byollm.local.registry import Registry
from byollm.local.sagemaker import SageMaker
from byollm.local.scaling import AutoScaling
from byollm.local.world import World


def make_services(world: World) -> dict[str, Service]:
    """Make them, in the order they are to be started."""
    containers = Containers(world)
    return {
        "elasticloadbalancing": Balancers(world),
        "sagemaker": SageMaker(world, containers),
        "ecs": Ecs(world, containers),
        "application-autoscaling": AutoScaling(world),
        "codepipeline": Pipelines(world),
        REGISTRY: Registry(world),
    }
