"""Amazon ECS of the emulated AWS: the tasks of Fargate services are processes of this machine."""

from byollm.local.ecs.service import Ecs

__all__ = ["Ecs"]
