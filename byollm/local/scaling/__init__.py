"""Application Auto Scaling: policies that watch CloudWatch metrics and change how much of something there is.

It sees and acts through the public APIs only, so it scales whatever answers them.
"""

from byollm.local.scaling.service import AutoScaling

__all__ = ["AutoScaling"]
