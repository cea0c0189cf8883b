"""Prometheus metrics under vLLM's names, with `byollm:` for `vllm:`: its dashboards need one substitution."""

from collections.abc import Callable, Iterator
from time import monotonic, time

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from byollm.engine import EngineStats, Output

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 480)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
LABEL = "model_name"


class Metrics:
    """All metrics of one server.

    Args:
        model_name: stands on each of the model's series.
        stats: reads the engine's counters; None while there is no engine.
    """

    def __init__(self, model_name: str, stats: Callable[[], EngineStats | None]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(model_name, stats))
        ProcessCollector(registry=self._registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            family = Histogram(f"byollm:{name}", what, [LABEL], buckets=buckets, registry=self._registry)
            return family.labels(model_name)

        self.first_token = histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", SECONDS
        )
        self.inter_token = histogram(
            "inter_token_latency_seconds", "Between two tokens of an answer.", SECONDS
        )
        self.latency = histogram(
            "e2e_request_latency_seconds", "From arrival to the end of the answer.", SECONDS
        )
        self.prompt_tokens = histogram("request_prompt_tokens", "Prompt tokens of a request.", TOKENS)
        self.generation_tokens = histogram(
            "request_generation_tokens", "Tokens generated for a request.", TOKENS
        )
        success = Counter(
            "byollm:request_success",
            "Answers by how they ended.",
            [LABEL, "finished_reason"],
            registry=self._registry,
        )
        self._success = {reason: success.labels(model_name, reason) for reason in ("stop", "length")}
        failure = Counter(
            "byollm:request_failure",
            "Generating requests without a complete answer, by reason.",
            [LABEL, "reason"],
            registry=self._registry,
        )
        self._failure = {
            reason: failure.labels(model_name, reason)
            for reason in ("refused", "overloaded", "disconnected", "timeout", "error")
        }
        self._responses = Counter(
            "byollm:http_responses",
            "HTTP responses by route and status.",
            ["route", "status"],
            registry=self._registry,
        )

    def finished(self, reason: str) -> None:
        """Count a complete answer."""
        self._success[reason].inc()

    def failed(self, reason: str) -> None:
        """Count a request that got none."""
        self._failure[reason].inc()

    def responded(self, route: str, status: int) -> None:
        """Count an HTTP response."""
        self._responses.labels(route, str(status)).inc()

    def exposition(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)


class RequestTimer:
    """Times one request from its arrival.

    Args:
        metrics: where the times go.
        choices: how many answers it asks for.
        arrival: when it came, by the monotonic clock.
    """

    def __init__(self, metrics: Metrics, choices: int, arrival: float) -> None:
        self._metrics = metrics
        self._arrival = arrival
        self._last: list[float | None] = [None] * choices

    def output(self, choice: int, output: Output) -> None:
        """Note an increment of an answer."""
        if not output.token_ids:
            return
        now = monotonic()
        last, tokens = self._last[choice], len(output.token_ids)
        if last is None:  # the first of them came `output.seconds` ago
            last, tokens = now - output.seconds, tokens - 1
            if not any(self._last):
                self._metrics.first_token.observe(last - self._arrival)
        for _ in range(tokens):
            self._metrics.inter_token.observe((now - last) / tokens)
        self._last[choice] = now

    def end(self, prompt_tokens: int, generation_tokens: int) -> None:
        """Note the end of all answers."""
        self._metrics.latency.observe(monotonic() - self._arrival)
        self._metrics.prompt_tokens.observe(prompt_tokens)
        self._metrics.generation_tokens.observe(generation_tokens)


class EngineCollector(Collector):
    """Reads the engine's own counters when it is scraped, at no cost in between."""

    def __init__(self, model_name: str, stats: Callable[[], EngineStats | None]) -> None:
        self._model_name = model_name
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yield the families; none while the model loads."""
        stats = self._stats()
        if stats is None:
            return
        used = 1 - stats.free_blocks / stats.total_blocks
        gauges = [
            ("num_requests_running", "Sequences that hold cache blocks.", stats.running),
            ("num_requests_waiting", "Sequences that wait for room.", stats.waiting),
            ("kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", used),
            ("engine_peak_memory_bytes", "Most memory the engine's process held.", stats.peak_memory_bytes),
        ]
        counters = [
            ("num_preemptions", "Times a running sequence gave its blocks back.", stats.preemptions),
            ("prompt_tokens", "Prompt tokens read.", stats.prompt_tokens_total),
            ("generation_tokens", "Tokens generated.", stats.generation_tokens_total),
            ("prefix_cache_queries", "Tokens looked up in the prefix cache.", stats.prefix_queries_total),
            ("prefix_cache_hits", "Tokens found in the prefix cache.", stats.prefix_hits_total),
            ("spec_decode_num_drafts", "Drafts of how an answer goes on.", stats.drafts_total),
            ("spec_decode_num_draft_tokens", "Tokens guessed in drafts.", stats.draft_tokens_total),
            ("spec_decode_num_accepted_tokens", "Tokens guessed right.", stats.accepted_tokens_total),
            ("engine_steps", "Steps the engine ran.", stats.steps_total),
        ]
        for name, what, value in gauges:
            gauge = GaugeMetricFamily(f"byollm:{name}", what, labels=[LABEL])
            gauge.add_metric([self._model_name], value)
            yield gauge
        yield _lora_info(stats)
        for name, what, value in counters:
            counter = CounterMetricFamily(f"byollm:{name}", what, labels=[LABEL])
            counter.add_metric([self._model_name], value)
            yield counter


def _lora_info(stats: EngineStats) -> Metric:
    """vLLM's gauge of adapters in use: labels say which, and the value is the time."""
    gauge = GaugeMetricFamily(
        "byollm:lora_requests_info",
        "Adapters of the running and the waiting sequences; the value is when it was read.",
        labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    )
    running, waiting = (",".join(sorted(n)) for n in (stats.adapters_running, stats.adapters_waiting))
    gauge.add_metric([str(stats.adapter_slots), running, waiting], time())
    return gauge
