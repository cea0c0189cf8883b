import pytest
import torch

from byollm.modeling import Decoder, DecoderConfig
from byollm.training.muon import Muon
from byollm.training.optimizers import Optimizers, rate
from tests.training.support import recipe


def decoder(tied: bool = True) -> Decoder:
    torch.manual_seed(0)
    shape = {**recipe().model.model_dump(), "tie_embeddings": tied}
    return Decoder(DecoderConfig(vocab_size=50, max_positions=16, **shape))


def names_of(model: Decoder, optimizer: torch.optim.Optimizer) -> set[str]:
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in owned}


def test_muon_trains_the_matrices_inside_the_layers_and_adamw_all_else() -> None:
    model = decoder(tied=False)
    optimizers = Optimizers(model, recipe())
    muon, adamw = (optimizer for optimizer, _ in optimizers._peaks)
    assert isinstance(muon, Muon)
    inside = {name for name, p in model.named_parameters() if name.startswith("layers.") and p.ndim == 2}
    assert names_of(model, muon) == inside
    assert names_of(model, adamw) == {name for name, _ in model.named_parameters()} - inside
    assert {"embed_tokens.weight", "lm_head.weight", "norm.weight"} <= names_of(model, adamw)


def test_state_that_was_loaded_takes_the_same_step() -> None:
    first, second = decoder(), decoder()
    before, after = Optimizers(first, recipe()), Optimizers(second, recipe())
    gradients = [torch.randn_like(p) for p in first.parameters()]

    def step(model: Decoder, optimizers: Optimizers) -> None:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizers.clip()
        optimizers.step(0.5)

    step(first, before)
    second.load_state_dict(first.state_dict())
    after.load({name: tensor.clone() for name, tensor in before.state().items()})
    step(first, before)
    step(second, after)
    for mine, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_long_gradient_is_shortened_and_its_norm_told() -> None:
    model = decoder()
    optimizers = Optimizers(model, recipe(gradient_clip=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    norm = optimizers.clip()
    assert norm == pytest.approx(sum(p.numel() for p in model.parameters()) ** 0.5, rel=1e-4)
    clipped = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert clipped.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_rates_rise_stay_and_fall() -> None:
    rates = [rate(step, 100, warmup_fraction=0.1, decay_fraction=0.4) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:60] == [1.0] * 51
    assert rates[80] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(1 / 40)
    assert rates[:10] == sorted(rates[:10])
    assert rates[60:] == sorted(rates[60:], reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_runs_train_at_every_step(total: int) -> None:
    assert all(rate(step, total, 0.02, 0.5) > 0 for step in range(total))
    assert rate(0, total, 0.0, 0.0) == 1.0
