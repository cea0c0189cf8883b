"""A container in a moment: /ping and /invocations, which does as it is told. Run by its path."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sick = "SICK" in os.environ or Path(os.environ["BYOLLM_OPT_ML"], "..", "sick").exists()
        unready = "READY_WITH" in os.environ and not Path(os.environ["READY_WITH"]).exists()
        self._answer(503 if sick or unready else 200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = json.loads(body) if body.startswith(b"{") else {}
        print(f"asked {asked.get('text', len(body))}", flush=True)  # noqa: T201
        if asked.get("sick"):
            Path(os.environ["BYOLLM_OPT_ML"], "..", "sick").touch()
        time.sleep(asked.get("seconds", 0))
        while "until" in asked and not Path(asked["until"]).exists():
            time.sleep(0.02)
        if "stream" in asked:
            self._stream(asked)
            return
        model = Path(os.environ["BYOLLM_OPT_ML"], "model")
        answer = {
            "name": os.environ.get("NAME"),
            "pid": os.getpid(),
            "attributes": self.headers.get("x-amzn-sagemaker-custom-attributes"),
            "accept": self.headers["accept"],
            "model": sorted(path.name for path in model.iterdir()) if model.exists() else None,
            "length": len(body),
        }
        self._answer(asked.get("status", 200), answer)

    def _answer(self, status: int, answer: dict[str, object]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("x-amzn-sagemaker-custom-attributes", "from the container")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, asked: dict[str, int]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for number in range(asked["stream"]):
                piece = f"piece {number};".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(asked.get("pause", 0))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            print("nobody listens", flush=True)  # noqa: T201

    def log_message(self, format: str, *args: object) -> None:
        pass


assert sys.argv[1:] == ["serve"]
if os.environ.get("CRASH"):
    sys.exit("cannot start")
ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
