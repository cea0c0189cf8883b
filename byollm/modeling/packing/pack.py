"""Packs a model: from a source of float weights to a directory that `load_decoder` maps in."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from byollm import __version__
from byollm.kernels.packed import Scheme
from byollm.modeling.errors import CheckpointError
from byollm.modeling.hugging_face import QUANTIZATION
from byollm.modeling.packed import quantization_config
from byollm.modeling.packing.card import card
from byollm.modeling.packing.config_file import read_config
from byollm.modeling.packing.packer import Packer, calibration_tokens
from byollm.modeling.packing.plan import Shard, plan
from byollm.modeling.packing.progress import Progress, in_mib
from byollm.modeling.packing.record import Quality, Record
from byollm.modeling.packing.safetensors_file import ShardWriter
from byollm.modeling.packing.source import SUMS, DirectorySource, Source, read_bytes, verified
from byollm.modeling.packing.weights import Parameters
from byollm.modeling.packing.workspace import RECORD, Job, Workspace, as_json, open_workspace
from byollm.modeling.stored_check import CONFIG
from byollm.modeling.tokenizer import TOKENIZER_FILES
from byollm.modeling.weight_files import INDEX

GENERATION_CONFIG = "generation_config.json"
SHARD_BYTES = 2**30


def pack_model(
    source: Source,
    out: Path,
    scheme: Scheme,
    *,
    progress: Progress,
    destination: Source | None = None,
    tell: Callable[[str], object] = lambda text: None,
    calibration: str | None = None,
    measure: Callable[[Path], Quality | None] = lambda directory: None,
    shard_bytes: int = SHARD_BYTES,
) -> Record:
    """Write the packed form of a model to a directory, which is there when it is whole.

    No more than one matrix of the float model is in memory, or one layer with calibration. A run that was
    killed goes on where it was, to the same bytes.

    Args:
        source: where the model is.
        out: where the packed one goes; an empty directory, or none.
        scheme: how its matrices are packed.
        progress: shows how far it is, in MiB.
        destination: where it is copied to in the end, if not `out`.
        tell: is told what else is worth saying.
        calibration: text like the model's, with which GPTQ chooses the numbers.
        measure: finds out what was lost, given the packed model.
        shard_bytes: the largest size of a file of weights.

    Raises:
        CheckpointError: the model is damaged, not supported or packed already, `out` holds something else, or
            it cannot be written; the message says what to do.
    """
    config, shape = read_config(source)
    if packed := config.get(QUANTIZATION):
        raise CheckpointError(
            f"{source.name}: is packed already, as {packed.get('scheme')}; serve it as it is, or name the "
            "float model that it was made of"
        )
    parameters = Parameters(source, shape)
    shards = plan(parameters, scheme, shard_bytes)
    others = [name for name in (*TOKENIZER_FILES, GENERATION_CONFIG) if name in source.files()]
    job = Job(
        scheme=scheme.kind,
        group=scheme.group,
        double=scheme.double,
        calibration=None if calibration is None else hashlib.sha256(calibration.encode()).hexdigest(),
        shard_bytes=shard_bytes,
        byollm=__version__,
        files=_hashes(source, [CONFIG, *others, *parameters.weights.files], progress),
    )
    if (made := _already_made(job, out, destination)) is not None:
        tell(f"{made.name} is there already, made of the same files in the same way")
        return Record.read(made)
    with open_workspace(out, job, shards, tell) as space:
        if "tokenizer.json" not in others:
            tell(f"{source.name} has no tokenizer.json: what is written cannot be served without one")
        for name in others:
            space.write(name, bytes(read_bytes(source, name)))
        said = {QUANTIZATION: quantization_config(scheme, calibrated=calibration is not None)}
        space.write(CONFIG, as_json(config | said))
        tokens = None if calibration is None else calibration_tokens(calibration, space.directory, shape)
        _write_shards(space, shards, Packer(parameters, shape, scheme, tokens, space, shards), progress)
        if len(shards) > 1:
            placed = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
            total = sum(shard.nbytes for shard in shards)
            space.write(INDEX, as_json({"metadata": {"total_size": total}, "weight_map": placed}))
        record = Record(
            source=source.name,
            family=shape.family,
            scheme=scheme.kind,
            group=scheme.group,
            calibrated=calibration is not None,
            parameters=shape.num_parameters(),
            bytes_before=parameters.nbytes,
            bytes_after=sum(shard.nbytes for shard in shards),
            quality=measure(space.directory),
        )
        space.write(RECORD, as_json({"job": asdict(job)} | asdict(record)))
        space.write("README.md", card(record, out.name).encode())
        space.seal(out)
    return record


def _already_made(job: Job, out: Path, destination: Source | None) -> Source | None:
    """Return the place where an earlier run has finished the job; refuse places that hold something else."""
    places: list[Source] = [] if destination is None else [destination]
    if out.is_dir():
        places.append(DirectorySource(out))
    for place in places:
        if job.made(place):
            return place
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken or (destination is not None and SUMS in destination.files()):
        where = out if taken or destination is None else destination.name
        raise CheckpointError(
            f"{where}: is there and holds something else; choose a new or an empty place, or remove it"
        )
    return None


def _write_shards(space: Workspace, shards: list[Shard], packer: Packer, progress: Progress) -> None:
    with progress("writing, MiB") as advance:
        written = in_mib(advance, sum(shard.nbytes for shard in shards))
        for shard in shards:
            if space.finished(shard):
                written(shard.nbytes)
                continue
            with ShardWriter(space.directory / shard.file, shard.tensors) as writer:
                for name in shard.parameters:
                    for made, tensor in packer.pack(name).items():
                        writer.put(made, tensor)
                        written(tensor.nbytes)
            space.finish(shard.file)


def _hashes(source: Source, files: list[str], progress: Progress) -> dict[str, str]:
    with progress("verifying, MiB") as advance:
        return verified(source, files, in_mib(advance, sum(source.files()[file] for file in files)))
