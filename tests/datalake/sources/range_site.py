"""A real web server on localhost that serves files by ranges, and breaks off where a test says."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file. Every list is used up answer by answer; what comes after is the good case."""

    content: bytes
    tag: str | None = '"1"'
    ranges: bool = True
    length: bool = True  # whether the answer says how long it is
    breaks: list[int] = field(default_factory=list)  # bytes sent before the connection is cut
    refusals: list[int] = field(default_factory=list)  # statuses sent before anything else
    later: list["Served"] = field(default_factory=list)  # what it is from the next answer on


@dataclass
class RangeSite:
    """Files by path, 404 for the others, and every request that came."""

    port: int
    files: dict[str, Served] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    num_bytes: int = 0
    connections: set[tuple[str, int]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def serving() -> Iterator[RangeSite]:
    """A site on a free port, stopped at the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet, else each answer waits for 40 ms

        def do_GET(self) -> None:
            site.requests.append((self.path, dict(self.headers)))
            site.connections.add(self.client_address)
            served = site.files.get(self.path)
            if served is None:
                self._plain(404)
                return
            if served.refusals:
                self._plain(served.refusals.pop(0))
                return
            if served.later:
                site.files[self.path] = served.later.pop(0)
            self._file(served)

        def _plain(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _file(self, served: Served) -> None:
            content, whole = served.content, len(served.content)
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked and served.ranges:
                first, last = int(asked[1]), min(int(asked[2] or whole), whole - 1)
                if first >= whole:
                    self._plain(416, Content_Range=f"bytes */{whole}")
                    return
                content = content[first : last + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
            else:
                self.send_response(200)
            if served.tag:
                self.send_header("ETag", served.tag)
            if served.length:
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if served.breaks:
                content = content[: served.breaks.pop(0)]
                self.close_connection = True
            site.num_bytes += len(content)
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that leaves in the middle is one of the cases

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = RangeSite(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
