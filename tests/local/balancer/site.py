"""A target for tests: `python site.py PORT NAME`. What it answers depends on the path."""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = sys.argv[2]
state = {"healthy": True, "closed": 0, "busy": 0}
released = threading.Event()


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/sick":
            state["healthy"] = False
        if path == "/health" and not state["healthy"]:
            self._answer(500, b"sick")
        elif path == "/stream":
            self._stream()
        elif path.startswith("/slow/"):
            time.sleep(float(path.removeprefix("/slow/")))
            self._answer(200, NAME.encode())
        elif path == "/held":
            state["busy"] += 1
            released.wait()
            self._answer(200, NAME.encode())
        elif path == "/release":
            released.set()
            self._answer(200, b"")
        elif path == "/rude":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif path in {"/closed", "/busy"}:
            self._answer(200, str(state[path[1:]]).encode())
        elif path == "/echo":
            self._answer(200, json.dumps({**self.headers}).encode())
        else:
            self._answer(200, NAME.encode())

    def do_POST(self) -> None:
        length = len(self.rfile.read(int(self.headers["content-length"])))
        self._answer(200, str(length).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for number in range(1000):
                self.wfile.write(f"data: {number}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            state["closed"] += 1

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Site)
print("listening", flush=True)  # noqa: T201
server.serve_forever()
