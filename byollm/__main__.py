"""`python -m byollm`: the same as the `byollm` command."""

import os
import signal
import sys


def start() -> None:
    """Run the command."""
    if os.getpid() == 1:  # the first process of a container: without a handler, no signal reaches it
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    from byollm.cli.main import main

    main()


start()
