"""Sampling parameters in vLLM's terms, and its log-probabilities in ours."""

import json
from collections.abc import Mapping
from typing import Any

from byollm.engine.grammar import Grammar
from byollm.engine.outputs import TokenLogprobs
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.uniform import fold_index

SEEDS = 2**63  # vLLM takes -1 for none, and keeps seeds in 64 bits with a sign


def sampling_arguments(params: SamplingParams, max_tokens: int, index: int) -> dict[str, Any]:
    """The arguments of vLLM's `SamplingParams`, but for the grammar and the kind of output.

    Args:
        params: what was asked.
        max_tokens: most tokens of an answer.
        index: which of the n answers.
    """
    # vLLM refuses top_p 0, which keeps the most probable token.
    top_k, top_p = (params.top_k, params.top_p) if params.top_p > 0 else (1, 1.0)
    return {
        "max_tokens": max_tokens,
        "min_tokens": params.min_tokens,
        "temperature": params.temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "logit_bias": dict(params.logit_bias) or None,
        "seed": None if params.seed is None else fold_index(params.seed, index) % SEEDS,
        "stop": list(params.stop),
        "stop_token_ids": list(params.stop_token_ids),
        "ignore_eos": params.ignore_eos,
        "logprobs": params.logprobs,
    }


def grammar_arguments(grammar: Grammar) -> dict[str, str]:
    """The argument of vLLM's `StructuredOutputsParams`."""
    if grammar.kind == "json_schema":
        # As a tag, since there white space can be bounded: small models lose themselves in it.
        schema = {"type": "json_schema", "json_schema": json.loads(grammar.source), "max_whitespace_cnt": 1}
        return {"structural_tag": json.dumps({"type": "structural_tag", "format": schema})}
    names = {"regex": "regex", "ebnf": "grammar", "structural_tag": "structural_tag"}
    return {names[grammar.kind]: grammar.source}


def read_logprobs(token_id: int, ranked: Mapping[int, Any], top: int) -> TokenLogprobs:
    """Read vLLM's log-probabilities at one token.

    Args:
        token_id: the token that stands there.
        ranked: vLLM's entries by token: the `top` most probable ones, and this one if it is none of them.
        top: see above.
    """
    best = sorted(ranked.items(), key=lambda entry: entry[1].rank)[:top]
    return TokenLogprobs(
        token_id, ranked[token_id].logprob, [(token, entry.logprob) for token, entry in best]
    )
