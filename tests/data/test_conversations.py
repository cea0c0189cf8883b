"""Conversations in, canonical files out."""

import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byollm.data.conversations import prepare_conversations
from byollm.data.errors import DataError
from byollm.settings.data import DataSettings
from tests.data.support import rejects, tree

Write = Callable[[str, str | bytes], Path]
MakeSettings = Callable[..., DataSettings]


def dolly(number: int) -> str:
    return json.dumps({"instruction": f"Question {number}", "context": "", "response": f"Answer {number}"})


@pytest.fixture
def run(settings: MakeSettings, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*sources: str | dict[str, Any], force: bool = False, **values: Any) -> dict[str, Any]:
        listed = [{"path": source} if isinstance(source, str) else source for source in sources]
        return prepare_conversations(settings(conversations=listed, **values), tmp_path / "out", force=force)

    return run


def written(directory: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        split: [json.loads(line) for line in (directory / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "val")
    }


def test_all_conversations_are_written_once_in_canonical_form(
    write: Write, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write("a.jsonl.xz", lzma.compress("\n".join(dolly(number) for number in [*range(300), 7, 8]).encode()))
    write(
        "b.json", json.dumps([{"input": "Hi", "output": "Hello"}, {"text": "### Human: x### Assistant: y"}])
    )
    manifest = run("a.jsonl.xz", "b.json", validation_fraction=0.1)
    found = written(tmp_path / "out")
    assert {split: len(rows) for split, rows in found.items()} == {
        split: part["conversations"] for split, part in manifest["splits"].items()
    }
    assert (manifest["kept"], manifest["duplicates"], manifest["rejected"]) == (302, 2, {})
    assert 15 < len(found["val"]) < 50
    rows = found["train"] + found["val"]
    assert {row["source"] for row in rows} == {"a.jsonl.xz", "b.json"}
    assert {row["messages"][0]["content"] for row in rows} == {f"Question {n}" for n in range(300)} | {
        "Hi",
        "x",
    }
    assert next(row for row in rows if row["messages"][0]["content"] == "Question 0") == {
        "messages": [
            {"role": "user", "content": "Question 0"},
            {"role": "assistant", "content": "Answer 0"},
        ],
        "source": "a.jsonl.xz",
    }
    assert not list((tmp_path / "out").glob("*partial"))


def test_bad_lines_are_set_aside_whole_with_file_number_and_reason(
    write: Write, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    bad = ['{"instruction": "no answer"}', "{not json", '{"messages": [{"role": "user", "content": "Hi"}]}']
    write("a.jsonl", "\n".join([dolly(0), *bad, dolly(1), dolly(2)]))
    manifest = run("a.jsonl")
    expected = {"no answer at the end": 1, "not JSON": 1, "unknown shape": 1}
    assert manifest["rejected"] == manifest["sources"][0]["rejected"] == expected
    listed = rejects(tmp_path / "out")
    assert [(entry["member"], entry["number"], entry["reason"]) for entry in listed] == [
        ("a.jsonl", 2, "unknown shape"),
        ("a.jsonl", 3, "not JSON"),
        ("a.jsonl", 4, "no answer at the end"),
    ]
    assert listed[0]["excerpt"] == bad[0]
    assert listed[1]["excerpt"].strip() == bad[1]
    assert manifest["kept"] == 3


def test_text_files_hold_conversations_between_rules(
    write: Write, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write(
        "a.txt",
        "### Human: One?\n\nReally?\n### Assistant: Yes.\n---\n"
        "### Human: Two?\n### Assistant: No.\n----\nloose\n",
    )
    run("a.txt")
    found = written(tmp_path / "out")
    contents = {row["messages"][0]["content"] for rows in found.values() for row in rows}
    assert contents == {"One?\n\nReally?", "Two?"}
    assert [(entry["number"], entry["reason"]) for entry in rejects(tmp_path / "out")] == [
        (9, "unknown shape")
    ]


def test_a_repeated_source_weighs_more_in_training_only(
    write: Write, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write("a.jsonl", "\n".join(map(dolly, range(10))))
    manifest = run({"path": "a.jsonl", "repeat": 3})
    found = written(tmp_path / "out")
    assert manifest["splits"]["train"]["conversations"] == len(found["train"]) == 18
    assert len({json.dumps(row) for row in found["train"]}) == 6
    assert len(found["val"]) == 4


def test_fairytale_questions_are_joined_with_their_sections(
    write: Write, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    members = {
        "q/train/pig-questions.csv": "question_id,cor_section,question,answer1\n"
        '1,1,What is it?,a pig\n2,"1, 2",Who came?,The king.\n3,9,Lost?,yes\n4,1,Empty?,\n',
        "s/train/pig-story.csv": "section,text\n1,Once there was a pig.\n2,A king came by.\n",
        "s/val/other-story.csv": "section,text\n1,Not read.\n",
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    write("tales.tar.xz", file.getvalue())
    run({"path": "tales.tar.xz", "members": "*/train/*.csv", "format": "fairytaleqa"})
    found = [row["messages"] for rows in written(tmp_path / "out").values() for row in rows]
    assert sorted((turns[0]["content"], turns[1]["content"]) for turns in found) == [
        ("Once there was a pig.\n\nWhat is it?", "A pig."),
        ("Once there was a pig.\nA king came by.\n\nWho came?", "The king."),
    ]
    assert [(entry["number"], entry["reason"]) for entry in rejects(tmp_path / "out")] == [
        (4, "no such section"),
        (5, "empty message"),
    ]


def test_a_rerun_gives_the_same_bytes_and_other_inputs_need_force(
    write: Write, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write("a.jsonl", "\n".join(map(dolly, range(20))))
    run("a.jsonl")
    first = tree(tmp_path / "out")
    run("a.jsonl")
    assert tree(tmp_path / "out") == first
    write("a.jsonl", "\n".join(map(dolly, range(21))))
    with pytest.raises(DataError, match=r"input files changed: a\.jsonl.*--force"):
        run("a.jsonl")
    assert tree(tmp_path / "out") == first
    run("a.jsonl", force=True)
    assert tree(tmp_path / "out") != first


def test_too_few_conversations_are_an_error_that_says_where_to_look(
    write: Write, run: Callable[..., dict[str, Any]]
) -> None:
    write("a.jsonl", dolly(0) + "\n{}")
    with pytest.raises(DataError, match=r"1 valid conversations.*rejected\.jsonl"):
        run("a.jsonl")
    with pytest.raises(DataError, match=r"data\.conversations: no file b\.jsonl"):
        run("b.jsonl")
