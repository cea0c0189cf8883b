"""vLLM as the engine: for models larger than one GPU, and for those that there is no decoder of here.

Its engine is stepped in this process, as ours is, and not in another one of its own: so a step that does not
end is noticed, and nothing outlives the process when that is killed.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from byollm.engine.admission import Limits
from byollm.engine.errors import AdmissionError, EngineError
from byollm.engine.grammar import GrammarCompiler
from byollm.engine.messages import EngineInfo
from byollm.engine.outputs import EngineStats, FinishReason, Output, TokenLogprobs
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.vllm_adapters import VllmAdapters
from byollm.engine.vllm_params import grammar_arguments, read_logprobs, sampling_arguments
from byollm.engine.vllm_stats import StatsReader
from byollm.modeling import Tokenizer
from byollm.settings.engine import EngineSettings

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What vLLM reads when it is imported; the last keeps it from reporting where it runs."""

ENDINGS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}
MISSING = (
    "engine.backend is vllm, and vLLM is not installed: pip install 'byollm[vllm]' into an environment of "
    "its own, or leave the setting out (docs/vllm.md)"
)


@dataclass
class Call:
    """A call that vLLM has not finished.

    Attributes:
        request_id: names it.
        prompt: the prompt's tokens.
        params: as asked.
        arguments: what vLLM is given.
        adapter: what `adapters.find` gave.
        counts: completion tokens so far, of the sequences that go on.
    """

    request_id: str
    prompt: list[int]
    params: SamplingParams
    arguments: tuple[Any, Any]
    adapter: Any
    counts: dict[int, int] = field(default_factory=dict)


class VllmEngine:
    """vLLM's engine with the methods of `Engine`. Not thread-safe: one thread calls it.

    Args:
        engine: vLLM's `LLMEngine`.
        reader: one of its loggers of statistics.
        tokenizer: the model's.
        settings: the engine's.
    """

    def __init__(
        self, engine: Any, reader: StatsReader, tokenizer: Tokenizer, settings: EngineSettings
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._config = engine.vllm_config
        self._eos_ids = list(tokenizer.eos_ids)
        model = self._config.model_config
        # vLLM has made sure that a whole context fits its cache.
        self._limits = Limits(
            vocab_size=model.get_vocab_size(),
            context=model.max_model_len,
            cache_tokens=model.max_model_len,
            max_sequences=self._config.scheduler_config.max_num_seqs + settings.max_waiting,
            has_text=True,
        )
        self._grammars = GrammarCompiler(tokenizer, self._limits.vocab_size)
        self.adapters = VllmAdapters(engine)
        self._calls: dict[str, Call] = {}
        self._readings: dict[str, Any] = {}  # what came of each, None before
        self._refused: list[Output] = []
        self._steps = 0
        self._last_step_seconds = 0.0

    @classmethod
    def load(cls, directory: Path, settings: EngineSettings) -> Self:
        """Load a model directory in Hugging Face's layout.

        Raises:
            ByollmError: vLLM is not installed, or does not take the options or the model.
        """
        tokenizer = Tokenizer.load(directory)
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ModuleNotFoundError as error:
            raise EngineError(MISSING if error.name == "vllm" else f"{MISSING} ({error})") from None
        check_names(settings.vllm, {option.name for option in dataclasses.fields(EngineArgs)})
        reader = StatsReader()
        try:
            arguments = EngineArgs(model=str(directory), **settings.vllm)
            engine = LLMEngine.from_engine_args(arguments, stat_loggers=[lambda config, index: reader])
        except Exception as error:  # its complaints are of many kinds
            logger.exception("vLLM does not start")
            raise EngineError(f"vLLM does not start with this model and engine.vllm: {error}") from None
        return cls(engine, reader, tokenizer, settings)

    @property
    def info(self) -> EngineInfo:
        """What those who ask have to know about it."""
        model = self._config.model_config
        return EngineInfo(
            limits=self._limits,
            family=model.hf_config.model_type,
            parameters=None,
            layers=model.get_total_num_hidden_layers(),
            hidden_size=model.get_hidden_size(),
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(self._config.device_config.device_type),
            embeds=False,
        )

    def is_prepared(self, params: SamplingParams) -> bool:
        """Whether `make_requests` returns at once."""
        return params.grammar is None or self._grammars.cached(params.grammar) is not None

    def make_requests(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        salt: str = "",
        adapter: Any = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Call]:
        """Check a call and return it, to be given to `add`. Safe from any thread.

        A grammar is first compiled where that can be stopped; vLLM then does it again without bounds.

        Raises:
            AdmissionError: it can never be served.
            GrammarError: its grammar is not valid, or too large or too costly.
        """
        from vllm import SamplingParams as VllmParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        grammar = params.grammar
        if grammar is not None:
            self._grammars.compile(grammar, wanted)
        asked = sampling_arguments(params, self._limits.check(prompt_token_ids, params))
        if not params.ignore_eos:
            asked["stop_token_ids"] += self._eos_ids
        if grammar is not None:
            asked["structured_outputs"] = StructuredOutputsParams(**grammar_arguments(grammar))
        prompt = list(prompt_token_ids)
        arguments = (
            tokens_input(prompt, cache_salt=salt or None),
            VllmParams(output_kind=RequestOutputKind.DELTA, **asked),
        )
        return [Call(request_id, prompt, params, arguments, adapter, dict.fromkeys(range(params.n), 0))]

    def add(self, requests: Sequence[Call]) -> None:
        """Queue a call; what vLLM refuses ends with an error in the next step."""
        (call,) = requests
        self._calls[call.request_id] = call
        try:
            self._engine.add_request(call.request_id, *call.arguments, lora_request=call.adapter)
        except ValueError as error:
            logger.warning("vLLM refuses request %s: %s", call.request_id, error)
            blames = None if call.params.grammar is None else "grammar"
            self._refused += self._end(call.request_id, "error", str(error), blames)

    def abort(self, request_id: str) -> list[Output]:
        """End a call now; returns its last outputs, none if it is unknown or finished."""
        if request_id not in self._calls:
            return []
        self._engine.abort_request([request_id])
        return self._end(request_id, "abort")

    def abort_all(self) -> list[Output]:
        """End every call now."""
        return [output for request_id in list(self._calls) for output in self.abort(request_id)]

    def fail_running(self, error: Exception) -> list[Output]:
        """Nothing can be saved: a failed step leaves vLLM's books in any state; its own server ends too."""
        return []

    def has_unfinished(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._calls or self._readings or self._refused)

    def step(self) -> list[Output]:
        """Compute one batch and return its increments."""
        started = time.perf_counter()
        outputs, self._refused = self._refused, []
        if self._calls or self._readings:
            for result in self._engine.step():
                if result.request_id in self._readings:
                    self._readings[result.request_id] = result
                elif (call := self._calls.get(result.request_id)) is not None:
                    outputs += [self._increment(call, result, part) for part in result.outputs]
        self._steps += 1
        self._last_step_seconds = time.perf_counter() - started
        return outputs

    def _increment(self, call: Call, result: Any, part: Any) -> Output:
        token_ids = list(part.token_ids)
        call.counts[part.index] += len(token_ids)
        output = Output(
            call.request_id,
            part.index,
            len(call.prompt),
            call.counts[part.index],
            max(result.num_cached_tokens or 0, 0),
            part.text,
            token_ids,
        )
        if call.params.logprobs is not None:
            output.logprobs = [
                read_logprobs(token, ranked, call.params.logprobs)
                for token, ranked in zip(token_ids, part.logprobs, strict=True)
            ]
        if part.finish_reason is not None:
            output.finish_reason = ENDINGS.get(part.finish_reason, "error")
            if output.finish_reason == "error":
                output.error = f"vLLM ended it with {part.finish_reason!r}"
            if isinstance(part.stop_reason, str) or part.stop_reason in call.params.stop_token_ids:
                output.stop_reason = part.stop_reason
            del call.counts[part.index]
            if not call.counts:
                self._forget(call.request_id)
        return output

    def _end(
        self, request_id: str, reason: FinishReason, error: str | None = None, blames: str | None = None
    ) -> list[Output]:
        """Forget a call, and return the ends of its sequences."""
        call = self._forget(request_id)
        return [
            Output(
                request_id, index, len(call.prompt), count, finish_reason=reason, error=error, blames=blames
            )
            for index, count in call.counts.items()
        ]

    def _forget(self, request_id: str) -> Call:
        call = self._calls.pop(request_id)
        if not self._calls:
            self._reader.idle()
        return call

    def score(
        self, tokens: Sequence[int], top: int, adapter: Any = None
    ) -> Generator[None, None, list[TokenLogprobs]]:
        """Find how probable each token of a text is after those before it, within the steps."""
        from vllm import SamplingParams as VllmParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        params = VllmParams(
            max_tokens=1, prompt_logprobs=top, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        name = f"score-{time.monotonic_ns()}"
        read = list(tokens)
        if len(read) == self._limits.context:  # there is no room for the token that vLLM adds
            raise AdmissionError(f"the text has {len(read)} tokens, and at most {len(read) - 1} can be read")
        self._readings[name] = None
        try:
            self._engine.add_request(name, tokens_input(read), params, lora_request=adapter)
            while self._readings[name] is None:
                yield
            ranked = self._readings[name].prompt_logprobs
        finally:
            if self._readings.pop(name) is None:
                self._engine.abort_request([name])
        return [read_logprobs(token, ranked[place], top) for place, token in enumerate(read) if place > 0]

    def embed(
        self, texts: Sequence[Sequence[int]], adapter: Any = None
    ) -> Generator[None, None, list[bytes]]:
        """Not to be had: `info` says so."""
        raise EngineError("vLLM does not embed with a model that it loaded to generate")

    def stats(self) -> EngineStats:
        """Return counters and gauges."""
        blocks = self._config.cache_config.num_gpu_blocks
        return self._reader.stats(blocks, self._steps, self._last_step_seconds)


def check_names(options: dict[str, Any], known: set[str]) -> None:
    """Refuse options that this version of vLLM does not have.

    Raises:
        EngineError: names the first of them, and one that is spelled alike.
    """
    for name in sorted(set(options) - known):
        close = get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {close[0]}?" if close else "`vllm serve --help` lists them"
        raise EngineError(f"engine.vllm.{name}: the vLLM installed here has no such option; {hint}")
