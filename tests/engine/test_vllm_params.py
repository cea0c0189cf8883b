"""What vLLM is asked for, and what is read from its answers; vLLM itself is not needed."""

import json
from types import SimpleNamespace

import pytest

from byollm.engine import EngineError, SamplingParams
from byollm.engine.grammar import Grammar
from byollm.engine.vllm_engine import MISSING, VllmEngine, check_names
from byollm.engine.vllm_params import grammar_arguments, read_logprobs, sampling_arguments
from byollm.engine.vllm_stats import StatsReader
from byollm.settings import REPOSITORY
from byollm.settings.engine import EngineSettings


def test_every_parameter_reaches_vllm() -> None:
    params = SamplingParams(
        min_tokens=2,
        temperature=0.5,
        top_k=7,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias={5: 1.5},
        seed=11,
        stop=("end",),
        stop_token_ids=(4,),
        ignore_eos=True,
        logprobs=2,
    )
    arguments = sampling_arguments(params, 20, 0)
    assert arguments == {
        "max_tokens": 20,
        "min_tokens": 2,
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "logit_bias": {5: 1.5},
        "seed": 11,
        "stop": ["end"],
        "stop_token_ids": [4],
        "ignore_eos": True,
        "logprobs": 2,
    }
    ours = SamplingParams.__dataclass_fields__.keys() - {"grammar", "n"}
    assert ours <= arguments.keys(), "a parameter that vLLM is not told of"


def test_a_mass_of_nothing_keeps_the_most_probable_token() -> None:
    arguments = sampling_arguments(SamplingParams(top_p=0, top_k=9), 1, 0)
    assert (arguments["top_k"], arguments["top_p"]) == (1, 1.0)


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 - 1, 0])
def test_each_answer_has_a_seed_of_its_own_that_vllm_and_torch_take(seed: int) -> None:
    taken = [sampling_arguments(SamplingParams(seed=seed, n=3), 1, index)["seed"] for index in range(3)]
    assert len(set(taken)) == 3
    assert all(0 <= each < 2**63 for each in taken)
    assert sampling_arguments(SamplingParams(), 1, 0)["seed"] is None


def test_a_schema_becomes_a_tag_that_bounds_white_space() -> None:
    schema = {"type": "object", "properties": {"a": {"const": "é"}}}
    (name, source), *_ = grammar_arguments(Grammar("json_schema", json.dumps(schema))).items()
    told = json.loads(source)
    assert (name, told["type"], told["format"]["json_schema"]) == ("structural_tag", "structural_tag", schema)
    assert told["format"]["max_whitespace_cnt"] == 1


@pytest.mark.parametrize(("kind", "name"), [("regex", "regex"), ("ebnf", "grammar")])
def test_other_grammars_go_as_they_are(kind: str, name: str) -> None:
    assert grammar_arguments(Grammar(kind, "x")) == {name: "x"}  # type: ignore[arg-type]


def test_alternatives_are_the_best_and_not_the_chosen_token_that_is_none_of_them() -> None:
    ranked = {
        8: SimpleNamespace(logprob=-4.0, rank=30),
        2: SimpleNamespace(logprob=-1.5, rank=2),
        5: SimpleNamespace(logprob=-0.5, rank=1),
    }
    assert read_logprobs(8, ranked, 2) == (8, -4.0, [(5, -0.5), (2, -1.5)])
    assert read_logprobs(8, ranked, 0) == (8, -4.0, [])


def test_what_steps_record_adds_up() -> None:
    reader = StatsReader()
    step = SimpleNamespace(
        num_running_reqs=2,
        num_waiting_reqs=1,
        num_skipped_waiting_reqs=1,
        kv_cache_usage=0.25,
        running_lora_adapters={"loud@2": 1, "loud@1": 1, "quiet@3": 0},
        waiting_lora_adapters={"quiet@3": 1},
        prefix_cache_stats=SimpleNamespace(queries=10, hits=4),
        spec_decoding_stats=SimpleNamespace(num_drafts=1, num_draft_tokens=4, num_accepted_tokens=3),
    )
    tokens = SimpleNamespace(num_preempted_reqs=1, num_prompt_tokens=10, num_generation_tokens=2)
    reader.record(step, tokens, mm_cache_stats=None, engine_idx=0)
    reader.record(step, None)
    reader.record(None, tokens)
    stats = reader.stats(100, 4, 3, 0.5)
    assert (stats.running, stats.waiting, stats.free_blocks, stats.total_blocks) == (2, 2, 75, 100)
    assert (stats.prefix_queries_total, stats.prefix_hits_total, stats.preemptions) == (20, 8, 2)
    assert (stats.prompt_tokens_total, stats.generation_tokens_total, stats.steps_total) == (20, 4, 3)
    assert (stats.drafts_total, stats.draft_tokens_total, stats.accepted_tokens_total) == (2, 8, 6)
    assert (stats.adapter_slots, stats.adapters_running, stats.adapters_waiting) == (4, ("loud",), ("quiet",))
    reader.idle()
    stats = reader.stats(100, 4, 3, 0.5)
    assert (stats.running, stats.waiting, stats.free_blocks) == (0, 0, 100)


def test_an_option_that_vllm_does_not_have_is_named_with_the_closest() -> None:
    check_names({"seed": 1}, {"seed", "tensor_parallel_size"})
    with pytest.raises(
        EngineError, match=r"engine\.vllm\.tensor_paralel_size.*did you mean tensor_parallel_size"
    ):
        check_names({"tensor_paralel_size": 2}, {"seed", "tensor_parallel_size"})
    with pytest.raises(EngineError, match="vllm serve --help"):
        check_names({"zzz": 2}, {"seed"})


def test_where_vllm_is_missing_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    with pytest.raises(EngineError) as raised:
        VllmEngine.load(REPOSITORY / "models" / "byollm-tiny", EngineSettings(backend="vllm"))
    assert MISSING in str(raised.value)
    assert "pip install 'byollm[vllm]'" in MISSING
