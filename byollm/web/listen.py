"""Taking an address to listen on."""

import errno
import socket
import sys

from byollm.web.errors import WebError

# Load balancers reuse connections that were idle for up to 60 s; one that we close first costs a request.
KEEP_CONNECTION_S = 75
# A client that takes nothing for this long is cut off by the kernel, and its request ends.
STUCK_CLIENT_MS = 120_000


def listen(host: str, port: int) -> socket.socket:
    """Take the address.

    Raises:
        WebError: it is taken, not allowed, or not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise WebError(f"cannot listen on host {host!r}: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit these.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_CLIENT_MS)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "choose another with --port (0 takes a free one), or stop the program that has it"
            raise WebError(f"port {port} on {host} is taken: {remedy}") from None
        raise WebError(f"cannot listen on port {port} of {host}: {error.strerror}") from None
    return listener


def url(listener: socket.socket) -> str:
    """The address of a listening socket, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
