"""What every contender's process does: read requests for work from stdin, answer with times on stdout.

A line of stdin is `{"prompts": [[token, ...], ...], "tokens": N}`. The answer is a line that begins with
REPLY and holds when the prompts were given in, when each of the N tokens of each came out (seconds of a clock
of its own), and the most memory that the process has held. What a library prints is passed over.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPLY = "REPLY "
Generate = Callable[[list[list[int]], int], list[list[float]]]


def answer(load: Callable[[dict[str, Any]], Generate]) -> None:
    """Load what the first argument (JSON) describes, then answer until stdin ends."""
    began = time.perf_counter()
    generate = load(json.loads(sys.argv[1]))
    _reply({"ready": time.perf_counter() - began})
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        times = generate(request["prompts"], request["tokens"])
        _reply({"start": start, "times": times, "peak_bytes": _peak_bytes()})


def _peak_bytes() -> int:
    # getrusage would count what the parent held before this program took its place
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def _reply(value: dict[str, Any]) -> None:
    print(REPLY + json.dumps(value), flush=True)
