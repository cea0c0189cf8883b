"""Packing layer by layer, in view of what reaches each."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from byollm.modeling import Decoder, DecoderConfig
from byollm.modeling.calibration import quantise_layers
from byollm.modeling.errors import QuantisationError
from byollm.modeling.packed import PackedWeight, Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedLinear

SCHEME = Scheme("int4", 32)


@pytest.fixture
def decoder(family: str, make_config: Callable[[str], DecoderConfig]) -> Decoder:
    torch.manual_seed(1)
    decoder = Decoder(make_config(family)).eval()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.15)
    return decoder


@pytest.fixture
def texts() -> Tensor:
    """Calibration texts: from a few tokens, so that channels differ in how much they carry."""
    return torch.randint(0, 20, (24, 32), generator=torch.Generator().manual_seed(0))


def linears(decoder: Decoder) -> list[str]:
    return [name for name, module in decoder.layers.named_modules() if isinstance(module, nn.Linear)]


def packed(decoder: Decoder, texts: Tensor) -> dict[str, PackedWeight]:
    return dict(quantise_layers(decoder.config, SCHEME, texts, decoder.state_dict().__getitem__))


@torch.no_grad()
def divergence(decoder: Decoder, packed: Decoder) -> float:
    tokens = torch.randint(0, 20, (8, 32), generator=torch.Generator().manual_seed(9))
    whole, found = (d.logits(d(tokens, torch.arange(32))).log_softmax(-1) for d in (decoder, packed))
    return float((whole.exp() * (whole - found)).sum(-1).mean())


def test_every_linear_layer_comes_once_in_the_order_of_the_model(decoder: Decoder, texts: Tensor) -> None:
    assert list(packed(decoder, texts)) == [f"layers.{name}" for name in linears(decoder)]


def test_a_calibrated_model_is_nearer_to_the_whole_one(decoder: Decoder, texts: Tensor) -> None:
    rounded, calibrated = copy.deepcopy(decoder), copy.deepcopy(decoder)
    for name, weight in packed(decoder, texts).items():
        bias = decoder.state_dict().get(f"{name}.bias")
        calibrated.set_submodule(name, QuantizedLinear.of(weight, bias))
    pack_decoder(rounded, SCHEME)
    pack_decoder(calibrated, SCHEME)
    assert divergence(decoder, calibrated) < 0.8 * divergence(decoder, rounded)


def test_a_run_that_was_interrupted_goes_on_to_the_same_result(decoder: Decoder, texts: Tensor) -> None:
    state = decoder.state_dict()
    whole = packed(decoder, texts)
    done = dict(list(whole.items())[: len(whole) // 2])  # in the midst of a layer
    rest = dict(quantise_layers(decoder.config, SCHEME, texts, state.__getitem__, done.get))
    assert list(done) + list(rest) == list(whole)
    for name, weight in rest.items():
        assert torch.equal(weight.codes, whole[name].codes), name
        assert torch.equal(weight.scales, whole[name].scales), name


def test_a_layer_is_read_when_its_turn_comes(decoder: Decoder, texts: Tensor) -> None:
    asked: list[str] = []

    def read(name: str) -> Tensor:
        asked.append(name)
        return decoder.state_dict()[name]

    for name, _ in quantise_layers(decoder.config, SCHEME, texts, read):
        layers = {asked_name.split(".")[1] for asked_name in asked if asked_name.startswith("layers.")}
        assert layers == {str(number) for number in range(int(name.split(".")[1]) + 1)}
    assert len(asked) == len(set(asked))


def test_weights_of_any_float_type_are_taken(decoder: Decoder, texts: Tensor) -> None:
    narrow = decoder.bfloat16().state_dict()
    wide = {name: tensor.float() for name, tensor in narrow.items()}
    for (_, one), (_, other) in zip(
        quantise_layers(decoder.config, SCHEME, texts, narrow.__getitem__),
        quantise_layers(decoder.config, SCHEME, texts, wide.__getitem__),
        strict=True,
    ):
        assert torch.equal(one.codes, other.codes)


def test_hidden_states_that_are_not_finite_are_told(decoder: Decoder, texts: Tensor) -> None:
    decoder.get_parameter("layers.1.input_layernorm.weight").data[0] = torch.inf
    with pytest.raises(QuantisationError, match="hidden states of the calibration text are not finite"):
        packed(decoder, texts)
