"""What the tests' tasks run: a server that tells what it was told, and finishes what it has on SIGTERM."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(500 if "SICK" in os.environ else 200, "")
        elif self.path == "/role":
            import boto3  # which takes its time, and few tests need it

            self._answer(200, boto3.client("sts").get_caller_identity()["Arn"])
        elif self.path == "/environment":
            self._answer(200, json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), **os.environ}))
        else:
            time.sleep(0.05)
            self._answer(200, os.environ.get("VERSION", "none"))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # those that answer are waited for


if "CRASH" in os.environ:
    sys.exit("as asked")
server = Server((os.environ.get("APP__HOST", "127.0.0.1"), int(os.environ["APP__PORT"])), App)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
