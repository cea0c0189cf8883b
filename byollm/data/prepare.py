"""Text in, tokenizer and packed token shards out; restartable after a kill at any moment.

Two passes over the sources. The first chooses the split and trains the tokenizer, the second encodes. What is
finished is listed in `state.json`; a rerun reads the documents again (cheap), and encodes only those that are
not yet in a finished shard (dear). As shards hold whole documents in order, the bytes equal those of an
unbroken run.
"""

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from byollm.data.corpus import Kept, Tally, kept_documents
from byollm.data.errors import DataError
from byollm.data.files import find
from byollm.data.progress import Reporter, Reporting, reporting
from byollm.data.rejects import RejectFile
from byollm.data.sampling import choose
from byollm.data.shards import ShardWriter, token_type
from byollm.data.state import State, inputs, open_state
from byollm.data.storage import disk_errors, locked, sha256, sync_directory, write_json
from byollm.data.tokenizer import END_OF_TEXT, TextEncoder, save_tokenizer, train_tokenizer
from byollm.settings.data import DataSettings

SPLITS = ("train", "val")
BATCH_CHARACTERS = 2**18
# settings that choose where things are or how much is tolerated, not what comes out
OUTSIDE_PLAN = {"directory", "output", "conversations", "max_unpacked_bytes", "max_conversation_characters"}


def prepare(settings: DataSettings, force: bool = False, reporting: Reporting = reporting) -> dict[str, Any]:
    """Prepare `settings.sources` into `settings.output` and return the manifest.

    Raises:
        DataError: a source is missing or damaged, nothing is left, the disk is full, or the output directory
            holds the work of other settings or inputs and `force` is not given.
    """
    paths = [find(source.path, settings.directory, "data.sources") for source in settings.sources]
    output = settings.output
    size = sum(path.stat().st_size for path in paths)
    with locked(output), reporting() as report:
        plan = settings.model_dump(mode="json", exclude=OUTSIDE_PLAN)
        for source in plan["sources"]:
            source["path"] = Path(source["path"]).name
        plan["inputs"] = inputs(paths)
        state = open_state(output, plan, force)
        if (manifest := _finished(output, state)) is not None:
            report.note(f"{output}: already prepared from the same inputs with the same settings")
            return manifest
        if state.boundary is None:
            report.begin("choosing the split", size)
            _train_tokenizer(state, paths, settings, report)
        else:
            report.note(f"continuing after {len(state.shards)} finished shards")
        report.begin("encoding", size)
        tallies = _encode(state, paths, settings, report)
        manifest = _manifest(state, plan, tallies)
        write_json(output / "manifest.json", manifest)
        return manifest


def _finished(output: Path, state: State) -> dict[str, Any] | None:
    """Return the manifest if the work was done before and nothing is missing."""
    file, rejects = output / "manifest.json", output / "rejected.jsonl"
    if not file.is_file() or not rejects.is_file():
        return None
    manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    listed = sum(len(split["shards"]) for split in manifest["splits"].values())
    whole = listed == len(state.shards) and manifest["rejected"]["sha256"] == sha256(rejects)
    return manifest if whole else None


def _train_tokenizer(state: State, paths: list[Path], settings: DataSettings, report: Reporter) -> None:
    with RejectFile(state.directory / "rejected.jsonl") as rejects:
        stream = kept_documents(paths, settings, report.advance, rejects.add, [])
        choice = choose(stream, settings)
    size = sum(len(text) for text in choice.sample)
    report.note(f"training the tokenizer on {len(choice.sample):,} documents, {size / 1e6:.1f} M characters")
    tokenizer = train_tokenizer(choice.sample, settings.vocab_size)
    directory, partial = state.directory / "tokenizer", state.directory / "tokenizer.partial"
    with disk_errors(directory):
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)
        save_tokenizer(tokenizer, partial)
        partial.rename(directory)
        sync_directory(state.directory)
    state.boundary = choice.boundary
    state.tokenizer = {file.name: sha256(file) for file in sorted(directory.iterdir())}
    state.save()


def _encode(state: State, paths: list[Path], settings: DataSettings, report: Reporter) -> list[Tally]:
    """Run the second pass: what no finished shard holds is encoded and written."""
    encoder = TextEncoder(state.directory / "tokenizer")
    writers = {
        split: ShardWriter(
            directory=state.directory,
            split=split,
            dtype=token_type(encoder.vocab_size),
            separator=encoder.control(END_OF_TEXT),
            shard_tokens=settings.shard_tokens,
            number=sum(shard.split == split for shard in state.shards),
        )
        for split in SPLITS
    }
    done = {split: sum(shard.documents for shard in state.shards if shard.split == split) for split in SPLITS}
    tallies: list[Tally] = []
    with RejectFile(state.directory / "rejected.jsonl") as rejects:
        stream = kept_documents(paths, settings, report.advance, rejects.add, tallies)
        for batch in _batches(_unfinished(stream, state, done)):
            encoded = encoder.encode([kept.text for _, kept in batch])
            for (split, kept), ids in zip(batch, encoded, strict=True):
                state.add(writers[split].add(ids, kept.bytes))
    for writer in writers.values():
        state.add(writer.close())
    return tallies


def _unfinished(stream: Iterator[Kept], state: State, done: dict[str, int]) -> Iterator[tuple[str, Kept]]:
    assert state.boundary is not None
    seen = dict.fromkeys(SPLITS, 0)
    for kept in stream:
        split = "val" if kept.identity.draw < state.boundary else "train"
        seen[split] += 1
        if seen[split] > done[split]:
            yield split, kept


def _batches(stream: Iterator[tuple[str, Kept]]) -> Iterator[list[tuple[str, Kept]]]:
    held, size = list[tuple[str, Kept]](), 0
    for item in stream:
        held.append(item)
        size += len(item[1].text)
        if size >= BATCH_CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _manifest(state: State, plan: dict[str, Any], tallies: list[Tally]) -> dict[str, Any]:
    encoder = TextEncoder(state.directory / "tokenizer")
    splits = {split: _split(state, split) for split in SPLITS}
    if not splits["train"]["documents"] or not splits["val"]["documents"]:
        raise DataError(
            f"{state.directory}: a split is empty (train {splits['train']['documents']}, val "
            f"{splits['val']['documents']} documents). Change data.validation_fraction or add text."
        )
    rejected = sum((tally.rejected for tally in tallies), start=type(tallies[0].rejected)())
    sources = [
        settings | {key: file[key] for key in ("bytes", "sha256")} | tally.to_json()
        for settings, file, tally in zip(plan["sources"], plan["inputs"], tallies, strict=True)
    ]
    tokens = sum(split["tokens"] for split in splits.values())
    text_bytes = sum(split["bytes"] for split in splits.values())
    return {
        "version": 1,
        "made_with": {"byollm": version("byollm"), "tokenizers": version("tokenizers")},
        "splits": splits,
        "token_type": token_type(encoder.vocab_size).str,
        "separator": encoder.control(END_OF_TEXT),
        "vocab_size": encoder.vocab_size,
        "bytes_per_token": round(text_bytes / tokens, 4),
        "tokenizer": {"directory": "tokenizer", "sha256": state.tokenizer},
        "sources": sources,
        "documents": {
            "read": sum(tally.read for tally in tallies),
            "kept": sum(tally.kept for tally in tallies),
            "duplicates": sum(tally.duplicates for tally in tallies),
            "rejected": dict(sorted(rejected.items())),
        },
        "rejected": {"file": "rejected.jsonl", "sha256": sha256(state.directory / "rejected.jsonl")},
        "settings": {key: value for key, value in plan.items() if key not in ("sources", "inputs")},
    }


def _split(state: State, split: str) -> dict[str, Any]:
    shards = [shard for shard in state.shards if shard.split == split]
    totals: dict[str, Any] = {
        "documents": sum(shard.documents for shard in shards),
        "tokens": sum(shard.tokens for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
    }
    lengths = np.concatenate([np.array([0]), *(shard.document_lengths(state.directory) for shard in shards)])[
        1:
    ]
    if len(lengths):
        quantiles = {"p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
        found = {name: int(np.quantile(lengths, q, method="lower")) for name, q in quantiles.items()}
        totals["document_tokens"] = {"mean": round(float(lengths.mean()), 1)} | found
    return totals | {"shards": [shard.to_json() for shard in shards]}
