"""A real git repository for tests, and a snapshot that remembers what was read."""

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from datalake.sources.report import Report
from datalake.sources.source import Event, Gone, Record, Refresh, SourceConfig, Unchanged

MIT = """MIT License

Copyright (c) 2021 A. Person

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@dataclass
class Repository:
    """A repository in ``folder`` on branch main."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        # What a server allows: leave out large files, ask for a commit by its name.
        self.git("config", "uploadpack.allowFilter", "true")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false")
        command = ["git", "-C", str(self.folder), *who, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for path, content in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes] | None = None) -> str:
        self.write(files or {})
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", "more")
        return self.git("rev-parse", "HEAD")

    def commit_tree(self, entries: Iterable[tuple[str, str, bytes, bytes]]) -> str:
        """Commit of one tree, written by hand: mode, type, name, and content or object id."""
        lines = b""
        for mode, kind, name, content in entries:
            named = content.decode() if kind != "blob" else self._blob(content)
            lines += f"{mode} {kind} {named}\t".encode() + name + b"\0"
        tree = self.git("mktree", "-z", "--missing", stdin=lines)
        commit = self.git("commit-tree", "-m", "by hand", tree)
        self.git("update-ref", "refs/heads/by-hand", commit)
        return commit

    def _blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content)


@dataclass
class Snapshots:
    """Reads a source again and again, each time knowing what the times before left."""

    home: Path
    held: dict[str, Record] = field(default_factory=dict)
    report: Report = field(default_factory=lambda: Report("files", lambda line: None))
    unchanged: set[str] = field(default_factory=set)

    def digest(self, uri: str, position: str = "") -> str | None:
        return None

    def rows(self, columns: list[str]) -> pa.Table:
        rows = []
        for record in self.held.values():
            found = record.licence
            licence = {
                "licence": found.licence if found else None,
                "licence_evidence": found.evidence if found else None,
            }
            row = {"uri": record.uri, **record.own, **licence}
            rows.append({name: row[name] for name in columns})
        return pa.Table.from_pylist(rows) if rows else pa.table({name: [] for name in columns})

    def read(self, config: SourceConfig) -> dict[str, Record]:
        """New records by path; what is gone or unchanged is remembered."""
        self.report = Report("files", lambda line: None)
        refresh = Refresh(
            origin="code", snapshot="s", home=self.home, report=self.report, previous=self
        )
        events: list[Event] = [
            event for piece in config.pieces(refresh) for event in config.read(piece, refresh)
        ]
        assert not any(isinstance(event, Gone) for event in events)
        new = {event.uri: event for event in events if isinstance(event, Record)}
        self.unchanged = {event.uri for event in events if isinstance(event, Unchanged)}
        assert len(new) + len(self.unchanged) == len(events)
        kept = {uri: record for uri, record in self.held.items() if uri in self.unchanged}
        assert kept.keys() == self.unchanged
        self.held = kept | new
        return {record.own["path"]: record for record in new.values()}
