"""Reading without answering: the same numbers as the whole model at once, whatever the chunks."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch

from byollm.engine import Engine
from byollm.engine.errors import AdmissionError
from byollm.engine.reader import Piecewise, embed, group_by_length, score
from byollm.modeling import Decoder

T = TypeVar("T")

TEXT = [5, 17, 250, 3, 3, 99, 42, 7, 181, 64, 12]


def finish(work: Piecewise[T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gpt2"])
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_scores_are_those_of_transformers(
    family_model: Callable[[str], tuple[Any, Decoder]], family: str, chunk: int
) -> None:
    reference, decoder = family_model(family)
    text = TEXT * 3  # longer than mistral's window
    scores = finish(score(decoder, text, 2, chunk))
    with torch.no_grad():
        wanted = reference(torch.tensor([text])).logits[0].log_softmax(-1)
    assert len(scores) == len(text) - 1
    for place, entry in enumerate(scores):
        assert entry.token_id == text[place + 1]
        assert entry.logprob == pytest.approx(wanted[place, entry.token_id].item(), abs=1e-4)
        assert entry.top[0][1] == pytest.approx(wanted[place].max().item(), abs=1e-4)
        assert len(entry.top) == 2


def test_an_embedding_is_the_mean_hidden_state_in_chunks_or_in_company(decoder: Decoder) -> None:
    texts = [TEXT, TEXT[:4], TEXT[:1]]
    together = finish(embed(decoder, texts, 100))
    apart = finish(embed(decoder, texts, 3))
    for text, *vectors in zip(texts, together, apart, strict=True):
        with torch.no_grad():
            hidden = decoder(torch.tensor([text]), torch.arange(len(text)))[0]
        wanted = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        for vector in vectors:
            torch.testing.assert_close(torch.frombuffer(bytearray(vector), dtype=torch.float32), wanted)


def test_groups_hold_texts_of_similar_lengths_within_the_budget() -> None:
    lengths = [9, 2, 30, 3, 8, 2]
    groups = group_by_length(lengths, 18)
    assert sorted(index for group in groups for index in group) == list(range(6))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= 18
    assert len(groups) == 3


def test_what_cannot_be_read_is_refused(make_engine: Callable[..., Engine]) -> None:
    limits = make_engine().limits
    limits.check_readable([0] * limits.context)
    for text in ([], [0] * (limits.context + 1), [300], [-1]):
        with pytest.raises(AdmissionError):
            limits.check_readable(text)
