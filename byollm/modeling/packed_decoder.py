"""Decoders whose weights are packed: made from whole ones, or read from files that hold packed ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from byollm.kernels.packed import PackedWeight, Scheme
from byollm.modeling.decoder import Decoder
from byollm.modeling.packed import scheme_of
from byollm.modeling.quantise import quantise
from byollm.modeling.quantized import QuantizedEmbedding, QuantizedLinear
from byollm.modeling.stored_check import check_tensors
from byollm.modeling.weight_files import WeightFiles, torch_dtype

STORED_TYPES = {torch.int8: "I8", torch.uint8: "U8", torch.bfloat16: "BF16", torch.float32: "F32"}


def pack_decoder(decoder: Decoder, scheme: Scheme) -> None:
    """Pack the weights of a decoder in place, one after the other.

    Raises:
        QuantisationError: a weight is not finite.
    """
    _replace(decoder, scheme, quantise)


def read_packed(
    place: object,
    decoder: Decoder,
    scheme: Scheme,
    weights: WeightFiles,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> None:
    """Fill a decoder on the meta device from files with packed weights; on a CPU they stay in the files.

    Args:
        place: what to call the files in an error
        decoder: gets packed modules for whole ones, and tensors
        scheme: how the weights are packed
        weights: the files
        dtype: of what is not packed; None: as the last norm is stored
        device: where the tensors go

    Raises:
        CheckpointError: the tensors are not those of the decoder.
    """
    _replace(decoder, scheme, _empty)
    expected = decoder.state_dict()  # shapes and types only
    packed = {
        f"{name}.{part}": STORED_TYPES[tensor.dtype]
        for name, module in decoder.named_modules()
        if isinstance(module, QuantizedLinear | QuantizedEmbedding)
        for part, tensor in (("codes", module.codes), ("scales", module.scales))
    }
    names = {name: name for name in weights.names}
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    check_tensors(place, decoder.config, weights, shapes, names, packed)
    dtype = dtype or torch_dtype(weights.dtype("norm.weight"))
    tensors = {name: weights.tensor(name).to(device, None if name in packed else dtype) for name in expected}
    decoder.load_state_dict(tensors, assign=True)
    if decoder.rotary is not None:
        decoder.rotary.fill(device, dtype)


def _replace(decoder: Decoder, scheme: Scheme, pack: Callable[[Tensor, Scheme], PackedWeight]) -> None:
    for name, module in [*decoder.named_modules()]:
        if isinstance(module, nn.Linear | nn.Embedding) and (taken := scheme_of(f"{name}.weight", scheme)):
            weight = pack(module.weight.detach(), taken)
            made = (
                QuantizedLinear.of(weight, module.bias)
                if isinstance(module, nn.Linear)
                else QuantizedEmbedding.of(weight)
            )
            decoder.set_submodule(name, made)


def _empty(weight: Tensor, scheme: Scheme) -> PackedWeight:
    shape = (weight.shape[0], weight.shape[1])
    codes = weight.new_empty(scheme.code_shape(shape), dtype=scheme.code_dtype)
    scales = weight.new_empty(scheme.scale_shape(shape), dtype=scheme.scale_dtype)
    return PackedWeight(codes, scales, scheme, shape)
