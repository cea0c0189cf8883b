"""Turns the parameters of a float model into what is stored of them."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from byollm.kernels.packed import PackedWeight, Scheme
from byollm.modeling.calibration import quantise_layers
from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import CheckpointError
from byollm.modeling.packed import packed_names, scheme_of
from byollm.modeling.packing.plan import Shard
from byollm.modeling.packing.safetensors_file import read_header, read_tensor
from byollm.modeling.packing.source import DirectorySource
from byollm.modeling.packing.weights import Parameters
from byollm.modeling.packing.workspace import Workspace
from byollm.modeling.quantise import quantise
from byollm.modeling.tokenizer import Tokenizer

CHUNK_WEIGHTS = 2**22  # quantised at a time: bounds the memory of intermediate results
CALIBRATION_LENGTH, CALIBRATION_SEQUENCES = 512, 128


class Packer:
    """Turns parameters of the float model into what is stored, in the order of the plan."""

    def __init__(
        self,
        parameters: Parameters,
        shape: DecoderConfig,
        scheme: Scheme,
        tokens: Tensor | None,
        space: Workspace,
        shards: list[Shard],
    ) -> None:
        self._parameters, self._scheme = parameters, scheme
        self._calibrated: Iterator[tuple[str, PackedWeight]] | None = None
        if tokens is not None:
            written = _Written(space, shards, parameters, scheme)
            self._calibrated = quantise_layers(shape, scheme, tokens, parameters.read, written)

    def pack(self, name: str) -> dict[str, Tensor]:
        """Return the tensors that a parameter becomes, by their names."""
        own = scheme_of(name, self._scheme)
        if own is None:
            return {name: self._parameters.read(name)}
        if self._calibrated is not None and name.startswith("layers."):
            linear, packed = next(self._calibrated)
            assert f"{linear}.weight" == name, f"{linear} came in the place of {name}"
        else:
            packed = pack_rows(self._parameters.read(name), own)
        codes, scales = packed_names(name)
        return {codes: packed.codes, scales: packed.scales}


class _Written:
    """The linear layers in shards that an earlier run has finished."""

    def __init__(self, space: Workspace, shards: list[Shard], parameters: Parameters, scheme: Scheme) -> None:
        self._place, self._parameters, self._scheme = DirectorySource(space.directory), parameters, scheme
        self._files = {name: s.file for s in shards if space.finished(s) for name in s.parameters}

    def __call__(self, linear: str) -> PackedWeight | None:
        name = f"{linear}.weight"
        if (file := self._files.get(name)) is None:
            return None
        entries = read_header(self._place, file)
        codes, scales = (read_tensor(self._place, file, entries[each]) for each in packed_names(name))
        rows, columns = self._parameters.shape(name)
        return PackedWeight(codes, scales, self._scheme, (rows, columns))


def pack_rows(weight: Tensor, scheme: Scheme) -> PackedWeight:
    """Quantise a matrix (out, in) some rows at a time, which gives what all at once would."""
    if scheme.double:  # there scales are rounded together
        return quantise(weight, scheme)
    rows, columns = weight.shape
    at_a_time = max(64, CHUNK_WEIGHTS // columns // 64 * 64)  # by 64: no group of nf4, which runs on, is cut
    pieces = [quantise(part, scheme) for part in torch.split(weight, at_a_time)]
    codes, scales = torch.cat([p.codes for p in pieces]), torch.cat([p.scales for p in pieces])
    return PackedWeight(codes, scales, scheme, (rows, columns))


def calibration_tokens(text: str, directory: Path, shape: DecoderConfig) -> Tensor:
    """Return token ids (sequences, time) from a text, spread evenly over it.

    Args:
        text: like what the model will read.
        directory: holds the tokenizer.
        shape: of the model.

    Raises:
        CheckpointError: the text is too short.
    """
    ids = torch.tensor(Tokenizer.load(directory).encode(text))
    length = min(CALIBRATION_LENGTH, shape.max_positions)
    if len(ids) < length:
        raise CheckpointError(
            f"the calibration text has {len(ids):,} tokens, and a sequence takes {length}; name a longer "
            f"text, best of {CALIBRATION_SEQUENCES * length:,} tokens or more"
        )
    sequences = ids[: len(ids) // length * length].view(-1, length)
    chosen = torch.linspace(0, len(sequences) - 1, min(len(sequences), CALIBRATION_SEQUENCES)).long()
    return sequences[chosen]
