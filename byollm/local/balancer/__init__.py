"""Elastic Load Balancing of the emulated AWS: application load balancers that listen on this machine."""

from byollm.local.balancer.service import Balancers

__all__ = ["Balancers"]
