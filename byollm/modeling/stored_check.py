"""Whether the tensors that a checkpoint stores are those of the decoder that its config describes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import CheckpointError
from byollm.modeling.stored_tensors import DERIVED, HEAD, prefix
from byollm.modeling.weight_files import FLOATS

CONFIG = "config.json"


class Tensors(Protocol):
    """What can be asked of stored tensors."""

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""

    def dtype(self, name: str) -> str:
        """Return a tensor's type in the words of safetensors."""

    def tensor(self, name: str) -> Tensor:
        """Read a tensor."""


def names_in_files(config: DecoderConfig, weights: Tensors) -> dict[str, str]:
    """Map each name as transformers writes it to the name in these files.

    Files saved from the bare model, such as OpenAI's GPT-2, lack the prefix of the model with a head.
    """
    first = prefix(config)
    if any(name.startswith(first) for name in weights.names):
        return {name: name for name in weights.names}
    return {(name if name == HEAD else first + name): name for name in weights.names}


def check_tensors(
    place: object,
    config: DecoderConfig,
    weights: Tensors,
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    packed: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Compare what is stored at `place`, under `names`, with the `shapes` that a decoder has.

    `packed` gives the types of codes and scales; all other tensors are numbers of any type.

    Raises:
        CheckpointError: they differ; every missing, left-over and misshapen tensor is named.
    """
    missing = sorted(shapes.keys() - names.keys())
    tied = {HEAD} if config.tie_embeddings else set()
    left_over = sorted(n for n in names.keys() - shapes.keys() - tied if not DERIVED.fullmatch(n))
    misshapen, unreadable = [], []
    for name in sorted(shapes.keys() & names.keys()):
        if (found := weights.shape(names[name])) != shapes[name]:
            misshapen.append(f"{name} is {found}, expected {shapes[name]}")
        allowed = (packed[name],) if name in packed else FLOATS
        if (kind := weights.dtype(names[name])) not in allowed:
            unreadable.append(f"{name} is {kind}, expected {' or '.join(allowed)}")
    faults = [
        _list("missing", missing),
        _list("left over", left_over),
        _list("misshapen", misshapen),
        _list("of another type", unreadable),
    ]
    if any(faults):
        raise CheckpointError(
            f"{place}: the tensors are not those of a {config.family} decoder as {CONFIG} describes it.\n"
            + "\n".join(filter(None, faults))
            + f"\nUse the {CONFIG} that was saved with these weights, or copy the model directory afresh."
        )


def check_tied_head(place: object, config: DecoderConfig, weights: Tensors) -> None:
    """Refuse a stored head that differs from the embedding to which the config ties it.

    Raises:
        CheckpointError: it does.
    """
    if not config.tie_embeddings or HEAD not in weights.names:
        return
    embedding = "wte.weight" if config.family == "gpt2" else "embed_tokens.weight"
    stored = next(name for name in weights.names if name.endswith(embedding))
    if not torch.equal(weights.tensor(HEAD), weights.tensor(stored)):
        raise CheckpointError(
            f"{place}: tie_word_embeddings is true in {CONFIG}, but {HEAD} differs from {stored}; "
            "set tie_word_embeddings to false"
        )


def _list(what: str, entries: list[str]) -> str:
    """Name all entries: `check_tensors` promises that none is left out."""
    return f"{what} ({len(entries)}): " + "; ".join(entries) if entries else ""
