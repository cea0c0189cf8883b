"""Tables and the summary of what was measured."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from bench.serve.contenders import Contender
from bench.serve.rounds import ANSWER, PROMPT, Results
from byollm.modeling import DecoderConfig

WEIGHT_BITS = {"bf16": 16, "bfloat16": 16, "fp16": 16, "float32": 32, "int8": 8.5, "q8_0": 8.5}
FOUR_BITS = 4.5  # with a scale of 16 bits for every 32 weights; so 8 bits are 8.5


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def table(title: str, results: Results, config: DecoderConfig, flops: float, bandwidth: float) -> Table:
    """One line for each contender and concurrency."""
    made = Table(
        "concurrent", "contender", "tokens/s", "spread", "first token p50", "p95", "gap p50", "p99",
        "peak memory", "of ceiling", "of our engine", "foreign CPU",
        title=f"{title}: {PROMPT} tokens in, {ANSWER} out, greedy",
    )  # fmt: skip
    shares = engine_shares(results)
    for (contender, requests), runs in results.items():
        share = shares.get(contender.name, {}).get(requests)
        made.add_row(
            str(requests),
            contender.name,
            f"{runs.speed:,.0f}",
            f"{min(runs.speeds):,.0f}-{max(runs.speeds):,.0f}",
            f"{1e3 * percentile(runs.firsts, 0.5):,.1f} ms",
            f"{1e3 * percentile(runs.firsts, 0.95):,.1f} ms",
            f"{1e3 * percentile(runs.gaps, 0.5):,.2f} ms",
            f"{1e3 * percentile(runs.gaps, 0.99):,.2f} ms",
            f"{runs.peak_bytes / 2**20:,.0f} MiB",
            f"{runs.speed / ceiling(contender, requests, config, flops, bandwidth):.0%}",
            "" if share is None else f"{share:.0%}",
            f"{max(runs.foreign):.0%}",
        )
    return made


def ceiling(
    contender: Contender, requests: int, config: DecoderConfig, flops: float, bandwidth: float
) -> float:
    """Tokens/s if a step did nothing but read all weights once, and multiply at the measured peak."""
    products = config.flops_per_token(0) / 2  # weights that a token is multiplied with
    reading = products * WEIGHT_BITS.get(contender.weights, FOUR_BITS) / 8 / bandwidth
    multiplying = requests * config.flops_per_token(PROMPT + ANSWER // 2) / flops
    return requests / max(reading, multiplying)


def ratios(results: Results) -> dict[str, dict[int, float]]:
    """The best of ours over the best peer, by kind of weights and concurrency.

    Where servers were measured, the engine that stands beside them does not count.
    """
    serving = any(contender.serves for contender, _ in results)
    found: dict[str, dict[int, float]] = {}
    for kind, narrow in (("wide", False), ("narrow", True)):
        for requests in dict.fromkeys(requests for _, requests in results):
            speeds: dict[bool, list[float]] = {True: [], False: []}
            for (contender, at), runs in results.items():
                if (at, contender.narrow, contender.serves) == (requests, narrow, serving):
                    speeds[contender.ours].append(runs.speed)
            if speeds[True] and speeds[False]:
                found.setdefault(kind, {})[requests] = round(max(speeds[True]) / max(speeds[False]), 3)
    return found


def engine_shares(results: Results) -> dict[str, dict[int, float]]:
    """What share of our bare engine's speed our server has, by its name and concurrency."""
    bare = {at: runs.speed for (each, at), runs in results.items() if each.ours and not each.serves}
    found: dict[str, dict[int, float]] = {}
    for (contender, requests), runs in results.items():
        if contender.serves and contender.ours and requests in bare:
            found.setdefault(contender.name, {})[requests] = round(runs.speed / bare[requests], 3)
    return found


def summary(results: Results) -> dict[str, Any]:
    """What goes into the last line."""
    detail = [
        {
            "contender": contender.name,
            "concurrent": requests,
            "tokens_per_second": [round(speed, 1) for speed in runs.speeds],
            "first_p95": round(percentile(runs.firsts, 0.95), 4),
            "foreign_cpu": [round(share, 3) for share in runs.foreign],
        }
        for (contender, requests), runs in results.items()
    ]
    return {"ratio_to_best_peer": ratios(results), "share_of_engine": engine_shares(results), "runs": detail}
