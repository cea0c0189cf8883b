"""What every contender's process does: read requests for work from stdin, answer with times on stdout.

A line of stdin is `{"prompts": [[token, ...], ...], "tokens": N}`. The answer is a line that begins with
REPLY and holds when the prompts were given in and when each of the N tokens of each came out, in seconds of a
clock of its own. What a library prints is passed over.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

REPLY = "REPLY "
Generate = Callable[[list[list[int]], int], list[list[float]]]


def answer(load: Callable[[dict[str, Any]], Generate]) -> None:
    """Load what the first argument (JSON) describes, then answer until stdin ends."""
    generate = load(json.loads(sys.argv[1]))
    _reply({})  # ready
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        times = generate(request["prompts"], request["tokens"])
        _reply({"start": start, "times": times})


def _reply(value: dict[str, Any]) -> None:
    print(REPLY + json.dumps(value), flush=True)
