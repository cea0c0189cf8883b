import pytest
import torch

from byollm.training import TrainingError
from byollm.training.hardware import Hardware
from tests.training.support import recipe

FLAGS = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    flags: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: FLAGS | flags)
    assert Hardware.choose(recipe(device="cpu", precision="auto")).dtype == expected


def test_a_precision_that_is_asked_for_is_taken() -> None:
    assert Hardware.choose(recipe(device="cpu", precision="bfloat16")).dtype == torch.bfloat16
    assert Hardware.choose(recipe(device="cpu", precision="float32")).dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_with_the_remedy() -> None:
    with pytest.raises(TrainingError, match="torch sees no GPU here"):
        Hardware.choose(recipe(device="cuda"))


def test_peak_is_a_rate_of_products() -> None:
    hardware = Hardware.choose(recipe(device="cpu", precision="float32"))
    assert 1e8 < hardware.peak_flops() < 1e15


def test_order_of_addition_is_put_back() -> None:
    hardware = Hardware.choose(recipe(device="cpu"))
    with hardware.deterministic():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
