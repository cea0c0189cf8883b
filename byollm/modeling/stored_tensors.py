"""Which tensors a Hugging Face checkpoint of each family stores, and which of our parameters they hold.

Five families store what `Decoder` holds under nearly the same names. GPT-2 stores its matrices transposed,
with query, key and value in one; StableLM stores the norm of each head apart.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from byollm.modeling.config import DecoderConfig

HEAD = "lm_head.weight"

# What older checkpoints store beside the weights: masks and rotary tables, which can be computed.
DERIVED = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|h\.\d+\.attn\.(bias|masked_bias))")

GPT2_NAMES = {
    "embed_tokens": "wte",
    "embed_positions": "wpe",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
    "norm": "ln_f",
}
QKV = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint: our parameters `parts` joined along the first axis, perhaps transposed.

    Where `row` is set, it holds that row of the single parameter in `parts`.
    """

    name: str
    parts: tuple[str, ...]
    layout: Literal["as is", "transposed", "row"] = "as is"
    row: int = 0

    def pack(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return what the checkpoint stores, given our parameters by name."""
        if self.layout == "row":
            return parameters[self.parts[0]][self.row]
        joined = torch.cat([parameters[part] for part in self.parts]) if len(self.parts) > 1 else None
        tensor = parameters[self.parts[0]] if joined is None else joined
        return tensor.t() if self.layout == "transposed" else tensor

    def unpack(self, tensor: Tensor, parameters: Mapping[str, Tensor]) -> None:
        """Copy a stored tensor into our parameters, in place."""
        if self.layout == "row":
            parameters[self.parts[0]][self.row].copy_(tensor)
            return
        tensor = tensor.t() if self.layout == "transposed" else tensor
        pieces = torch.split(tensor, [parameters[part].shape[0] for part in self.parts])
        for part, piece in zip(self.parts, pieces, strict=True):
            parameters[part].copy_(piece)


def prefix(config: DecoderConfig) -> str:
    """Return what the names of all tensors but the head begin with."""
    return "transformer." if config.family == "gpt2" else "model."


def stored_tensors(config: DecoderConfig, parameters: Mapping[str, Tensor]) -> list[StoredTensor]:
    """Return the tensors that a checkpoint of this decoder stores, in the order of our `parameters`."""
    stored = []
    for name in parameters:
        if name == HEAD:
            stored.append(StoredTensor(HEAD, (HEAD,)))
        elif config.family == "gpt2":
            stored += _gpt2(name)
        elif config.family == "stablelm" and name.endswith(("q_norm.weight", "k_norm.weight")):
            stem = name.removesuffix("_norm.weight") + "_layernorm.norms"
            stored += [
                StoredTensor(f"model.{stem}.{head}.weight", (name,), "row", head)
                for head in range(len(parameters[name]))
            ]
        else:
            stored.append(StoredTensor(f"model.{name}", (name,)))
    return stored


def _gpt2(name: str) -> list[StoredTensor]:
    layer, inner = "", name
    if matched := re.fullmatch(r"layers\.(\d+)\.(.*)", name):
        layer, inner = f"h.{matched[1]}.", matched[2]
    module, kind = inner.rsplit(".", 1)
    projection = module.rpartition(".")[2]
    # Projections are Conv1D modules there, whose weight is (inputs, outputs).
    layout: Literal["as is", "transposed"] = (
        "transposed" if projection.endswith("_proj") and kind == "weight" else "as is"
    )
    if projection not in QKV:
        return [StoredTensor(f"transformer.{layer}{GPT2_NAMES[module]}.{kind}", (name,), layout)]
    if projection != QKV[0]:
        return []  # stored together with the query
    parts = tuple(name.replace(QKV[0], other) for other in QKV)
    return [StoredTensor(f"transformer.{layer}attn.c_attn.{kind}", parts, layout)]
