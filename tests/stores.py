"""An S3 of moto's on this machine, a web server for files, and a server between that cuts connections."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Traffic:
    """What came to a server, and what it is to break off.

    Attributes:
        requests: method and path of each, in order.
        cut_reads, cut_writes: so many answers to GET, or contents of PUT, are broken off in the middle.
    """

    requests: list[str] = field(default_factory=list)
    cut_reads: int = 0
    cut_writes: int = 0

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method whose path holds this part."""
        return sum(one.startswith(f"{method} ") and part in one for one in self.requests)


class Relay(BaseHTTPRequestHandler):
    """Hands every request on to another server, but for those that are to be broken off."""

    protocol_version = "HTTP/1.1"

    def __init__(self, upstream: str, traffic: Traffic, *arguments: object) -> None:
        self.upstream, self.traffic = urlsplit(upstream).netloc, traffic
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def relay(self) -> None:
        self.traffic.requests.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length", 0))
        if self.command == "PUT" and self.traffic.cut_writes and length:
            self.traffic.cut_writes -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        content = self.rfile.read(length)
        connection = http.client.HTTPConnection(self.upstream)
        connection.request(self.command, self.path, content, dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in ("transfer-encoding", "date")}
        for name, value in {"Content-Length": str(len(body)), **kept}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and self.traffic.cut_reads and len(body) > 1000:
            self.traffic.cut_reads -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves the files of a folder."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: object) -> Iterator[str]:
    """Serve with a handler on a free port, and give the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def relayed(upstream: str) -> Iterator[tuple[str, Traffic]]:
    """Serve what another server has, and give the URL and what goes through."""
    traffic = Traffic()
    with serving(partial(Relay, upstream, traffic)) as url:
        yield url, traffic


@contextmanager
def web_folder(folder: Path) -> Iterator[tuple[str, Traffic]]:
    """Serve the files of a folder through a relay."""
    with serving(partial(QuietFiles, directory=str(folder))) as upstream, relayed(upstream) as through:
        yield through
