"""Grammars that an answer has to follow: compiled by xgrammar, in a process that may be killed."""

import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Literal

from byollm.engine.errors import EngineError, GrammarError
from byollm.engine.grammar_process import READY, Verdict, describe_tokens

if TYPE_CHECKING:  # takes seconds to import, and most servers never need it
    import xgrammar

    from byollm.modeling import Tokenizer

MAX_SOURCE = 2**16  # characters
MAX_COMPILED = 2**24  # bytes, of one compiled grammar
CACHE_BYTES = 2**27  # of all that are kept
COMPILE_CPU_S = 5  # seconds of processor time
COMPILE_WALL_S = 15  # a busy machine may need this long to give them
AT_A_TIME = 2  # compilations

GrammarKind = Literal["json_schema", "regex", "ebnf", "structural_tag"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer has to look like.

    Attributes:
        kind: how `source` is written: a JSON schema, a regular expression, xgrammar's EBNF (GBNF), or
            xgrammar's structural tag in JSON.
        source: the grammar itself.
    """

    kind: GrammarKind
    source: str


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A grammar prepared for one vocabulary.

    Attributes:
        handle: xgrammar's own object.
        vocab_size: rows of the model's output matrix.
        size: bytes that it takes.
    """

    handle: "xgrammar.CompiledGrammar"
    vocab_size: int
    size: int


class ForkingProgram:
    """The program that forks a process for each grammar; it is started when the first one comes."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._control: socket.socket | None = None
        self._program: subprocess.Popen[bytes] | None = None

    def connect(self) -> Connection:
        """Return one end of a pipe; at the other is a new process that compiles one grammar."""
        ours, theirs = socket.socketpair()
        with theirs, self._starting:
            try:
                self._control = self._control or self._start()
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            except OSError:  # it was killed; another is started
                self._control = self._start()
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
        return Connection(ours.detach())

    def _start(self) -> socket.socket:
        """Start the program; it ends when the socket returned is closed."""
        ours, theirs = socket.socketpair()
        code = "from byollm.engine.grammar_process import serve; serve()"
        with theirs:
            self._program = subprocess.Popen([sys.executable, "-c", code], stdin=theirs.fileno())
        if ours.recv(len(READY)) != READY:
            raise EngineError("the program that compiles grammars does not start: is xgrammar installed?")
        return ours


_PROGRAM = ForkingProgram()


class GrammarCompiler:
    """Compiles grammars for one vocabulary and keeps those used last.

    A grammar comes from a stranger, and a short one may take for ever and all memory. So it is compiled in a
    process of its own with bounds on both, forked from a program that all compilers share.

    Args:
        tokenizer: knows what each token stands for.
        vocab_size: rows of the model's output matrix; may be more than there are tokens.
    """

    def __init__(self, tokenizer: "Tokenizer", vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._stop_ids = list(tokenizer.eos_ids)
        self._cache: OrderedDict[Grammar, CompiledGrammar] = OrderedDict()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(AT_A_TIME)

    def cached(self, grammar: Grammar) -> CompiledGrammar | None:
        """Return the compiled grammar if it is kept; at once."""
        with self._lock:
            if (found := self._cache.get(grammar)) is not None:
                self._cache.move_to_end(grammar)
            return found

    def compile(self, grammar: Grammar, wanted: Callable[[], bool] = lambda: True) -> CompiledGrammar:
        """Compile a grammar, or return the one kept. Takes up to half a minute: not for an event loop.

        Args:
            grammar: what to compile.
            wanted: asked when its turn has come; where nobody waits any more, nothing is done.

        Raises:
            GrammarError: it is not valid, or too large or too costly to compile.
        """
        if len(grammar.source) > MAX_SOURCE:
            raise GrammarError(f"it has {len(grammar.source)} characters, and at most {MAX_SOURCE} are taken")
        if not self._stop_ids:
            raise GrammarError("this model has no token that ends a text, without which no grammar can end")
        if (found := self.cached(grammar)) is not None:
            return found
        with self._places:
            if (found := self.cached(grammar)) is not None:  # somebody else has just compiled it
                return found
            if not wanted():
                raise GrammarError("nobody waits for it any more")
            compiled = self._restore(self._compile_elsewhere(grammar))
        self._keep(grammar, compiled)
        return compiled

    def _compile_elsewhere(self, grammar: Grammar) -> str:
        task = (grammar.kind, grammar.source, self._vocabulary, self._vocab_size, self._stop_ids)
        verdict: Verdict | None = None
        with _PROGRAM.connect() as pipe:
            try:
                pipe.send((task, COMPILE_CPU_S, COMPILE_WALL_S))
                if pipe.poll(COMPILE_WALL_S):
                    verdict = pipe.recv()
            except (EOFError, OSError):  # it was killed
                pass
        if verdict is None:
            raise GrammarError("it is too complex to compile within the time and memory allowed; simplify it")
        if verdict.error is not None:
            raise GrammarError(verdict.error)
        if len(verdict.compiled) > MAX_COMPILED:
            raise GrammarError("it is too large once compiled; simplify it")
        return verdict.compiled

    def _restore(self, serialised: str) -> CompiledGrammar:
        import xgrammar

        handle = xgrammar.CompiledGrammar.deserialize_json(serialised, self._tokens)
        return CompiledGrammar(handle, self._vocab_size, handle.memory_size_bytes)

    @cached_property
    def _vocabulary(self) -> list[bytes]:
        # Control tokens have no text: in the midst of a grammar they would vanish from the answer.
        return [
            b"" if self._tokenizer.is_special(token) else self._tokenizer.token_bytes(token)
            for token in range(self._tokenizer.vocab_size)
        ]

    @cached_property
    def _tokens(self) -> "xgrammar.TokenizerInfo":
        return describe_tokens(self._vocabulary, self._vocab_size, self._stop_ids)

    def _keep(self, grammar: Grammar, compiled: CompiledGrammar) -> None:
        with self._lock:
            self._cache[grammar] = compiled
            total = sum(kept.size for kept in self._cache.values())
            while total > CACHE_BYTES and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                total -= oldest.size
