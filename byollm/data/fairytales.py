"""FairytaleQA: an archive's story sections joined with the questions asked about them."""

import re
from collections.abc import Iterable, Iterator

from byollm.data.chat_formats import Messages
from byollm.data.documents import Rejected
from byollm.data.files import Member, Skipped
from byollm.data.records import Fault, Row, excerpt, rows
from byollm.settings.data import DataSettings

_STORY, _QUESTIONS = "-story.csv", "-questions.csv"


def fairytale_rows(
    found: Iterable[Member | Skipped], settings: DataSettings
) -> Iterator[tuple[str, int, Messages] | Rejected]:
    """Yield (member, line, messages): the sections a question is about and the question, then its answer.

    Stories and questions stand in different members in any order, so the archive is held in memory; the set
    has about 4 MB of text. Answers are noted as phrases; a capital and a full stop make sentences of them.
    """
    stories: dict[str, dict[str, str]] = {}
    questions: list[tuple[str, str, Row]] = []
    for member in found:
        if isinstance(member, Skipped):
            yield Rejected(member.name, 0, "member skipped", member.reason, "")
            continue
        file = member.name.rpartition("/")[2]
        for row in rows(member, settings.max_line_bytes, settings.max_document_bytes):
            if isinstance(row, Fault):
                yield Rejected(member.name, row.number, row.reason, row.detail, row.excerpt)
            elif not isinstance(row.value, dict):
                yield Rejected(
                    member.name, row.number, "unknown shape", "not a table", excerpt(str(row.value))
                )
            elif file.endswith(_STORY):
                sections = stories.setdefault(file.removesuffix(_STORY), {})
                sections[str(row.value.get("section", "")).strip()] = row.value.get("text", "")
            elif file.endswith(_QUESTIONS):
                questions.append((member.name, file.removesuffix(_QUESTIONS), row))
    for name, story, row in questions:
        numbers = re.findall(r"\d+", str(row.value.get("cor_section", "")))
        sections = stories.get(story, {})
        texts = [sections[number].strip() for number in numbers if number in sections]
        question, answer = row.value.get("question", "").strip(), row.value.get("answer1", "").strip()
        if not texts or len(texts) < len(numbers):
            detail = f"section {row.value.get('cor_section')!r} of {story!r}"
            yield Rejected(name, row.number, "no such section", detail, excerpt(str(row.value)))
            continue
        messages = [
            {"role": "user", "content": "\n\n".join(["\n".join(texts), question]) if question else ""},
            {"role": "assistant", "content": _sentence(answer)},
        ]
        yield name, row.number, messages


def _sentence(answer: str) -> str:
    if not answer:
        return answer
    answer = answer[0].upper() + answer[1:]
    return answer if answer[-1] in ".!?\"'”" else answer + "."
