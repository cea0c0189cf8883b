"""What packing costs in quality: `python -m bench.quality --prepared DIRECTORY`.

For each scheme: bits per byte of the held-out text as `byollm evaluate` counts them, their change, the mean
divergence of the packed model's next-token distribution from the whole one's (in nats, over some of that
text; it has no luck in it, which a change of bits per byte has), and the bits that a weight takes, scales and
all that is not packed included. The last line is one JSON object.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from byollm.data import TokenDataset
from byollm.modeling import Decoder, load_decoder, quantise
from byollm.modeling.calibration import quantise_layers
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedLinear
from byollm.training.hardware import Hardware
from byollm.training.validation import Validator

LENGTH, BATCH = 512, 4
COMPARED = 24  # rows over which distributions are compared
RUNS = [
    *(("rounding", Scheme("int8", group)) for group in (128, 64, 32)),
    *((way, Scheme("int4", group)) for group in (128, 64, 32) for way in ("rounding", "clipping", "GPTQ")),
    ("GPTQ", Scheme("int8")),
    ("bitsandbytes", Scheme("nf4", 64)),
    ("bitsandbytes", Scheme("nf4", 64, double=True)),
]


def main(
    prepared: Annotated[Path, typer.Option(help="What `byollm data prepare` wrote for the model.")],
    model: Annotated[Path, typer.Option(help="Model directory.")] = Path("models/byollm-tiny"),
    tokens: Annotated[int | None, typer.Option(help="Held-out tokens to predict; unset: all.")] = None,
    sequences: Annotated[int, typer.Option(help="Rows of training text to calibrate with.")] = 64,
    only: Annotated[str, typer.Option(help="Run only what contains this, such as 'int4 128'.")] = "",
) -> None:
    """Compare schemes and ways of packing on a model's held-out text."""
    hardware = Hardware(torch.device("cpu"), torch.float32)
    held_out, seen = TokenDataset.open(prepared, "val"), TokenDataset.open(prepared, "train")
    validator = Validator(held_out, held_out.bytes / held_out.tokens, LENGTH, BATCH, hardware)
    calibration, compared = _rows(seen, sequences), _rows(held_out, COMPARED)
    whole = load_decoder(model, torch.float32)
    reference, base = _distributions(whole, compared), validator.validate(whole, tokens).bits_per_byte
    table = Table("scheme", "by", "bits per byte", "change", "divergence", "bits a weight")
    table.add_row("float32", "", f"{base:.4f}", "", "", "32.00")
    results = {"float32": base}
    for way, scheme in RUNS:
        name = f"{scheme.kind} {scheme.group}{' double' if scheme.double else ''} {way}"
        if only not in name:
            continue
        decoder = _packed(load_decoder(model, torch.float32), scheme, way, calibration)
        results[name] = validator.validate(decoder, tokens).bits_per_byte
        change = f"{results[name] / base - 1:+.2%}"
        apart = f"{_divergence(reference, _distributions(decoder, compared)):.4f}"
        row = (
            name.removesuffix(f" {way}"),
            way,
            f"{results[name]:.4f}",
            change,
            apart,
            f"{_bits(decoder):.2f}",
        )
        table.add_row(*row)
        print(*row, flush=True)
    Console().print(table)
    print(json.dumps(results))


def _packed(decoder: Decoder, scheme: Scheme, way: str, calibration: Tensor) -> Decoder:
    if way == "GPTQ":
        state = decoder.state_dict()
        for name, weight in quantise_layers(decoder.config, scheme, calibration, state.__getitem__):
            bias = state.get(f"{name}.bias")
            decoder.set_submodule(name, QuantizedLinear.of(weight, bias))
    with _no_clipping(way == "rounding"):
        pack_decoder(decoder, scheme)  # what is not packed yet
    return decoder


@contextmanager
def _no_clipping(wanted: bool) -> Iterator[None]:
    before = quantise.SHARES
    quantise.SHARES = (1.0,) if wanted else before
    yield
    quantise.SHARES = before


def _rows(split: TokenDataset, count: int) -> Tensor:
    """Take rows spread evenly over a split: (rows, length)."""
    stride = max(1, split.tokens // LENGTH // count)
    return torch.stack([row for row, _ in islice(split.windows(LENGTH), 0, None, stride)][:count])


@torch.no_grad()
def _distributions(decoder: Decoder, rows: Tensor) -> Tensor:
    """Return log-probabilities of every next token: (rows, length, vocab)."""
    hidden = decoder(rows, torch.arange(LENGTH))
    return torch.stack([decoder.logits(row).log_softmax(-1).half() for row in hidden])


def _divergence(whole: Tensor, packed: Tensor) -> float:
    """Return the mean Kullback-Leibler divergence of one from the other."""
    sums = [
        float((p.float().exp() * (p.float() - q.float())).sum()) for p, q in zip(whole, packed, strict=True)
    ]
    return sum(sums) / whole.shape[0] / whole.shape[1]


def _bits(decoder: Decoder) -> float:
    stored: int = sum(tensor.nbytes for tensor in decoder.state_dict().values())
    return 8 * stored / decoder.config.num_parameters()


if __name__ == "__main__":
    typer.run(main)
