"""The shape of a decoder, the same words for every family, and what such a decoder costs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from byollm.modeling import hugging_face
from byollm.modeling.errors import ModelConfigError
from byollm.modeling.rope_scaling import RopeScaling

Family = Literal["qwen3", "qwen2", "llama", "mistral", "stablelm", "gpt2"]
SIZES = (
    "vocab_size",
    "hidden_size",
    "layers",
    "heads",
    "kv_heads",
    "head_dim",
    "intermediate_size",
    "max_positions",
)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder-only transformer. The defaults are those of Qwen3, the family that we train.

    Raises:
        ModelConfigError: the sizes do not fit together.
    """

    family: Family = "qwen3"
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    """Heads of keys and values; each is shared by heads / kv_heads query heads."""
    head_dim: int
    intermediate_size: int
    max_positions: int
    """The longest sequence; the length of the position tables."""
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    norm_bias: bool = False
    qk_norm: bool = True
    """Normalise queries and keys: `rms` shares one weight among the heads, `layer` has one for each head."""
    positions: Literal["rotary", "learned"] = "rotary"
    rope_theta: float = 10_000.0
    rotary_dim: int = 0
    """Channels of a head that are rotated; 0 becomes the whole head where positions are rotary."""
    rope_scaling: RopeScaling | None = None
    activation: Literal["silu", "gelu_tanh"] = "silu"
    gated_mlp: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    """A position sees this many positions, itself included, in the layers of `sliding_layers`."""
    sliding_layers: tuple[int, ...] = ()
    parallel_residual: bool = False
    """Attention and MLP read the same normalised input, and both are added to the stream."""
    tie_embeddings: bool = False
    """The output head is the token embedding."""

    def __post_init__(self) -> None:
        if self.positions == "rotary" and self.rotary_dim == 0:
            object.__setattr__(self, "rotary_dim", self.head_dim)
        faults = [
            f"{name} is {value}, but must be at least 1"
            for name in SIZES
            if (value := getattr(self, name)) < 1
        ]
        if not faults and self.heads % self.kv_heads:
            faults.append(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.rotary_dim % 2 or not 0 <= self.rotary_dim <= self.head_dim:
            faults.append(f"rotary_dim is {self.rotary_dim}, but must be even and in 0..{self.head_dim}")
        if (self.positions == "learned") != (self.rotary_dim == 0):
            faults.append("rotary_dim must be 0 where positions are learned")
        if self.norm_eps <= 0 or self.rope_theta <= 0:
            faults.append("norm_eps and rope_theta must be above 0")
        if (self.sliding_window is None) != (not self.sliding_layers):
            faults.append("sliding_window and sliding_layers must be given together")
        if self.sliding_window is not None and self.sliding_window < 1:
            faults.append(f"sliding_window is {self.sliding_window}, but must be at least 1")
        if any(not 0 <= layer < self.layers for layer in self.sliding_layers):
            faults.append(f"sliding_layers {self.sliding_layers} must be in 0..{self.layers - 1}")
        if self.gated_mlp != (self.activation == "silu"):
            faults.append("a gated MLP uses silu, a plain one gelu_tanh")
        if faults:
            raise ModelConfigError(f"a {self.family} decoder cannot have this shape: {'; '.join(faults)}")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """Read the contents of a Hugging Face `config.json`.

        Raises:
            ModelConfigError: the model type or a feature is not supported, or a key is missing.
        """
        return cls(**hugging_face.read_config(config))

    def to_hf(self) -> dict[str, Any]:
        """Return the contents of a Hugging Face `config.json`.

        Raises:
            ModelConfigError: the family has no words for this shape, for example biases in Mistral.
        """
        config = hugging_face.write_config(self)
        read = type(self).from_hf(config)
        differing = [f.name for f in fields(self) if getattr(read, f.name) != getattr(self, f.name)]
        if differing:
            said = ", ".join(f"{name}={getattr(self, name)!r}" for name in differing)
            raise ModelConfigError(f"a Hugging Face {self.family} checkpoint cannot express {said}")
        return config

    def window(self, layer: int) -> int | None:
        """Return how many positions a position of `layer` sees, itself included; None: all before it."""
        return self.sliding_window if layer in self.sliding_layers else None

    def num_parameters(self) -> int:
        """Count the parameters exactly; a tied head counts once."""
        norm = self.hidden_size * (2 if self.norm_bias else 1)
        biases = (
            (self.qkv_bias * (self.heads + 2 * self.kv_heads) * self.head_dim)
            + self.output_bias * self.hidden_size
            + self.mlp_bias * ((2 if self.gated_mlp else 1) * self.intermediate_size + self.hidden_size)
        )
        normed_heads = 2 if self.norm == "rms" else self.heads + self.kv_heads
        layer = (
            self._layer_weights()
            + biases
            + norm * (1 if self.parallel_residual else 2)
            + self.qk_norm * normed_heads * self.head_dim
        )
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        if self.positions == "learned":
            embeddings += self.max_positions * self.hidden_size
        return embeddings + self.layers * layer + norm

    def flops_per_token(self, context: int) -> int:
        """Count the floating point operations of the matrix products that one token costs, forward.

        The token attends to `context` positions (less where a sliding window is narrower) and its logits are
        computed. Training costs three times that; for it, `context` is the length of the sequence, the usual
        way of counting model FLOPs, which does not halve attention for being causal (PaLM, appendix B).
        """
        products = self.layers * self._layer_weights() + self.vocab_size * self.hidden_size
        attended = sum(min(context, self.window(layer) or context) for layer in range(self.layers))
        return 2 * products + 4 * attended * self.heads * self.head_dim

    def _layer_weights(self) -> int:
        attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + self.hidden_size * self.intermediate_size * (3 if self.gated_mlp else 2)

    def __str__(self) -> str:
        return json.dumps(asdict(self))
