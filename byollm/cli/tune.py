"""`byollm tune`: how the kernels run fastest on this machine's GPU."""

from pathlib import Path
from typing import Annotated

import typer


def tune(
    model: Annotated[Path, typer.Argument(help="The model directory, packed or not.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to store the table, for engine.kernel_table; else the user's own is made."),
    ] = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Measure steps of so many rows; else of all that the settings allow."),
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Measure the GPU kernels at the shapes of a model and store what is fastest; the engine reads it."""
    import torch
    from rich.console import Console

    from byollm.engine.device import choose_dtype
    from byollm.engine.kernel_table import tune_kernels
    from byollm.kernels.gpu.tuning import TuningError, read_table, table_path, write_table
    from byollm.modeling.checkpoint import load_config, load_scheme
    from byollm.settings import load_settings

    settings = load_settings(env).engine
    config, scheme = load_config(model), load_scheme(model)
    if not torch.cuda.is_available():
        raise TuningError(
            "byollm tune measures kernels on a GPU, and torch finds none here: run it on the machine that is "
            "to serve, with a CUDA build of torch and NVIDIA's driver"
        )
    device = torch.device("cuda")
    gpu = torch.cuda.get_device_name(device)
    path = out or table_path(gpu)
    before = read_table(path, gpu) if path.exists() else {}
    found = tune_kernels(config, scheme, choose_dtype(settings, device), device, settings, rows)
    write_table(path, gpu, before | {one.place: one.config for one in found})
    console = Console(soft_wrap=True, highlight=False)
    for one in sorted(found, key=lambda one: one.after / one.before):
        if one.after < one.before:
            console.print(f"{one.place}: {one.before * 1e6:.1f} to {one.after * 1e6:.1f} µs", markup=False)
    console.print(f"{len(found)} kernels and shapes measured on {gpu}: {path}", markup=False)
