"""Which tensors a packed model has, and which file each goes to: known before the first weight is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from byollm.kernels.packed import Scheme
from byollm.modeling.packed import packed_names, scheme_of
from byollm.modeling.packing.safetensors_file import PlannedTensor
from byollm.modeling.packing.weights import Parameters
from byollm.modeling.weight_files import SINGLE


@dataclass(frozen=True)
class Shard:
    """One file: for each parameter of the float model, what it becomes."""

    file: str
    parameters: dict[str, tuple[PlannedTensor, ...]]

    @property
    def tensors(self) -> Iterator[PlannedTensor]:
        """All tensors of the file."""
        return (tensor for made in self.parameters.values() for tensor in made)

    @property
    def nbytes(self) -> int:
        """The bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def plan(parameters: Parameters, scheme: Scheme, shard_bytes: int) -> list[Shard]:
    """Share the parameters out, in their order, among files of at most `shard_bytes`.

    What one parameter becomes is never divided: if it is larger than that, it has a file of its own.
    """
    groups: list[dict[str, tuple[PlannedTensor, ...]]] = [{}]
    filled = 0
    for name in parameters:
        made = _become(name, parameters, scheme)
        size = sum(tensor.nbytes for tensor in made)
        if groups[-1] and filled + size > shard_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = made
        filled += size
    if len(groups) == 1:
        return [Shard(SINGLE, groups[0])]
    return [
        Shard(f"model-{number:05}-of-{len(groups):05}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    ]


def _become(name: str, parameters: Parameters, scheme: Scheme) -> tuple[PlannedTensor, ...]:
    shape = parameters.shape(name)
    own = scheme_of(name, scheme)
    if own is None:
        return (PlannedTensor(name, parameters.dtype(name), shape),)
    codes, scales = packed_names(name)
    matrix = shape[0], shape[1]
    return (
        PlannedTensor(codes, own.code_dtype, own.code_shape(matrix)),
        PlannedTensor(scales, own.scale_dtype, own.scale_shape(matrix)),
    )
