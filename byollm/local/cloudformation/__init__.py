"""CloudFormation in ministack, with providers for the types that it lacks or only pretends to make.

Each provider calls the front door as any client does, on a thread of its own: a stack's resources are
visible through AWS's API, and made by the service that really runs them.
"""

from byollm.local.cloudformation.install import install_providers

__all__ = ["install_providers"]
