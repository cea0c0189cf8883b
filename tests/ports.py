"""Ports for servers whose tests have to know them before they listen."""

import random
import socket

# Below those that the system hands out: no connection that begins meanwhile takes one away.
PORTS = range(10_000, 32_000)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    choose = random.SystemRandom().choice  # what seeds the other generator would have all choose the same
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := choose(PORTS)))
            except OSError:
                continue
            return port
