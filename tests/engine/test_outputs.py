import pickle
from dataclasses import fields

from byollm.engine import Output, TokenLogprobs

WHOLE = Output(
    request_id="a",
    index=1,
    prompt_tokens=4,
    completion_tokens=2,
    cached_tokens=3,
    text="x",
    token_ids=[7],
    logprobs=[TokenLogprobs(7, -0.5, [(7, -0.5)])],
    finish_reason="stop",
    stop_reason="y",
    error="none",
    blames="z",
    seconds=0.5,
)


def test_every_field_outlives_the_way_to_another_process() -> None:
    assert all(getattr(WHOLE, field.name) for field in fields(Output))
    for output in (WHOLE, Output("b", 0, 4, 1, text="x", token_ids=[7]), Output("c", 0, 4, 0, error="why")):
        assert pickle.loads(pickle.dumps(output)) == output
