"""What is in a model directory, float or packed, going by its headers: no weight is read."""

import re
from dataclasses import dataclass

from byollm.modeling.config import DecoderConfig
from byollm.modeling.packed import read_scheme
from byollm.modeling.packing.config_file import read_config
from byollm.modeling.packing.source import Source
from byollm.modeling.packing.weights import Parameters, SourceWeights
from byollm.settings.memory import cache_bytes_per_token

PARTS = {
    "embedding": r"embed_\w+\..*",
    "attention": r"layers\.\d+\.self_attn\.\w+_proj\.(weight|codes|scales)",
    "feed-forward": r"layers\.\d+\.mlp\.\w+\.(weight|codes|scales)",
    "head": r"lm_head\..*",
    "norms and biases": r".*",
}


@dataclass(frozen=True)
class Contents:
    """A model in figures."""

    name: str
    config: DecoderConfig
    scheme: str
    """How its matrices are packed, or the type that they are stored in."""
    parts: dict[str, int]
    """The bytes of each part of it."""

    @property
    def nbytes(self) -> int:
        """The bytes of all its weights."""
        return sum(self.parts.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits that a parameter takes on average."""
        return 8 * self.nbytes / self.config.num_parameters()

    @property
    def token_bytes(self) -> int:
        """What one token takes in the cache."""
        return cache_bytes_per_token(self.config.layers, self.config.kv_heads, self.config.head_dim)


def read_contents(source: Source) -> Contents:
    """Look at a model.

    Raises:
        CheckpointError: it is damaged, incomplete or not supported.
    """
    said, config = read_config(source)
    scheme = read_scheme(said)
    if scheme is None:
        parameters = Parameters(source, config)
        sizes = {name: parameters.nbytes_of(name) for name in parameters}
        kinds = {str(parameters.dtype(name)).removeprefix("torch.") for name in parameters}
        how = " and ".join(sorted(kinds))
    else:
        weights = SourceWeights(source)
        sizes = {name: weights.nbytes(name) for name in weights.names}
        calibrated = ", calibrated" if said["quantization_config"].get("calibrated") else ""
        how = f"{scheme.kind}, groups of {scheme.group}{calibrated}"
    parts = dict.fromkeys(PARTS, 0)
    for name, size in sizes.items():
        parts[next(part for part, names in PARTS.items() if re.fullmatch(names, name))] += size
    return Contents(source.name, config, how, {part: size for part, size in parts.items() if size})
