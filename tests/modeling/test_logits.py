"""The one decoder computes what transformers' own model of each family computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from byollm.modeling import Decoder, DecoderConfig, load_decoder, save_decoder


def logits(decoder: Decoder, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return decoder.logits(decoder(tokens, torch.arange(tokens.shape[1])))


def test_logits_equal_those_of_transformers(
    variant: str, make_reference: Callable[[str], Any], tokens: Tensor, tmp_path: Path
) -> None:
    reference = make_reference(variant)
    reference.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = reference(tokens).logits
    assert expected.std() > 0.3, "the reference must say something"
    torch.testing.assert_close(logits(load_decoder(tmp_path), tokens), expected, atol=1e-5, rtol=1e-5)


def test_what_we_save_opens_in_transformers(
    variant: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    decoder = Decoder(make_config(variant))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    save_decoder(decoder, tmp_path / "model")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values()), report
    assert model.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(logits(decoder, tokens), model(tokens).logits, atol=1e-5, rtol=1e-5)


def test_bfloat16_logits_stay_near_those_of_transformers(
    family: str, make_reference: Callable[[str], Any], tokens: Tensor, tmp_path: Path
) -> None:
    reference = make_reference(family).bfloat16()
    reference.save_pretrained(tmp_path)
    decoder = load_decoder(tmp_path)
    assert {parameter.dtype for parameter in decoder.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        expected = reference(tokens).logits
    difference = (logits(decoder, tokens) - expected).float().abs()
    assert difference.mean() < 0.02 * expected.float().std()
