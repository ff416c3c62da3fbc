"""A real web site on localhost whose every answer a test decides."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What one path answers. ``drip`` pauses that many seconds after every 1,000 bytes."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = "text/html; charset=utf-8"
    pause: float = 0.0
    drip: float = 0.0
    promised: int | None = None  # Content-Length, if it is not the body's


@dataclass
class Site:
    """Answers by path, with 404 for the others, and every request that came."""

    port: int
    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, float, dict[str, str]]] = field(default_factory=list)
    most_at_once: int = 0
    num_bytes: int = 0  # of bodies, as far as clients took them

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [path for path, *_ in self.requests]

    def page(self, path: str, *links: str, text: str = "Some words.", head: str = "") -> None:
        """Serve a page at ``path`` that links to ``links``."""
        anchors = "".join(f'<a href="{link}">to {i}</a>' for i, link in enumerate(links))
        html = f"<!DOCTYPE html><html><head><title>{path}</title>{head}</head>"
        html += f"<body><main><p>{text}</p>{anchors}</main></body></html>"
        self.answers[path] = Answer(html.encode())

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        self.answers[path] = Answer(status=status, headers={"Location": location})


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port, stopped at the end."""
    lock = threading.Lock()
    active = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            nonlocal active
            with lock:
                active += 1
                site.most_at_once = max(site.most_at_once, active)
                site.requests.append((self.path, time.monotonic(), dict(self.headers)))
            try:
                self._answer()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with lock:
                    active -= 1

        def _answer(self) -> None:
            found = site.answers.get(self.path, Answer(b"nothing here", 404))
            if isinstance(found, list):  # one after the other, the last for good
                found = found.pop(0) if len(found) > 1 else found[0]
            time.sleep(found.pause)
            if self._has(found):
                self.send_response(304)
                for name in ("ETag", "X-Robots-Tag"):
                    if name in found.headers:
                        self.send_header(name, found.headers[name])
                self.end_headers()
                return
            self.send_response(found.status)
            if found.content_type:
                self.send_header("Content-Type", found.content_type)
            for name, value in found.headers.items():
                self.send_header(name, value)
            length = len(found.body) if found.promised is None else found.promised
            self.send_header("Content-Length", str(length))
            self.end_headers()
            step = 1000 if found.drip else 1 << 16
            for start in range(0, len(found.body), step):
                site.num_bytes += self.wfile.write(found.body[start : start + step])
                time.sleep(found.drip)
            if found.promised is not None:
                self.close_connection = True

        def _has(self, answer: Answer) -> bool:
            """Whether the client has it already: If-None-Match goes first (RFC 9110, 13.2.2)."""
            if answer.status != 200:
                return False
            if (tag := self.headers["If-None-Match"]) is not None:
                return tag == answer.headers.get("ETag")
            since = self.headers["If-Modified-Since"]
            return since is not None and since == answer.headers.get("Last-Modified")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
