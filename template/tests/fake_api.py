"""A fake upstream API over real HTTP on 127.0.0.1."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


class FakeApi:
    """Answers below `/v1` and keeps each request's path and headers.

    `/items/1` is JSON, `/text` is not, `/status/418` answers that status, `/redirect` leads elsewhere, `/slow` trickles;
    what `prepare` was given comes before all of them.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._prepared: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                api.answer(self, urlsplit(self.path).path.removeprefix("/v1"))

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def prepare(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Answer `path` so from now on; `Content_Type="…"` is a header. Returns the path."""
        self._prepared[path] = (status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return path

    def answer(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        if path in self._prepared:
            self._send(handler, *self._prepared[path])
        elif path.startswith("/status/"):
            self._send(handler, int(path.rpartition("/")[2]), b"{}", {"Retry-After": "7"})
        elif path == "/redirect":
            self._send(handler, 302, b"", {"Location": "https://elsewhere.invalid/"})
        elif path == "/text":
            self._send(handler, 200, b"plain words", {"Content-Type": "text/plain"})
        elif path == "/slow":
            handler.send_response(200)
            handler.end_headers()
            try:
                for _ in range(50):  # each byte restarts a timeout that is counted per read
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                pass
        else:
            self._send(handler, 200, json.dumps({"path": path}).encode(), {"Content-Type": "application/json"})

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        if "Content-Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            with suppress(OSError):  # whoever asked had enough
                handler.wfile.write(body)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
