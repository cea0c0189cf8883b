"""Reading without answering: the same numbers as the whole model at once, whatever the chunks."""

import gc
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import pytest
import torch

from byollm.engine import Engine, runner
from byollm.engine.errors import NOT_FINITE, AdmissionError, EngineError
from byollm.engine.reader import Gradual, embed, groups, score
from byollm.engine.runner import Runner
from byollm.modeling import Decoder
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import make_decoder
from tests.engine.support import needs_kernels

T = TypeVar("T")

TEXT = [5, 17, 250, 3, 3, 99, 42, 7, 181, 64, 12]


def finish(work: Gradual[T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def make_runner(decoder: Decoder, kernels: Literal["auto", "torch"]) -> Runner[Any]:
    return runner.make_runner(decoder, 4, EngineSettings(kernels=kernels))


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("family", ["qwen3", "mistral", "gpt2"])
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_scores_are_those_of_transformers(
    family_model: Callable[[str], tuple[Any, Decoder]],
    family: str,
    chunk: int,
    kernels: Literal["auto", "torch"],
) -> None:
    reference, decoder = family_model(family)
    text = TEXT * 3  # longer than mistral's window
    scores = finish(score(make_runner(decoder, kernels), text, 2, chunk))
    with torch.no_grad():
        wanted = reference(torch.tensor([text])).logits[0].log_softmax(-1)
    assert len(scores) == len(text) - 1
    for place, entry in enumerate(scores):
        assert entry.token_id == text[place + 1]
        assert entry.logprob == pytest.approx(wanted[place, entry.token_id].item(), abs=1e-4)
        assert entry.top[0][1] == pytest.approx(wanted[place].max().item(), abs=1e-4)
        assert len(entry.top) == 2


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_an_embedding_is_the_mean_hidden_state_in_chunks_or_in_company(
    decoder: Decoder, kernels: Literal["auto", "torch"]
) -> None:
    texts = [TEXT, TEXT[:4], TEXT * 3, TEXT[:1]]
    subject = make_runner(decoder, kernels)
    together = finish(embed(subject, texts, 100))
    apart = finish(embed(subject, texts, 3))
    for text, *vectors in zip(texts, together, apart, strict=True):
        with torch.no_grad():
            hidden = decoder(torch.tensor([text]), torch.arange(len(text)))[0]
        wanted = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        for vector in vectors:
            torch.testing.assert_close(torch.frombuffer(bytearray(vector), dtype=torch.float32), wanted)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_numbers_that_are_not_finite_are_an_error_and_no_result(kernels: Literal["auto", "torch"]) -> None:
    decoder = make_decoder()
    with torch.no_grad():
        decoder.embed_tokens.weight[TEXT[3]] = torch.nan
    subject = make_runner(decoder, kernels)
    for work in (score(subject, TEXT, 1, 4), embed(subject, [TEXT[:2], TEXT], 4)):
        with pytest.raises(EngineError, match=NOT_FINITE):
            finish(work)


def test_groups_hold_neighbours_within_the_budget() -> None:
    texts = [[0] * length for length in (9, 2, 30, 3, 8, 7, 2)]
    grouped = groups(texts, 18)
    assert [text for group in grouped for text in group] == texts
    assert [sum(map(len, group)) for group in grouped] == [11, 30, 18, 2]


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_nothing_comes_before_the_first_token(decoder: Decoder, kernels: Literal["auto", "torch"]) -> None:
    assert finish(score(make_runner(decoder, kernels), TEXT[:1], 1, 16)) == []


@needs_kernels
def test_packed_weights_are_not_kept_twice() -> None:
    decoder = make_decoder()
    engine = Engine(decoder, None, EngineSettings(kernels="native"))
    layer = weakref.ref(decoder.layers[0])
    del decoder
    gc.collect()
    assert layer() is None
    assert [len(vector) for vector in finish(embed(engine.runner, [TEXT], 3))] == [4 * 32]


def test_what_cannot_be_read_is_refused(make_engine: Callable[..., Engine]) -> None:
    limits = make_engine().limits
    limits.check_readable([0] * limits.context)
    for text in ([], [0] * (limits.context + 1), [300], [-1]):
        with pytest.raises(AdmissionError):
            limits.check_readable(text)
