"""Compiles grammars, each in a process of its own that may die of it.

`serve` runs in a program of its own. It imports what is slow to import, and then forks a child for each
grammar: it is sent sockets, and each child speaks over one of them.
"""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import xgrammar

READY = b"."
MEMORY = 2**30  # bytes that compiling may add
LONGEST_ERROR = 300
LONGEST_NAMED = 100

Task = tuple[str, str, list[bytes], int, list[int]]
"""Kind and source of the grammar, vocabulary, size of the vocabulary, stop ids."""


class Verdict(NamedTuple):
    """The compiled grammar in xgrammar's JSON, or what is wrong with the source."""

    compiled: str
    error: str | None


def serve() -> None:
    """Fork a child for each socket that comes over standard input, until the other side is gone."""
    control = socket.socket(fileno=sys.stdin.fileno())
    import xgrammar  # noqa: F401 (the children have it then)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the engine decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    control.sendall(READY)
    while received := socket.recv_fds(control, 1, 1)[1]:
        if os.fork() == 0:
            control.close()
            _answer(Connection(received[0]))
            os._exit(0)
        os.close(received[0])


def _answer(pipe: Connection) -> None:
    """Compile what is asked for and send a `Verdict`; the process dies instead when that takes too much."""
    task, cpu_s, wall_s = pipe.recv()
    # The library warns on standard error, in the words of the source: no log is to say what was asked.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    _limit(cpu_s, wall_s)
    pipe.send(_compile(task))


def describe_tokens(
    vocabulary: Sequence[bytes], vocab_size: int, stop_ids: Sequence[int]
) -> "xgrammar.TokenizerInfo":
    """Tell xgrammar what each token stands for."""
    import xgrammar

    return xgrammar.TokenizerInfo(
        list(vocabulary), xgrammar.VocabType.RAW, vocab_size=vocab_size, stop_token_ids=list(stop_ids)
    )


def _compile(task: Task) -> Verdict:
    import xgrammar

    kind, source, vocabulary, vocab_size, stop_ids = task
    tokens = describe_tokens(vocabulary, vocab_size, stop_ids)
    compiler = xgrammar.GrammarCompiler(tokens, max_threads=1, cache_enabled=False)
    try:
        if kind in ("json_schema", "structural_tag") and (where := _foreign_reference(json.loads(source))):
            return Verdict(
                "", f"$ref: only places in the schema itself ('#/...') can be referred to, not {where}"
            )
        match kind:
            case "json_schema":
                # Small models lose themselves in white space where they are free to write it.
                compiled = compiler.compile_json_schema(source, any_whitespace=False)
            case "regex":
                compiled = compiler.compile_regex(source)
            case "structural_tag":
                compiled = compiler.compile_structural_tag(source)
            case _:
                compiled = compiler.compile_grammar(source)
        return Verdict(compiled.serialize_json(), None)
    except json.JSONDecodeError as error:
        return Verdict("", f"it is not JSON: {error}")
    except MemoryError:
        return Verdict("", "it needs too much memory to compile; simplify it")
    except Exception as error:  # the library raises several kinds, all of them about the source
        return Verdict("", _reason(error))


def _foreign_reference(value: Any) -> str | None:
    """Find a reference out of the schema: the library would take any JSON there, and say so to nobody."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
            return repr(reference[:LONGEST_NAMED])
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_foreign_reference, children)), None)


def _reason(error: Exception) -> str:
    """The library's words without its place in the source and its clock."""
    text = str(error).strip()
    text = re.sub(r"^(\[[\d:]+\] )?\S+\.(cc|h):\d+: ", "", text)
    text = re.sub(r"^Check failed: \([^)]*\)[^:]*: ", "", text)
    return text[:LONGEST_ERROR] or type(error).__name__


def _limit(cpu_s: int, wall_s: int) -> None:
    signal.alarm(wall_s)
    os.nice(10)  # those who are being answered come first
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # only Linux tells how much there is already
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
