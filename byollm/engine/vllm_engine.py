"""vLLM as the engine: for models larger than one GPU, and for those that there is no decoder of here.

Its engine is stepped in this process, as ours is, and not in another one of its own: so a step that does not
end is noticed, and nothing outlives the process when that is killed.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, Self

from byollm.engine.admission import Limits
from byollm.engine.errors import EngineError
from byollm.engine.grammar import GrammarCompiler
from byollm.engine.messages import EngineInfo
from byollm.engine.outputs import EngineStats, Output, TokenLogprobs
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.vllm_adapters import VllmAdapters
from byollm.engine.vllm_params import grammar_arguments, read_logprobs, sampling_arguments
from byollm.engine.vllm_request import VllmRequest
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

MISSING = (
    "engine.backend is vllm, and vLLM is not installed: pip install 'byollm[vllm]' into an environment of "
    "its own, or leave the setting out (docs/vllm.md)"
)


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
        engine.model_executor.register_failure_callback(end_process)
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
        self._running: dict[str, VllmRequest] = {}  # by vLLM's names, those waiting too
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
        os.environ.update(ENVIRONMENT)
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
    ) -> list[VllmRequest]:
        """Check a call and return its n sequences, to be given to `add`. Safe from any thread.

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
        max_tokens = self._limits.check(prompt_token_ids, params)
        structured = None if grammar is None else StructuredOutputsParams(**grammar_arguments(grammar))
        endings = [] if params.ignore_eos else self._eos_ids
        prompt = list(prompt_token_ids)
        requests = []
        for index in range(params.n):
            asked = sampling_arguments(params, max_tokens, index)
            asked["stop_token_ids"] += endings
            arguments = VllmParams(
                output_kind=RequestOutputKind.DELTA, structured_outputs=structured, **asked
            )
            whole = tokens_input(prompt, cache_salt=salt or None)
            requests.append(VllmRequest(request_id, index, params, whole, arguments, adapter, len(prompt)))
        return requests

    def add(self, requests: Sequence[VllmRequest]) -> None:
        """Queue the sequences of one call; one that vLLM refuses ends with an error in the next step."""
        for request in requests:
            try:
                self._engine.add_request(
                    request.name, request.prompt, request.arguments, lora_request=request.adapter
                )
            except ValueError as error:
                logger.warning("vLLM refuses request %s: %s", request.name, error)
                blames = None if request.params.grammar is None else "grammar"
                self._refused.append(request.ending("error", str(error), blames))
            else:
                self._running[request.name] = request

    def abort(self, request_id: str) -> list[Output]:
        """End a call now; returns its last outputs, none if it is unknown or finished."""
        ended = [request for request in self._running.values() if request.request_id == request_id]
        self._engine.abort_request([request.name for request in ended])
        for request in ended:
            self._forget(request)
        return [request.ending("abort") for request in ended]

    def abort_all(self) -> list[Output]:
        """End every call now."""
        calls = dict.fromkeys(request.request_id for request in self._running.values())
        return [output for request_id in calls for output in self.abort(request_id)]

    def fail_running(self, error: Exception) -> NoReturn:
        """End the process: a failed step leaves vLLM's books in any state, and its own server ends too."""
        end_process()

    def has_unfinished(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._running or self._readings or self._refused)

    def step(self) -> list[Output]:
        """Compute one batch and return an increment for each sequence that got a token."""
        started = time.perf_counter()
        outputs, self._refused = self._refused, []
        for result in self._engine.step() if self._running or self._readings else ():
            if result.request_id in self._readings:
                self._readings[result.request_id] = result
            elif (request := self._running.get(result.request_id)) is not None:
                outputs.append(request.increment(result))
                if outputs[-1].finish_reason is not None:
                    self._forget(request)
        self._steps += 1
        self._last_step_seconds = time.perf_counter() - started
        return outputs

    def _forget(self, request: VllmRequest) -> None:
        del self._running[request.name]
        if not self._running:
            self._reader.idle()

    def score(
        self, tokens: Sequence[int], top: int, adapter: Any = None
    ) -> Generator[None, None, list[TokenLogprobs]]:
        """Find how probable each token of a text is after those before it, within the steps.

        The last token is left out and then "generated", as the only one allowed: vLLM tells both kinds by the
        model's raw distribution, and no more tokens have to find room in the context.
        """
        from vllm import SamplingParams as VllmParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        *read, last = tokens
        if not read:
            return []
        params = VllmParams(
            temperature=0,
            max_tokens=1,
            allowed_token_ids=[last],
            logprobs=top,
            prompt_logprobs=top,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"score-{time.monotonic_ns()}"
        self._readings[name] = None
        try:
            self._engine.add_request(name, tokens_input(read), params, lora_request=adapter)
            while self._readings[name] is None:
                yield
            result = self._readings[name]
        finally:
            if self._readings.pop(name) is None:
                self._engine.abort_request([name])
        ranked = [*result.prompt_logprobs[1:], *result.outputs[0].logprobs]
        return [read_logprobs(token, each, top) for token, each in zip(tokens[1:], ranked, strict=True)]

    def embed(
        self, texts: Sequence[Sequence[int]], adapter: Any = None
    ) -> Generator[None, None, list[bytes]]:
        """Not to be had: `info` says so."""
        raise EngineError("vLLM does not embed with a model that it loaded to generate")

    def stats(self) -> EngineStats:
        """Return counters and gauges."""
        blocks = self._config.cache_config.num_gpu_blocks
        slots = self._config.lora_config.max_loras if self._config.lora_config else 0
        return self._reader.stats(blocks, slots, self._steps, self._last_step_seconds)


def end_process() -> NoReturn:
    """End this process at once; those that vLLM started notice it, and would keep it from ending in order."""
    logger.critical("vLLM has failed and cannot go on: the engine's process ends")
    os._exit(1)


def check_names(options: dict[str, Any], known: set[str]) -> None:
    """Refuse options that this version of vLLM does not have.

    Raises:
        EngineError: names the first of them, and one that is spelled alike.
    """
    for name in sorted(set(options) - known):
        close = get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {close[0]}?" if close else "`vllm serve --help` lists them"
        raise EngineError(f"engine.vllm.{name}: the vLLM installed here has no such option; {hint}")
