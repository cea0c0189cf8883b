"""The safetensors files of a model directory: one, or several with an index."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from byollm.modeling.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
READABLE = 0o644  # safetensors writes 0o600; a server that runs as another user has to read it
FLOATS = ("F64", "F32", "F16", "BF16")


class WeightFiles:
    """Read access to every tensor of a model directory; the files stay open until the context ends."""

    def __init__(self, directory: Path, files: Mapping[str, Any]) -> None:
        self._files = files  # file name -> open safetensors file
        self._where: dict[str, str] = {}
        for file, opened in files.items():
            for name in opened.keys():  # noqa: SIM118 (not a dict)
                if name in self._where:
                    both = f"{self._where[name]} and {file}"
                    raise CheckpointError(
                        f"{directory}: tensor {name} is in both {both}; copy the model directory afresh"
                    )
                self._where[name] = file

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return tuple(self._files[self._where[name]].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Return a tensor's type in the words of safetensors, for example BF16."""
        return str(self._files[self._where[name]].get_slice(name).get_dtype())

    def tensor(self, name: str) -> Tensor:
        """Read a tensor; it may share memory with the file."""
        tensor: Tensor = self._files[self._where[name]].get_tensor(name)
        return tensor


@contextmanager
def open_weights(directory: Path) -> Iterator[WeightFiles]:
    """Open the weights of a model directory.

    Raises:
        CheckpointError: there are none, a shard is absent, or a file is damaged.
    """
    with ExitStack() as stack:
        files = {}
        for file in _weight_files(directory):
            path = directory / file
            try:
                files[file] = stack.enter_context(safe_open(path, framework="pt"))
            except FileNotFoundError:
                raise CheckpointError(
                    f"{path}: this shard is absent; copy the whole model directory"
                ) from None
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{path}: damaged or cut short ({error}); copy the file afresh"
                ) from None
        yield WeightFiles(directory, files)


def write_weights(tensors: Mapping[str, Tensor], directory: Path, shard_bytes: int) -> None:
    """Write `tensors` into one file, or into several of at most `shard_bytes` each and an index.

    A tensor larger than that gets a file of its own.
    """
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(shard, file)
        # transformers reads no file without this metadata
        save_file({k: t.contiguous() for k, t in shard.items()}, directory / file, metadata={"format": "pt"})
        (directory / file).chmod(READABLE)
    if len(shards) > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def torch_dtype(stored: str) -> torch.dtype:
    """Return torch's name of one of `FLOATS`."""
    return {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[stored]


def _weight_files(directory: Path) -> list[str]:
    if (directory / SINGLE).exists():
        return [SINGLE]
    index = directory / INDEX
    if not index.exists():
        remedy = "copy the whole model directory"
        if any(directory.glob("*.bin")) or any(directory.glob("*.pth")):
            remedy = "convert its pickled weights with transformers' save_pretrained"
        raise CheckpointError(f"{directory}: neither {SINGLE} nor {INDEX} is there; {remedy}")
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: not an index of shards ({error!r}); copy the file afresh") from None
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(
                f"{index}: shard {file!r} is not a plain file name; expected model-*.safetensors"
            )
    return files
