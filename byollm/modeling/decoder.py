"""One decoder-only transformer for every family, driven by its config."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from byollm.kernels.packed import Scheme
from byollm.kernels.packed_linear import packed_linear
from byollm.modeling.config import DecoderConfig
from byollm.modeling.layers import Attend, DecoderLayer, Norm
from byollm.modeling.positions import RotaryTable
from byollm.modeling.quantized import Embedding, Linear, QuantizedEmbedding, QuantizedLinear

INIT_STD = 0.02


class Decoder(nn.Module):
    """Tokens in, hidden states and logits out.

    The decoder knows nothing of caches: whoever generates passes `attend`, which keeps keys and values where
    it likes. Submodules bear the names of Hugging Face's Llama, whatever the family.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens: Embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions: nn.Embedding | None = None
        self.rotary: RotaryTable | None = None
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_positions, config.hidden_size)
        else:
            self.rotary = RotaryTable(config)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.layers))
        self.norm = Norm(config, config.hidden_size, bias=config.norm_bias)
        self.lm_head: Linear | None = None
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the weights for training: normal with std 0.02, biases 0, norms 1.

        What is added to the residual stream starts smaller, by sqrt(2 * layers), so that the variance of the
        stream does not grow with depth (GPT-2).
        """
        residual_std = INIT_STD / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.normal_(std=residual_std)
            elif name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith(".bias"):
                parameter.zero_()
            else:
                parameter.normal_(std=INIT_STD)

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend | None = None) -> Tensor:
        """Return the hidden states after the last norm, (..., hidden).

        Args:
            tokens: token ids (...), of any leading shape
            positions: the position of each token in its sequence, of the shape of `tokens` or one that
                broadcasts to it, such as (time,) for tokens (batch, time); below `config.max_positions`
            attend: attention over wherever the caller keeps keys and values; None: causal self-attention over
                the last axis of tokens (batch, time), each row a sequence of its own
        """
        x = self.embed_tokens(tokens).to(self.dtype)
        if self.embed_positions is not None:
            x = x + self.embed_positions(positions)
        rotary = None if self.rotary is None else self.rotary(positions)
        for layer in self.layers:
            x = layer(x, rotary, attend)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of every next token, (..., vocab), from hidden states (..., hidden)."""
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        if isinstance(head, QuantizedLinear | QuantizedEmbedding):
            return packed_linear(hidden, head.packed)
        return F.linear(hidden, head.weight)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (vocab, hidden), the token embedding where the two are tied; not packed."""
        return (self.embed_tokens if self.lm_head is None else self.lm_head).get_parameter("weight")

    @property
    def scheme(self) -> Scheme | None:
        """How the linear layers are packed; None: they are not."""
        first = cast(DecoderLayer, self.layers[0]).self_attn.q_proj
        return first.scheme if isinstance(first, QuantizedLinear) else None

    @property
    def dtype(self) -> torch.dtype:
        """The type of the activations, and of all weights that are not packed."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device
