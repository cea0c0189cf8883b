"""The inference container: OpenAI's protocol and SageMaker's contract over the engine."""

from byollm.server.errors import ServerError
from byollm.server.process import serve

__all__ = ["ServerError", "serve"]
