"""lm-eval measures the same through the server's completions as with the model in its own hands."""

from pathlib import Path
from typing import Any

import pytest

from tests.server.support import serving

MODEL = Path(__file__).parents[2] / "models" / "byollm-tiny"

PAIRS = [  # a sentence alone, as BLiMP has them, or the end of one after its beginning
    ("", "The cats sleep in the garden."),
    ("", "The cats sleeps in the garden."),
    ("", "Which house did the old woman buy?"),
    ("Once upon a time there was a little", " girl"),
    ("Once upon a time there was a little", " and of the"),
    ("The king said to his daughter:", " “Go into the forest, and bring me the golden bird.”"),
]


def test_log_likelihoods_are_those_of_lm_evals_own_model(tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    def measure(model: Any) -> list[tuple[float, bool]]:
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=number)
            for number, pair in enumerate(PAIRS)
        ]
        answers: list[tuple[float, bool]] = model.loglikelihood(requests, disable_tqdm=True)
        return answers

    expected = measure(HFLM(pretrained=str(MODEL), dtype="float32", device="cpu", batch_size=1))
    with serving(MODEL, tmp_path / "log", engine__dtype="float32") as server:
        served = measure(
            LocalCompletionsAPI(
                base_url=f"{server.url}/v1/completions",
                model=MODEL.name,
                tokenizer=str(MODEL),
                tokenizer_backend="huggingface",
                max_length=512,
                num_concurrent=2,
                batch_size=2,
            )
        )
    assert len({round(value, 3) for value, _ in expected}) == len(PAIRS)
    for (ours, greedy), (theirs, wanted) in zip(served, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert greedy == wanted
