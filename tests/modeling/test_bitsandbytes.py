"""A model in NF4 is the model that QLoRA trains on: transformers with bitsandbytes, and peft on top."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from byollm.modeling import Decoder, load_decoder
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedLinear
from tests.modeling.packed_directory import save_packed

pytestmark = pytest.mark.usefixtures("double_quantisation_as_on_gpus")


def in_bitsandbytes(directory: Path, dtype: torch.dtype, *, double: bool) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=dtype,
        attn_implementation="eager",
        device_map="cpu",
        quantization_config=transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=double,
            bnb_4bit_compute_dtype=dtype,
        ),
    )


def in_ours(directory: Path, dtype: torch.dtype, place: Path, *, double: bool) -> Decoder:
    decoder = load_decoder(directory, dtype)
    pack_decoder(decoder, Scheme("nf4", 64, double))
    return load_decoder(save_packed(decoder, place))


@torch.no_grad()
def logits(decoder: Decoder, tokens: Tensor) -> Tensor:
    return decoder.logits(decoder(tokens, torch.arange(tokens.shape[1])))


@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
def test_logits_are_those_of_transformers_with_bitsandbytes(
    family: str, double: bool, make_reference: Callable[[str], Any], tokens: Tensor, tmp_path: Path
) -> None:
    make_reference(family).save_pretrained(tmp_path / "whole")
    reference = in_bitsandbytes(tmp_path / "whole", torch.float32, double=double)
    found = logits(in_ours(tmp_path / "whole", torch.float32, tmp_path / "packed", double=double), tokens)
    with torch.no_grad():
        expected = reference(tokens).logits
    # GPT-2's queries, keys and values are one matrix there, whose scales are rounded together.
    bound = 3e-2 if double and family == "gpt2" else 1e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=bound * float(expected.abs().max()))
    assert (found - logits(load_decoder(tmp_path / "whole"), tokens)).norm() > 0.03 * found.norm()


@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
def test_with_an_adapter_of_peft_on_top_they_are_those_of_its_training(
    double: bool, make_reference: Callable[[str], Any], tokens: Tensor, tmp_path: Path
) -> None:
    make_reference("llama").save_pretrained(tmp_path / "whole")
    base = in_bitsandbytes(tmp_path / "whole", torch.float32, double=double)
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", lora_dropout=0.0)
    trained = peft.get_peft_model(base, config, autocast_adapter_dtype=False)
    torch.manual_seed(5)
    for name, parameter in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():
        expected = trained(tokens).logits

    decoder = in_ours(tmp_path / "whole", torch.float32, tmp_path / "packed", double=double)
    pairs = {
        name.removeprefix("base_model.model.model."): module
        for name, module in trained.named_modules()
        if hasattr(module, "lora_A")
    }
    for name, module in decoder.named_modules():
        if isinstance(module, QuantizedLinear):
            lora = pairs.pop(name)
            a, b = lora.lora_A["default"].weight, lora.lora_B["default"].weight
            module.register_forward_hook(
                lambda _, inputs, out, a=a, b=b: out + inputs[0] @ a.T @ b.T * (16 / 4)
            )
    assert not pairs
    found = logits(decoder, tokens)
    bare = logits(load_decoder(tmp_path / "packed"), tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert (bare - expected).norm() > 0.1 * expected.norm()
