"""What an A10G could do at most, by its data sheet: arithmetic, nothing of it measured."""

from dataclasses import dataclass

from bench.serve.models import STABLELM as SHAPE

BANDWIDTH, FLOPS = 600e9, 70e12
"""Of an A10G: bytes and bfloat16 operations a second.
https://www.baseten.co/blog/nvidia-a10-vs-a10g-for-ml-model-inference/"""


@dataclass(frozen=True)
class Weights:
    """How many bits a weight takes, with its scales: inside the layers, and in embedding and head."""

    name: str
    layers: float
    tables: float


KINDS = (
    Weights("bfloat16", 16, 16),
    Weights("int8, groups of 128", 8 + 16 / 128, 8 + 16 / 128),
    Weights("int4, groups of 128", 4 + 16 / 128, 8 + 16 / 128),
    Weights("nf4, blocks of 64", 4 + 32 / 64, 16),
)


def table(contexts: tuple[int, ...] = (128, 512), batches: tuple[int, ...] = (1, 8, 32)) -> str:
    """Tokens/s if a step did nothing but read weights and cache once, or multiply at the peak."""
    places = [(batch, context) for batch in batches for context in contexts]
    lines = [
        "| StableLM-3B on an A10G, tokens/s at most | weights | "
        + " | ".join(f"{batch} at {context}" for batch, context in places)
        + " |",
        "|---" * (len(places) + 2) + "|",
    ]
    for kind in KINDS:
        cells = [f"{bound(kind, batch, context):,.0f}" for batch, context in places]
        lines.append(f"| {kind.name} | {weight_bytes(kind) / 2**30:.2f} GiB | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bound(kind: Weights, batch: int, context: int) -> float:
    """Tokens/s that neither bandwidth nor arithmetic allow to exceed.

    The embedding is looked up, not read; the cache holds keys and values in bfloat16.
    """
    inside, head = _parameters()
    read = (inside * kind.layers + head * kind.tables) / 8 + batch * context * token_bytes()
    return batch / max(read / BANDWIDTH, batch * SHAPE.flops_per_token(context) / FLOPS)


def weight_bytes(kind: Weights) -> float:
    """Of the whole model."""
    inside, head = _parameters()
    return (inside * kind.layers + 2 * head * kind.tables) / 8


def token_bytes() -> int:
    """Of a token's keys and values."""
    return SHAPE.layers * 2 * SHAPE.kv_heads * SHAPE.head_dim * 2


def _parameters() -> tuple[int, int]:
    """Of all layers, and of the head, which is as large as the embedding."""
    head = SHAPE.vocab_size * SHAPE.hidden_size
    return SHAPE.num_parameters() - 2 * head, head
