"""The public API: OpenAI's calls, passed to the SageMaker endpoint as the caller's own words."""

from byollm.gateway.errors import GatewayError
from byollm.gateway.process import serve
from byollm.gateway.runtime import Target, target_of

__all__ = ["GatewayError", "Target", "serve", "target_of"]
