"""The float weights of a source: every file's header is known, and tensors are read one at a time."""

import json
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import CheckpointError
from byollm.modeling.packing.safetensors_file import TensorEntry, read_header, read_tensor
from byollm.modeling.packing.source import Source, read_bytes
from byollm.modeling.stored_check import check_tensors, check_tied_head, names_in_files
from byollm.modeling.stored_tensors import StoredTensor, stored_tensors
from byollm.modeling.undrawn import undrawn
from byollm.modeling.weight_files import INDEX, SINGLE, torch_dtype

CHUNK = 2**22  # numbers looked at together


class SourceWeights:
    """Every tensor of a source, by its name.

    Raises:
        CheckpointError: there are no weights, a shard is absent or damaged, or the index places tensors
            elsewhere than they are; the shard is named.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        placed = _index(source)
        self.files = sorted(set(placed.values())) if placed else [SINGLE]
        self._where: dict[str, tuple[str, TensorEntry]] = {}
        for file in self.files:
            if file not in source.files():
                raise CheckpointError(f"{source.name}: the shard {file} is absent; copy the whole model")
            for name, entry in read_header(source, file).items():
                if name in self._where:
                    both = f"{self._where[name][0]} and {file}"
                    raise CheckpointError(f"{source.name}: tensor {name} is in {both}; copy the model afresh")
                self._where[name] = file, entry
        for name, file in placed.items():
            if name not in self._where or self._where[name][0] != file:
                raise CheckpointError(
                    f"{source.name}: {INDEX} says that {name} is in {file}, which does not hold it; "
                    "copy both afresh"
                )

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._where[name][1].shape

    def dtype(self, name: str) -> str:
        """Return a tensor's type in the words of safetensors."""
        return self._where[name][1].dtype

    def nbytes(self, name: str) -> int:
        """Return the bytes that a tensor takes."""
        return self._where[name][1].stop - self._where[name][1].start

    def file(self, name: str) -> str:
        """Return the file that a tensor is in."""
        return self._where[name][0]

    def tensor(self, name: str) -> Tensor:
        """Read a tensor."""
        return read_tensor(self._source, *self._where[name])


class Parameters:
    """The parameters of a float model under the names of `Decoder.state_dict()`, read one at a time.

    Args:
        source: of the model.
        config: its shape.

    Raises:
        CheckpointError: the weights are incomplete, damaged or not those of the config.
    """

    def __init__(self, source: Source, config: DecoderConfig) -> None:
        expected = undrawn(config).state_dict()  # shapes only
        self.weights = SourceWeights(source)
        self._names = names_in_files(config, self.weights)
        stored = stored_tensors(config, expected)
        shapes = {each.name: tuple(each.pack(expected).shape) for each in stored}
        check_tensors(source.name, config, self.weights, shapes, self._names)
        check_tied_head(source.name, config, self.weights)
        self._shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        self._rows = {each.name: [expected[part].shape[0] for part in each.parts] for each in stored}
        self._stored: dict[str, list[StoredTensor]] = {name: [] for name in expected}
        for each in stored:
            for part in each.parts:
                self._stored[part].append(each)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    @property
    def nbytes(self) -> int:
        """The bytes of all parameters as they are stored."""
        return sum(map(self.nbytes_of, self))

    def nbytes_of(self, name: str) -> int:
        """Return the bytes of a parameter as it is stored."""
        size: int = math.prod(self._shapes[name]) * self.dtype(name).itemsize
        return size

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a parameter."""
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        """Return the type in which a parameter is stored."""
        return torch_dtype(self.weights.dtype(self._names[self._stored[name][0].name]))

    def read(self, name: str) -> Tensor:
        """Read a parameter.

        Raises:
            CheckpointError: it cannot be read, or holds numbers that are not finite.
        """
        stored = self._stored[name]
        tensors = [self.weights.tensor(self._names[each.name]) for each in stored]
        for each, tensor in zip(stored, tensors, strict=True):
            if bad := _not_finite(tensor):
                written = self._names[each.name]
                raise CheckpointError(
                    f"{self.weights.file(written)}: {written} holds {bad:,} numbers that are not finite; "
                    "copy the file afresh, or take an earlier checkpoint of the training"
                )
        first, tensor = stored[0], tensors[0]
        if first.layout == "row":
            return torch.stack(tensors)
        tensor = tensor.t() if first.layout == "transposed" else tensor
        return torch.split(tensor, self._rows[first.name])[first.parts.index(name)]


def _not_finite(tensor: Tensor) -> int:
    """Count them piece by piece: at once, the count of a large matrix takes several times its memory."""
    return sum(part.numel() - int(part.isfinite().sum()) for part in torch.split(tensor.flatten(), CHUNK))


def _index(source: Source) -> dict[str, str]:
    """Return the file of each tensor as the index has it; nothing where one file holds them all."""
    files = source.files()
    if SINGLE in files:
        return {}
    if INDEX not in files:
        remedy = "name a directory that holds a model"
        if any(name.endswith((".bin", ".pth")) for name in files):
            remedy = "convert its pickled weights with transformers' save_pretrained"
        raise CheckpointError(f"{source.name}: neither {SINGLE} nor {INDEX} is there; {remedy}")
    try:
        placed = dict(json.loads(read_bytes(source, INDEX))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source.name}: {INDEX} is not an index of shards ({error!r}); copy it afresh"
        ) from None
    for file in placed.values():
        if not isinstance(file, str) or "/" in file or file.startswith("."):
            raise CheckpointError(f"{source.name}: {INDEX} names {file!r}, which is no plain file name")
    return placed
