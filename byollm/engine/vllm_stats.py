"""What vLLM tells of itself, as the engine's counters and gauges."""

from collections.abc import Mapping
from resource import RUSAGE_SELF, getrusage
from typing import Any

from byollm.engine.outputs import EngineStats


class StatsReader:
    """Adds up what vLLM records after each step; it has the methods of vLLM's loggers of statistics."""

    def __init__(self) -> None:
        self._running = self._waiting = self._preemptions = 0
        self._usage = 0.0
        self._adapters_running: tuple[str, ...] = ()
        self._adapters_waiting: tuple[str, ...] = ()
        self._prompt_tokens = self._generation_tokens = 0
        self._queries = self._hits = 0
        self._drafts = self._drafted = self._accepted = 0

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        """Take in one step; either may be None."""
        if scheduler_stats is not None:
            self._running = scheduler_stats.num_running_reqs
            self._waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            self._usage = scheduler_stats.kv_cache_usage
            self._adapters_running = _names(scheduler_stats.running_lora_adapters)
            self._adapters_waiting = _names(scheduler_stats.waiting_lora_adapters)
            self._queries += scheduler_stats.prefix_cache_stats.queries
            self._hits += scheduler_stats.prefix_cache_stats.hits
            if (drafts := scheduler_stats.spec_decoding_stats) is not None:
                self._drafts += drafts.num_drafts
                self._drafted += drafts.num_draft_tokens
                self._accepted += drafts.num_accepted_tokens
        if iteration_stats is not None:
            self._preemptions += iteration_stats.num_preempted_reqs
            self._prompt_tokens += iteration_stats.num_prompt_tokens
            self._generation_tokens += iteration_stats.num_generation_tokens

    def log_engine_initialized(self) -> None:
        """Nothing is to be logged."""

    def log(self) -> None:
        """Nothing is to be logged."""

    def idle(self) -> None:
        """Note that nothing runs any more; vLLM records only what is seen in a step."""
        self._running = self._waiting = 0
        self._usage = 0.0
        self._adapters_running = self._adapters_waiting = ()

    def stats(self, blocks: int, slots: int, steps: int, last_step_seconds: float) -> EngineStats:
        """Return what has come together.

        Args:
            blocks: of the cache.
            slots: for adapters.
            steps: how many were run.
            last_step_seconds: how long the last took.
        """
        return EngineStats(
            running=self._running,
            waiting=self._waiting,
            free_blocks=round(blocks * (1 - self._usage)),
            total_blocks=blocks,
            preemptions=self._preemptions,
            prompt_tokens_total=self._prompt_tokens,
            generation_tokens_total=self._generation_tokens,
            steps_total=steps,
            last_step_seconds=last_step_seconds,
            prefix_queries_total=self._queries,
            prefix_hits_total=self._hits,
            drafts_total=self._drafts,
            draft_tokens_total=self._drafted,
            accepted_tokens_total=self._accepted,
            peak_memory_bytes=getrusage(RUSAGE_SELF).ru_maxrss * 1024,
            adapter_slots=slots,
            adapters_running=self._adapters_running,
            adapters_waiting=self._adapters_waiting,
        )


def _names(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Names of adapters, without the versions that `VllmAdapters` adds."""
    return tuple(sorted({name.rpartition("@")[0] for name, count in counts.items() if count}))
