"""The engine: requests in, increments of text out, one step at a time."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Self

import torch
from torch import Tensor

from byollm.engine.adapters import Adapters, LoadedAdapter
from byollm.engine.admission import Limits
from byollm.engine.block_pool import BlockPool
from byollm.engine.device import choose_device, choose_dtype
from byollm.engine.errors import AdmissionError, GrammarError
from byollm.engine.grammar import CompiledGrammar, Grammar, GrammarCompiler
from byollm.engine.grammar_state import GrammarState, GrammarWorker
from byollm.engine.kv_cache import BLOCK_SIZE, choose_num_blocks
from byollm.engine.messages import EngineInfo
from byollm.engine.outputs import EngineStats, FinishReason, Output, TokenLogprobs
from byollm.engine.overlap import Overlap
from byollm.engine.reader import Gradual, embed, score
from byollm.engine.request import Request
from byollm.engine.runner import make_runner
from byollm.engine.sampler import Sample, sample_ahead
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.scheduler import Chunk, Scheduler
from byollm.engine.speculation import Drafter
from byollm.engine.step import Failure, Run, compute, failure_of, wipe
from byollm.engine.text_stream import TextStream
from byollm.engine.uniform import fold_index
from byollm.modeling import Decoder, IncrementalDetokenizer, Tokenizer, load_adapter, load_decoder
from byollm.settings.engine import EngineSettings

logger = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one model. Not thread-safe: one thread calls it (see `AsyncEngine`).

    Args:
        decoder: the model, already on its device and of its dtype; the cache takes after it.
        tokenizer: gives text and end-of-text ids; without one, answers are token ids only.
        settings: sizes and budgets.
        model_name: what the model calls itself.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer | None,
        settings: EngineSettings,
        model_name: str = "model",
    ) -> None:
        config = decoder.config
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.max_context = min(settings.max_context or config.max_positions, config.max_positions)
        blocks = choose_num_blocks(config, settings, self.max_context, decoder.dtype, decoder.device)
        self.limits = Limits(
            vocab_size=config.vocab_size,
            context=self.max_context,
            cache_tokens=blocks * BLOCK_SIZE,
            max_sequences=settings.max_running + settings.max_waiting,
            has_text=tokenizer is not None,
        )
        self.scheduler = Scheduler(
            BlockPool(blocks, BLOCK_SIZE),
            settings.max_running,
            settings.max_batch_tokens,
            settings.prefix_caching,
            settings.adapter_slots,
        )
        self.runner = make_runner(decoder, blocks, settings)
        self._overlap = Overlap(self.runner, self.scheduler)
        self.adapters = Adapters(
            self.scheduler.slots,
            settings.max_adapters,
            lambda directory, name: load_adapter(directory, config, name, settings.max_adapter_rank),
            self.runner.set_adapter,
        )
        self._asked: Counter[str] = Counter()  # unfinished sequences by the name of their adapter
        most = settings.speculative_tokens if settings.speculative == "auto" else 0
        self._drafter = Drafter(most, settings.speculative_match)
        self._read_chunk = settings.max_batch_tokens
        self._grammars = None if tokenizer is None else GrammarCompiler(tokenizer, config.vocab_size)
        self._masks = GrammarWorker()
        self._eos_ids = frozenset(tokenizer.eos_ids) if tokenizer is not None else frozenset[int]()
        self._unfinished: dict[str, list[Request]] = {}
        self._prompt_tokens_total = self._generation_tokens_total = self._steps_total = 0
        self._last_step_seconds = 0.0

    @classmethod
    def load(cls, model_directory: Path, settings: EngineSettings) -> Self:
        """Load a model directory in Hugging Face's layout, with its tokenizer.

        Raises:
            ByollmError: the directory, the settings or the machine do not allow it; the message says which.
        """
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = choose_device(settings)
        decoder = load_decoder(model_directory, choose_dtype(settings, device), device)
        return cls(decoder, Tokenizer.load(model_directory), settings, model_directory.resolve().name)

    @property
    def info(self) -> EngineInfo:
        """What those who ask have to know about it."""
        config = self.runner.config
        return EngineInfo(
            limits=self.limits,
            family=config.family,
            parameters=config.num_parameters(),
            layers=config.layers,
            hidden_size=config.hidden_size,
            dtype=str(self.runner.dtype).removeprefix("torch."),
            device=str(self.runner.device),
        )

    def is_prepared(self, params: SamplingParams) -> bool:
        """Whether `make_requests` returns at once: there is no grammar, or it was compiled before."""
        if params.grammar is None or self._grammars is None:
            return True
        return self._grammars.cached(params.grammar) is not None

    def make_requests(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        salt: str = "",
        adapter: LoadedAdapter | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Request]:
        """Check a call and return its n sequences, to be given to `add`. Safe from any thread.

        They keep the version of their adapter, as `adapters.find` gave it, to their end.

        Calls share the cache of common beginnings only where their `salt` is equal. A grammar that was not
        compiled before takes up to half a minute, unless `wanted` says that nobody waits any more.

        Raises:
            AdmissionError: it can never be served.
            GrammarError: its grammar is not valid, or too large or too costly.
        """
        grammar = None if params.grammar is None else self._compile(params.grammar, wanted)
        max_tokens = self.limits.check(prompt_token_ids, params)
        endings = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self._eos_ids)
        seed = secrets.randbits(64) if params.seed is None else params.seed
        return [
            Request(
                request_id=request_id,
                index=index,
                tokens=list(prompt_token_ids),
                prompt_length=len(prompt_token_ids),
                params=params,
                seed=fold_index(seed, index),
                max_tokens=max_tokens,
                text=self._text_stream(params.stop),
                endings=tuple(endings),
                grammar=None if grammar is None else GrammarState(grammar, self._masks),
                salt=salt,
                adapter=adapter,
            )
            for index in range(params.n)
        ]

    def _compile(self, grammar: Grammar, wanted: Callable[[], bool]) -> CompiledGrammar:
        if self._grammars is None:
            raise GrammarError("it needs a tokenizer, and this model has none")
        return self._grammars.compile(grammar, wanted)

    def add(self, requests: Sequence[Request]) -> None:
        """Queue the sequences of one call."""
        self._unfinished[requests[0].request_id] = list(requests)
        for request in requests:
            self.scheduler.add(request)
            if request.adapter is not None:
                self._asked[request.adapter.name] += 1

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        salt: str = "",
        adapter: str | None = None,
    ) -> None:
        """Check and queue one call, for the model with the adapter of this name if one is given.

        Raises:
            AdmissionError: it can never be served, the queue is full, or the id is in use or the adapter not.
        """
        if request_id in self._unfinished:
            raise AdmissionError(
                f"a request with the id {request_id!r} is running: choose another", "request_id"
            )
        self.limits.check_room(len(self.scheduler.running) + len(self.scheduler.waiting), params.n)
        self.add(self.make_requests(request_id, prompt_token_ids, params, salt, self.adapters.find(adapter)))

    def abort(self, request_id: str) -> list[Output]:
        """End a call now and free its blocks; returns its last outputs, none if it is unknown or finished."""
        return [self._abort(request) for request in list(self._unfinished.get(request_id, ()))]

    def abort_all(self) -> list[Output]:
        """End every call now."""
        return [output for request_id in list(self._unfinished) for output in self.abort(request_id)]

    def fail_running(self, error: Exception) -> list[Output]:
        """End every sequence that holds blocks with finish_reason "error"; those waiting stay."""
        return [self._fail(request, failure_of(error)) for request in list(self.scheduler.running)]

    def has_unfinished(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._unfinished)

    def step(self) -> list[Output]:
        """Compute one batch and return an increment for each sequence that got a token.

        A request whose computation fails ends with finish_reason "error"; the others go on.
        """
        started = time.perf_counter()
        drafts = self._drafter.propose(self.scheduler.running)
        runs = self._overlap.land() if drafts or not self.scheduler.roomy else []
        outputs = self._postprocess(runs)
        if runs:  # what there was to quote has grown
            drafts = self._drafter.propose(self.scheduler.running)
        chunks = self.scheduler.schedule(drafts, self._overlap.chunks)
        for adapter, error in self.adapters.fill():
            guilty = [request for request in self.scheduler.running if request.adapter is adapter]
            outputs += [self._fail(request, failure_of(error)) for request in guilty]
            chunks = [chunk for chunk in chunks if chunk.request.adapter is not adapter]
            self.scheduler.slots.vacate(adapter)
        self._overlap.launch(chunks)
        outputs += self._postprocess(self._overlap.land())
        outputs += self._postprocess(compute(self.runner, self.scheduler, self._overlap.follow(chunks)))
        self._steps_total += 1
        self._last_step_seconds = time.perf_counter() - started
        return outputs

    def score(
        self, tokens: Sequence[int], top: int, adapter: LoadedAdapter | None = None
    ) -> Gradual[list[TokenLogprobs]]:
        """Find how probable each token of a text is after those before it, beside the steps."""
        return self.adapters.reading(adapter, partial(score, self.runner, tokens, top, self._read_chunk))

    def embed(
        self, texts: Sequence[Sequence[int]], adapter: LoadedAdapter | None = None
    ) -> Gradual[list[bytes]]:
        """Embed texts, beside the steps."""
        return self.adapters.reading(adapter, partial(embed, self.runner, texts, self._read_chunk))

    def stats(self) -> EngineStats:
        """Return counters and gauges. Safe from any thread."""
        pool = self.scheduler.pool
        return EngineStats(
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            free_blocks=pool.num_free,
            total_blocks=pool.num_blocks,
            preemptions=self.scheduler.preemptions,
            prompt_tokens_total=self._prompt_tokens_total,
            generation_tokens_total=self._generation_tokens_total,
            steps_total=self._steps_total,
            last_step_seconds=self._last_step_seconds,
            prefix_queries_total=self.scheduler.prefix_queries,
            prefix_hits_total=self.scheduler.prefix_hits,
            drafts_total=self._drafter.drafts,
            draft_tokens_total=self._drafter.drafted,
            accepted_tokens_total=self._drafter.right,
            peak_memory_bytes=getrusage(RUSAGE_SELF).ru_maxrss * 1024,
            adapter_slots=self.scheduler.slots.size,
            adapters_running=tuple(held := self.scheduler.slots.held()),
            adapters_waiting=tuple(name for name, asked in list(self._asked.items()) if asked > held[name]),
        )

    def _text_stream(self, stops: tuple[str, ...]) -> TextStream:
        if self.tokenizer is None:
            return TextStream(None)
        # The answer continues the prompt, so a space at its beginning is part of it.
        return TextStream(IncrementalDetokenizer(self.tokenizer, continues=True), stops)

    def _postprocess(self, runs: Sequence[Run]) -> list[Output]:
        outputs = []
        for chunk, result, ahead in runs:
            if result is None:
                chunk.request.computed = chunk.end
                continue
            output = self._advance(chunk.request, result)
            if ahead is not None:
                self._verify(chunk, ahead, output)
            outputs.append(output)
        return outputs

    def _verify(self, chunk: Chunk, ahead: Tensor, output: Output) -> None:
        """Let a sequence go on for as long as the token chosen is the one that its draft assumed.

        Each token is chosen from its logits, with its own random numbers, as if it had a step to itself; so
        drafts change nothing but how many tokens a step yields. What fails here is left to the next step.

        Args:
            chunk: the sequence and its draft.
            ahead: logits (drafted, vocab) after each token of the draft.
            output: what the step has yielded so far; becomes all of it.
        """
        request = chunk.request
        following = sample_ahead(ahead, request)
        for guess in chunk.draft:
            if output.finish_reason is not None or guess != request.tokens[-1]:
                break
            chosen = next(following)
            if chosen is None:
                break
            output.merge(self._advance(request, chosen))
        right = max(0, len(output.token_ids) - 1)
        self._drafter.learn(request, len(chunk.draft), right)
        if output.finish_reason is None:
            if not ahead[right:].sum().isfinite():  # nor is then what wrong guesses left in the cache
                wipe(self.runner, request)
            self.scheduler.trim(request)

    def _advance(self, request: Request, result: Sample | Failure) -> Output:
        """Go on with a sequence whose known tokens are all computed."""
        if isinstance(result, Failure):
            return self._fail(request, result)
        request.computed = len(request.tokens)
        self.scheduler.publish(request)
        try:
            return self._accept(request, result)
        except Exception as error:
            logger.exception("request %s failed", request.request_id)
            return self._fail(request, failure_of(error))

    def _accept(self, request: Request, result: Sample) -> Output:
        """Add a chosen token to its sequence, and end the sequence if that token does."""
        token, logprobs = result
        count = request.completion_tokens + 1
        if count == 1:
            self._prompt_tokens_total += request.prompt_length
        self._generation_tokens_total += 1
        request.append(token)
        text = ""
        finish_reason: FinishReason | None = None
        stop_reason: str | int | None = None
        if token in request.endings:
            finish_reason = "stop"
            stop_reason = token if token in request.params.stop_token_ids else None
        else:
            text, stop_reason = request.text.push(token, count > request.params.min_tokens)
            if stop_reason is not None:
                finish_reason = "stop"
            elif count == request.max_tokens:
                finish_reason = "length"
        if finish_reason is not None:
            if not isinstance(stop_reason, str):
                text += request.text.flush()
            self._finish(request)
        return Output(
            request.request_id,
            request.index,
            request.prompt_length,
            count,
            request.cached or 0,
            text,
            [token],
            None if logprobs is None else [logprobs],
            finish_reason,
            stop_reason,
        )

    def _abort(self, request: Request) -> Output:
        output = request.ending("abort")
        output.text = request.text.flush()
        self._finish(request)
        return output

    def _fail(self, request: Request, failure: Failure) -> Output:
        # They may hold numbers that are not finite. Another who holds one of them finds that out by itself.
        self.runner.cache.clear(self.scheduler.discard(request))
        self._forget(request)
        output = request.ending("error")
        output.error, output.blames = failure.reason, failure.blames
        return output

    def _finish(self, request: Request) -> None:
        self.scheduler.remove(request)
        self._forget(request)

    def _forget(self, request: Request) -> None:
        if request.adapter is not None:
            self._asked -= Counter([request.adapter.name])  # none is left at zero
        siblings = self._unfinished[request.request_id]
        siblings.remove(request)
        if not siblings:
            del self._unfinished[request.request_id]
