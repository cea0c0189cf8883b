"""Whether a model fits: its weights, the cache of its requests and what runs them, against one memory.

The settings' check of the endpoint, `byollm doctor` and `byollm inspect` all count with this.
"""

from dataclasses import dataclass

GIB = 2**30

RUNTIME_GIB = 2
"""Memory that no engine starts without: CUDA's context, activations, the smallest cache."""

CACHE_BYTES = 2
"""Of a number in the cache: bfloat16."""


def cache_bytes_per_token(layers: int, kv_heads: int, head_dim: int) -> int:
    """Return what one token takes in the cache: a key and a value for each layer and head."""
    return 2 * layers * kv_heads * head_dim * CACHE_BYTES


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a model takes of the memory that it is served from."""

    weights_gib: float
    """Its weights as they are served, quantised or not."""
    token_bytes: int = 0
    """What one token takes in the cache; 0 where that is not known."""

    def needs_gib(self, context: int = 0, batch: int = 1) -> float:
        """Return the memory for `batch` requests of `context` tokens at once."""
        return self.weights_gib + RUNTIME_GIB + self.token_bytes * context * batch / GIB

    def requests(self, memory_gib: float, context: int) -> int:
        """Return how many requests of `context` tokens fit into a memory at once; 0: none."""
        return int(max(0.0, self._room(memory_gib)) // (self.token_bytes * context))

    def context(self, memory_gib: float, batch: int) -> int:
        """Return how many tokens each of `batch` requests may have in a memory; 0: none fits."""
        return int(max(0.0, self._room(memory_gib)) // (self.token_bytes * batch))

    def arithmetic(self, context: int, batch: int) -> str:
        """Show the sum that `needs_gib` is."""
        return (
            f"weights {self.weights_gib:.2f} + runtime {RUNTIME_GIB} + cache {batch} x {context:,} tokens "
            f"x {self.token_bytes / 1024:g} KiB = {self.needs_gib(context, batch):.2f} GiB"
        )

    def _room(self, memory_gib: float) -> float:
        return (memory_gib - self.needs_gib()) * GIB
