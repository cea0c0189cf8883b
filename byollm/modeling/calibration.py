"""Packs the layers of a model one after the other, each in view of what reaches it from those before."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from byollm.kernels import dequantise
from byollm.kernels.packed import PackedWeight, Scheme
from byollm.modeling.config import DecoderConfig
from byollm.modeling.layers import DecoderLayer
from byollm.modeling.positions import RotaryTable
from byollm.modeling.quantise import quantise

SHARED_INPUTS = {
    "self_attn.k_proj": "self_attn.q_proj",
    "self_attn.v_proj": "self_attn.q_proj",
    "mlp.gate_proj": "mlp.up_proj",
}
"""Linear layers that read what another reads: one Hessian serves both."""


@torch.no_grad()
def quantise_layers(
    config: DecoderConfig,
    scheme: Scheme,
    tokens: Tensor,
    read: Callable[[str], Tensor],
    written: Callable[[str], PackedWeight | None] = lambda _: None,
) -> Iterator[tuple[str, PackedWeight]]:
    """Pack every linear layer inside the layers with GPTQ; yield each with its name, in their order.

    One layer is in memory at a time, in float32, and the hidden states of the calibration tokens. Embedding,
    head, norms and biases are not packed here.

    Args:
        config: the shape of the model
        scheme: int8 or int4
        tokens: calibration texts (sequences, time), on the device where to compute
        read: gives a parameter of the model by the name that `Decoder.state_dict()` has for it, such as
            `layers.0.self_attn.q_proj.weight`: embeddings first, then layer after layer, each name once
        written: gives a linear layer, by its name, that an earlier run has packed already: it is taken as it
            is and not yielded, so a run that was killed goes on to the same result

    Yields:
        The name of a linear layer, such as `layers.0.self_attn.q_proj`, and its packed weight.

    Raises:
        QuantisationError: a weight or the hidden states are not finite.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    states = _embedded(config, tokens, positions, read)  # (sequences, time, hidden)
    rotary = None
    if config.positions == "rotary":
        rotary = RotaryTable(config).to(tokens.device)(positions)
    for number in range(config.layers):
        layer, stem = _layer(config, number, tokens.device, read), f"layers.{number}."
        linears = {name: m for name, m in layer.named_modules() if isinstance(m, nn.Linear)}
        packed = {name: written(stem + name) for name in linears}
        hessians = {} if all(packed.values()) else _hessians(layer, linears, states, rotary)
        for name, linear in linears.items():
            weight = packed[name]
            if weight is None:
                weight = quantise(linear.weight, scheme, hessians[SHARED_INPUTS.get(name, name)])
                yield stem + name, weight
            linear.weight.data = dequantise(weight, torch.float32)
        for sequence in states[:, None]:
            sequence.copy_(layer(sequence, rotary, None))


def _embedded(
    config: DecoderConfig, tokens: Tensor, positions: Tensor, read: Callable[[str], Tensor]
) -> Tensor:
    states = read("embed_tokens.weight").to(tokens.device)[tokens].float()
    if config.positions == "learned":
        states = states + read("embed_positions.weight").to(tokens.device)[positions].float()
    return states


def _layer(
    config: DecoderConfig, number: int, device: torch.device, read: Callable[[str], Tensor]
) -> DecoderLayer:
    with torch.device("meta"):
        layer = DecoderLayer(config, number)
    parameters = {
        name: read(f"layers.{number}.{name}").to(device, torch.float32) for name in layer.state_dict()
    }
    layer.load_state_dict(parameters, assign=True)
    return layer


def _hessians(
    layer: DecoderLayer,
    linears: dict[str, nn.Linear],
    states: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
) -> dict[str, Tensor]:
    """Sum up x x^T over the inputs x of each linear layer that has inputs of its own."""
    hessians: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor]) -> None:
            x = inputs[0].flatten(0, -2)
            hessians[name].addmm_(x.T, x)

        return add

    hooks = []
    for name, linear in linears.items():
        if name not in SHARED_INPUTS:
            hessians[name] = states.new_zeros(linear.in_features, linear.in_features)
            hooks.append(linear.register_forward_pre_hook(watch(name)))
    for sequence in states[:, None]:
        layer(sequence, rotary, None)
    for hook in hooks:
        hook.remove()
    return hessians
