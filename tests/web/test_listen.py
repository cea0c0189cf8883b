"""An address that cannot be had is refused, with what to do."""

import socket

import pytest

from byollm.web.errors import WebError
from byollm.web.listen import listen


def test_a_port_that_is_taken_is_refused_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WebError, match=f"port {port} on 127.0.0.1 is taken: .*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(WebError, match="cannot listen"):
        listen("192.0.2.1", 0)
    with pytest.raises(WebError, match=r"no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)
