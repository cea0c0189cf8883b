"""Decoders as Hugging Face model directories: read what transformers wrote, write what it reads."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError

from byollm.modeling.atomic_directory import atomic_directory
from byollm.modeling.config import DecoderConfig
from byollm.modeling.decoder import Decoder
from byollm.modeling.errors import CheckpointError, ModelConfigError
from byollm.modeling.packed import Scheme, read_scheme
from byollm.modeling.packed_decoder import read_packed
from byollm.modeling.stored_check import check_tensors, check_tied_head, names_in_files
from byollm.modeling.stored_tensors import stored_tensors
from byollm.modeling.tokenizer import TOKENIZER_FILES, Tokenizer
from byollm.modeling.undrawn import undrawn
from byollm.modeling.weight_files import INDEX, open_weights, torch_dtype, write_weights

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
SHARD_BYTES = 5_000_000_000


def load_config(directory: Path) -> DecoderConfig:
    """Read the shape of the decoder in a model directory.

    Raises:
        CheckpointError: `config.json` is absent or damaged, or describes a model that is not supported.
    """
    return _read(directory)[0]


def load_scheme(directory: Path) -> Scheme | None:
    """Return how the weights in a model directory are packed; None: they are not.

    Raises:
        CheckpointError: as for `load_config`, or they are packed in a way that is not known.
    """
    return _read(directory)[1]


def _read(directory: Path) -> tuple[DecoderConfig, Scheme | None]:
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: absent; expected a Hugging Face model directory with config.json and model.safetensors"
        ) from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); copy the file afresh") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a JSON object; copy the file afresh")
    try:
        return DecoderConfig.from_hf(config), read_scheme(config)
    except ModelConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_decoder(
    directory: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Decoder:
    """Load a decoder from a Hugging Face model directory, or from one that `byollm quantize` wrote.

    Packed weights stay packed; on a CPU they stay in their files, which are mapped.

    Args:
        directory: holds config.json and model.safetensors, or its shards and their index
        dtype: of the activations and of all that is not packed; None: as it is stored
        device: where the parameters go

    Raises:
        CheckpointError: a file is absent or damaged, or the tensors are not those of the config; then every
            missing, left-over and misshapen tensor is named.
    """
    directory = Path(directory)
    config, scheme = _read(directory)
    decoder = undrawn(config)
    with open_weights(directory) as weights:
        if scheme is not None:
            read_packed(directory, decoder, scheme, weights, dtype, device)
            return decoder.eval()
        expected = decoder.state_dict()  # shapes only
        stored = stored_tensors(config, expected)
        names = names_in_files(config, weights)
        shapes = {s.name: tuple(s.pack(expected).shape) for s in stored}
        check_tensors(directory, config, weights, shapes, names)
        dtype = dtype or torch_dtype(weights.dtype(names[stored[0].name]))
        decoder.to(dtype).to_empty(device=device)
        if decoder.rotary is not None:
            decoder.rotary.fill(device, dtype)
        parameters = decoder.state_dict()
        with torch.no_grad():
            for tensor in stored:
                tensor.unpack(weights.tensor(names[tensor.name]), parameters)
        check_tied_head(directory, config, weights)
    return decoder.eval()


def save_decoder(
    decoder: Decoder,
    directory: Path,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: torch.dtype | None = None,
    eos_ids: Sequence[int] | None = None,
    generation: Mapping[str, Any] = MappingProxyType({}),
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a decoder as a Hugging Face model directory, replacing an older model there in one step.

    Files that belong to no model, such as a README, stay.

    Args:
        decoder: what to save
        directory: where; created with its parents
        tokenizer: saved beside the weights; without it, a tokenizer that is already there stays
        dtype: of the stored tensors; None: as they are
        eos_ids: the tokens that end a generation; None: those of the tokenizer
        generation: what else generation_config.json says, such as the temperature to sample at
        shard_bytes: the largest size of one file of weights

    Raises:
        CheckpointError: the directory is there and holds no model, the disk is full, or the family cannot
            express the shape.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or _is_foreign(directory)):
        raise CheckpointError(f"{directory}: is there and holds no model; choose a new or an empty directory")
    try:
        config = decoder.config.to_hf()
    except ModelConfigError as error:
        raise CheckpointError(f"{directory}: {error}") from None
    parameters = {name: tensor.detach().cpu().to(dtype) for name, tensor in decoder.state_dict().items()}
    tensors = {s.name: s.pack(parameters) for s in stored_tensors(decoder.config, parameters)}
    special = _special_ids(tokenizer, eos_ids)
    kind = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    try:
        with atomic_directory(directory) as fresh:
            write_weights(tensors, fresh, shard_bytes)
            _write_json(fresh / CONFIG, config | special | {"dtype": kind})
            known = {name: value for name, value in special.items() if value is not None}
            _write_json(fresh / GENERATION_CONFIG, {**known, **generation})
            if tokenizer is not None:
                tokenizer.save(fresh)
            _keep_others(directory, fresh, keep_tokenizer=tokenizer is None)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{directory}: could not be written ({error}); free some space or check its permissions. "
            "What was there before is intact"
        ) from None


def _is_foreign(directory: Path) -> bool:
    return any(directory.iterdir()) and not (directory / CONFIG).exists()


def _special_ids(tokenizer: Tokenizer | None, eos_ids: Sequence[int] | None) -> dict[str, Any]:
    """Return the ids for both config files; null where unknown, lest a reader assume its family's default."""
    if eos_ids is None:
        eos_ids = tokenizer.eos_ids if tokenizer is not None else ()
    eos: int | list[int] | None = list(eos_ids)
    if len(eos_ids) < 2:
        eos = eos_ids[0] if eos_ids else None
    return {
        "bos_token_id": tokenizer.bos_id if tokenizer is not None else None,
        "eos_token_id": eos,
        "pad_token_id": tokenizer.pad_id if tokenizer is not None else None,
    }


def _keep_others(directory: Path, fresh: Path, *, keep_tokenizer: bool) -> None:
    """Carry over what belongs to no model: everything but weights and the files that a save writes."""
    if not directory.exists():
        return
    for path in directory.iterdir():
        weights = path.match("model*.safetensors") or path.name == INDEX
        stale = weights or (path.name in TOKENIZER_FILES and not keep_tokenizer)
        if stale or (fresh / path.name).exists():
            continue
        if path.is_dir():
            shutil.copytree(path, fresh / path.name, symlinks=True)
        else:
            shutil.copy2(path, fresh / path.name, follow_symlinks=False)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
