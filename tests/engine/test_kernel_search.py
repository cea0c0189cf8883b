import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from byollm.cli.main import app
from byollm.engine.kernel_calls import KernelCalls
from byollm.engine.kernel_search import rows_to_tune, search
from byollm.engine.kernel_table import tune_kernels
from byollm.kernels.gpu import tuning
from byollm.kernels.gpu.tuning import TuningError, configuration
from byollm.kernels.packed import Scheme
from byollm.modeling import save_decoder
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import make_decoder

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def toy(rows: int = 3) -> Tensor:
    """A kernel that cannot have a BLOCK of 64 or more, and computes something else with 1."""
    config = configuration("toy", lambda rows, width: {"BLOCK": 4, "num_stages": 2}, rows, 10)
    if config["BLOCK"] >= 64:
        raise RuntimeError("out of resource: shared memory")
    return torch.zeros(2) if config["BLOCK"] == 1 else torch.ones(2)


def cost(call: object) -> float:
    """Cheapest with the largest BLOCK and three stages."""
    with tuning.asking() as asked:
        toy()
    (config,) = asked.values()
    return 1 / config["BLOCK"] + abs(config["num_stages"] - 3)


def test_search_climbs_to_the_fastest_that_runs_and_computes_the_same() -> None:
    (found,) = search(toy, cost)
    assert found.place == "toy/4x10"
    assert found.config == {"BLOCK": 32, "num_stages": 3}
    assert (found.before, found.after) == (1.25, 1 / 32)


def test_wrong_results_are_never_chosen() -> None:
    (found,) = search(toy, lambda call: 1 / cost(call))  # as if a BLOCK of 1 were the fastest
    assert found.config["BLOCK"] == 2


def test_kernel_that_cannot_be_measured_is_an_error() -> None:
    def broken(call: object) -> float:
        raise RuntimeError("no kernel image")

    with pytest.raises(TuningError, match="toy/4x10 does not run here"):
        list(search(toy, broken))


def test_rows_are_those_that_steps_can_have() -> None:
    assert rows_to_tune(6, 200) == [1, 2, 4, 8, 256]
    assert rows_to_tune(4, 4) == [1, 2, 4]


@pytest.mark.parametrize(
    ("changes", "scheme"), [({}, Scheme("int4", 32)), ({"norm": "layer", "norm_bias": True}, None)], ids=str
)
def test_every_kernel_of_a_step_is_measured(changes: dict[str, object], scheme: Scheme | None) -> None:
    config = dataclasses.replace(make_decoder(**changes).config, max_positions=32, qk_norm=False)
    calls = KernelCalls(config, scheme, torch.float32, DEVICE, 32, adapter_slots=2)
    names = {}
    for rows in (2, 65):
        with tuning.asking() as asked:
            for call in calls.of(rows):
                assert call().isfinite().all()
        names[rows] = {place.split("/")[0] for place in asked}
    always = {"norm", "activation", "rotary_and_store", "lora"} | (
        {"packed_linear_int4"} if scheme else set()
    )
    head = {"packed_linear_int8"} if scheme else set()
    assert names == {2: always | head | {"paged_decode", "sample"}, 65: always | {"paged_prefill"}}


def test_table_of_a_model_is_found_and_used() -> None:
    settings = EngineSettings(max_running=1, max_batch_tokens=1, adapter_slots=1)
    config = dataclasses.replace(make_decoder().config, max_positions=16, vocab_size=50)
    measured = iter(range(1_000_000, 0, -1))  # whatever is tried later is a little faster, but not enough
    found = tune_kernels(config, None, torch.float32, DEVICE, settings, None, lambda _: float(next(measured)))
    assert {one.place.split("/")[0] for one in found} == {
        "norm",
        "activation",
        "rotary_and_store",
        "paged_decode",
        "sample",
        "lora",
    }
    assert all(one.after == one.before for one in found)


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_without_a_gpu_the_command_says_what_is_missing(tmp_path: Path) -> None:
    save_decoder(make_decoder(), tmp_path / "model")
    result = CliRunner().invoke(app, ["tune", str(tmp_path / "model")])
    assert isinstance(result.exception, TuningError)
    assert "torch finds none here: run it on the machine that is to serve" in str(result.exception)
