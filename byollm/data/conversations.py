"""Conversations in any known shape in, one canonical JSON Lines file a split out.

A line is `{"messages": [{"role", "content"}, ...], "source": name}`: an optional system message, then user
and assistant in turn, the assistant last. What is not that is set aside in `rejected.jsonl` with number and
reason.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Any

from byollm.data.chat_formats import Messages, ShapeError, conversations, validated
from byollm.data.documents import Rejected
from byollm.data.errors import DataError
from byollm.data.fairytales import fairytale_rows
from byollm.data.files import TEXT_SUFFIXES, Advance, Member, Skipped, find, members
from byollm.data.progress import Reporting, reporting
from byollm.data.quality import identity
from byollm.data.records import Fault, Row, excerpt, lines, rows
from byollm.data.rejects import RejectFile
from byollm.data.state import differences, inputs
from byollm.data.storage import disk_errors, locked, sha256, write_json
from byollm.settings.data import ConversationSource, DataSettings

SPLITS = ("train", "val")
PLANNED = (
    "conversations",
    "seed",
    "validation_fraction",
    "validation_minimum",
    "max_conversation_characters",
)
_DIVIDER = re.compile(r"^-{3,}[ \t]*$", re.MULTILINE)


@dataclass
class Tally:
    """What became of one source's conversations."""

    kept: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def prepare_conversations(
    settings: DataSettings, output: Path, force: bool = False, reporting: Reporting = reporting
) -> dict[str, Any]:
    """Prepare `settings.conversations` into `output` and return its manifest.

    The work takes seconds, so a killed run leaves the former files as they were and is simply run again.

    Raises:
        DataError: a source is missing or damaged, fewer than two conversations are left, the disk is full, or
            `output` was made from other inputs or settings and `force` is not given.
    """
    paths = [find(source.path, settings.directory, "data.conversations") for source in settings.conversations]
    with locked(output), reporting() as report:
        report.begin("reading conversations", sum(path.stat().st_size for path in paths))
        plan = settings.model_dump(mode="json", include=set(PLANNED))
        for source in plan["conversations"]:
            source["path"] = Path(source["path"]).name
        plan["inputs"] = inputs(paths)
        _check_plan(output / "manifest.json", plan, force)
        collected, draws, tallies = output / "collected.partial", list[tuple[int, int]](), list[Tally]()
        with (
            RejectFile(output / "rejected.jsonl") as rejects,
            disk_errors(collected),
            collected.open("w", encoding="utf-8") as file,
        ):
            for draw, repeat, line in _kept(paths, settings, report.advance, rejects.add, tallies):
                file.write(line)
                draws.append((draw, repeat))
        splits = _split(collected, draws, output, settings)
        rejected = sum((tally.rejected for tally in tallies), start=Counter[str]())
        sources = [
            source
            | {key: entry[key] for key in ("bytes", "sha256")}
            | {
                "kept": tally.kept,
                "duplicates": tally.duplicates,
                "rejected": dict(sorted(tally.rejected.items())),
            }
            for source, entry, tally in zip(plan["conversations"], plan["inputs"], tallies, strict=True)
        ]
        manifest = {
            "version": 1,
            "splits": splits,
            "sources": sources,
            "kept": len(draws),
            "duplicates": sum(tally.duplicates for tally in tallies),
            "rejected": dict(sorted(rejected.items())),
            "rejected_sha256": sha256(output / "rejected.jsonl"),
            "plan": plan,
        }
        write_json(output / "manifest.json", manifest)
        return manifest


def _kept(
    paths: list[Path],
    settings: DataSettings,
    advance: Advance,
    reject: Callable[[Rejected], None],
    tallies: list[Tally],
) -> Iterator[tuple[int, int, str]]:
    """Yield (draw, repeat, canonical line) of each valid conversation, each once."""
    seen = set[bytes]()
    for path, source in zip(paths, settings.conversations, strict=True):
        tally = Tally()
        tallies.append(tally)
        for item in _read(path, source, settings, advance):
            checked = item if isinstance(item, Rejected) else _checked(item, settings)
            if isinstance(checked, Rejected):
                tally.rejected[checked.reason] += 1
                reject(checked)
                continue
            known = identity(json.dumps(checked, ensure_ascii=False), settings.seed)
            if known.key in seen:
                tally.duplicates += 1
                continue
            seen.add(known.key)
            tally.kept += 1
            line = json.dumps({"messages": checked, "source": path.name}, ensure_ascii=False)
            yield known.draw, source.repeat, line + "\n"


def _checked(item: tuple[str, int, Messages], settings: DataSettings) -> Messages | Rejected:
    member, number, messages = item
    try:
        return validated(messages, settings.max_conversation_characters)
    except ShapeError as error:
        shown = excerpt(json.dumps(messages, ensure_ascii=False))
        return Rejected(member, number, error.reason, error.detail, shown)


def _read(
    path: Path, source: ConversationSource, settings: DataSettings, advance: Advance
) -> Iterator[tuple[str, int, Messages] | Rejected]:
    """Yield (member, number, messages), not yet validated, and what could not be read."""
    found = members(path, source.members, settings.max_unpacked_bytes, advance)
    if source.format == "fairytaleqa":
        yield from fairytale_rows(found, settings)
        return
    for member in found:
        if isinstance(member, Skipped):
            yield Rejected(member.name, 0, "member skipped", member.reason, "")
            continue
        for row in _rows(member, settings):
            if isinstance(row, Fault):
                yield Rejected(member.name, row.number, row.reason, row.detail, row.excerpt)
                continue
            try:
                for messages in conversations(row.value):
                    yield member.name, row.number, messages
            except ShapeError as error:
                shown = json.dumps(row.value, ensure_ascii=False)
                yield Rejected(member.name, row.number, error.reason, error.detail, excerpt(shown))


def _rows(member: Member, settings: DataSettings) -> Iterator[Row | Fault]:
    if member.suffix not in TEXT_SUFFIXES:
        yield from rows(member, settings.max_line_bytes, settings.max_document_bytes)
        return
    held, start, size = list[bytes](), 1, 0
    for line in lines(member.stream, settings.max_line_bytes):
        if isinstance(line, Fault):
            yield line
            continue
        number, data = line
        if _DIVIDER.match(data.decode("latin-1")):
            yield from _text_row(start, held, size, settings.max_document_bytes)
            held, start, size = [], number + 1, 0
            continue
        size += len(data)
        if size <= settings.max_document_bytes:
            held.append(data)
    yield from _text_row(start, held, size, settings.max_document_bytes)


def _text_row(start: int, held: list[bytes], size: int, limit: int) -> Iterator[Row | Fault]:
    data = b"".join(held)
    if size > limit:
        yield Fault(start, "conversation too long", f"{size:,} bytes, the limit is {limit:,}", excerpt(data))
    elif data.strip():
        try:
            yield Row(start, data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            yield Fault(start, "not UTF-8", f"byte {error.start} of the conversation", excerpt(data))


def _split(
    collected: Path, draws: list[tuple[int, int]], output: Path, settings: DataSettings
) -> dict[str, Any]:
    if len(draws) < 2:
        raise DataError(
            f"data.conversations: {len(draws)} valid conversations; at least 2 are needed, one to train "
            f"on and one to validate with. {output / 'rejected.jsonl'} tells what was set aside and why."
        )
    wanted = min(settings.validation_minimum, len(draws) // 2)
    boundary = max(int(settings.validation_fraction * 2**64), nsmallest(wanted, draws)[-1][0] + 1)
    partial = {split: output / f"{split}.jsonl.partial" for split in SPLITS}
    counts = dict.fromkeys(SPLITS, 0)
    with disk_errors(output):
        with (
            collected.open(encoding="utf-8", newline="\n") as file,
            partial["train"].open("w", encoding="utf-8") as train,
            partial["val"].open("w", encoding="utf-8") as val,
        ):
            for (draw, repeat), line in zip(draws, file, strict=True):
                split, times = ("val", 1) if draw < boundary else ("train", repeat)
                (val if split == "val" else train).write(line * times)
                counts[split] += times
        collected.unlink()
        (output / "manifest.json").unlink(missing_ok=True)  # no manifest beside files it does not describe
        for split, path in partial.items():
            path.replace(output / f"{split}.jsonl")
    return {
        split: {"conversations": counts[split], "sha256": sha256(output / f"{split}.jsonl")}
        for split in SPLITS
    }


def _check_plan(file: Path, plan: dict[str, Any], force: bool) -> None:
    if force or not file.is_file():
        return
    try:
        old = json.loads(file.read_text(encoding="utf-8"))["plan"]
    except (ValueError, KeyError) as error:
        raise DataError(f"{file}: damaged ({error!r}). Run again with --force to start over.") from error
    if old != plan:
        raise DataError(
            f"{file.parent} holds conversations prepared differently: {'; '.join(differences(old, plan))}. "
            "Choose another directory with --out, or start over in this one with --force."
        )
