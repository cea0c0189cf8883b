from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from byollm.kernels import causal_attention
from byollm.modeling import Decoder, DecoderConfig


def test_attend_gets_rotated_heads_and_its_answer_is_used(
    variant: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor
) -> None:
    config = make_config(variant)
    decoder = Decoder(config).eval()
    seen: list[int] = []

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(layer)
        assert q.shape == (tokens.numel(), config.heads, config.head_dim)
        assert k.shape == v.shape == (tokens.numel(), config.kv_heads, config.head_dim)
        q, k, v = (x.unflatten(0, tokens.shape) for x in (q, k, v))
        return causal_attention(q, k, v, config.window(layer)).flatten(0, 1)

    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    with torch.no_grad():
        flat = decoder(tokens.flatten(), positions.flatten(), attend)  # as an engine does, without a batch
        batched = decoder(tokens, positions)
    assert seen == list(range(config.layers))
    torch.testing.assert_close(flat.unflatten(0, tokens.shape), batched, atol=1e-5, rtol=1e-5)


def test_positions_may_be_shared_by_the_rows_of_a_batch(
    family: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor
) -> None:
    decoder = Decoder(make_config(family))
    shared, own = torch.arange(tokens.shape[1]), torch.arange(tokens.shape[1]).expand_as(tokens)
    torch.testing.assert_close(decoder(tokens, shared), decoder(tokens, own))


def test_positions_matter(family: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor) -> None:
    decoder = Decoder(make_config(family))
    at = torch.arange(tokens.shape[1])
    assert not torch.allclose(decoder(tokens, at), decoder(tokens, at.flip(0)), atol=1e-3)


def test_forward_and_loss_compile_without_a_graph_break(
    family: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor
) -> None:
    decoder = Decoder(replace(make_config(family), layers=1))
    positions = torch.arange(tokens.shape[1])

    def loss() -> Tensor:
        scores = decoder.logits(decoder(tokens, positions))
        return torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    plain = torch.autograd.grad(loss(), list(decoder.parameters()))
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for ours, theirs in zip(torch.autograd.grad(compiled(), list(decoder.parameters())), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_bfloat16_autocast_trains_float32_weights(
    family: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor
) -> None:
    decoder = Decoder(make_config(family))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = decoder(tokens, torch.arange(tokens.shape[1]))
        scores = decoder.logits(hidden)
    assert scores.dtype == torch.bfloat16
    scores.float().logsumexp(-1).mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in decoder.parameters())


def test_weights_start_small_and_residual_projections_smaller(
    make_config: Callable[[str], DecoderConfig],
) -> None:
    decoder = Decoder(make_config("llama biases"))
    layer = decoder.get_submodule("layers.0")
    assert layer.get_parameter("self_attn.q_proj.weight").std().item() == pytest.approx(0.02, rel=0.1)
    for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        assert layer.get_parameter(name).std().item() == pytest.approx(0.02 / 6**0.5, rel=0.1)
    assert layer.get_parameter("self_attn.q_proj.bias").abs().max() == 0
    assert (layer.get_parameter("input_layernorm.weight") == 1).all()


def test_the_first_loss_is_that_of_a_uniform_guess(
    family: str, make_config: Callable[[str], DecoderConfig], tokens: Tensor
) -> None:
    decoder = Decoder(make_config(family))
    scores = decoder.logits(decoder(tokens, torch.arange(tokens.shape[1])))
    loss = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(torch.tensor(131.0).log().item(), abs=0.15)


def test_a_tied_head_is_the_embedding(make_config: Callable[[str], DecoderConfig]) -> None:
    tied, untied = Decoder(make_config("qwen3 tied")), Decoder(make_config("qwen3"))
    assert tied.head_weight is tied.embed_tokens.weight
    assert untied.lm_head is not None
    assert untied.head_weight is untied.lm_head.weight
