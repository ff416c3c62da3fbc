"""Data sets on the Hugging Face hub, as streams, through the package ``datasets``.

A piece is a shard of the data set, and a row has a number in its shard. Needs the network; without
it ``pieces`` raises OSError, and nothing is taken for gone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from datalake.config import Refusal
from datalake.sources.files.table_rows import TableRow
from datalake.sources.source import Piece

SCHEME = "hf://datasets/"
_ADDRESS = re.compile(
    r"hf://datasets/(?P<name>.+)@(?P<revision>.+)/(?P<split>.+) shard (?P<shard>\d+)"
)


def pieces(
    name: str, split: str | None, revision: str | None, columns: Mapping[str, str]
) -> list[Piece]:
    """The shards of the data set. Raises Refusal for a column that is missing, and OSError."""
    if split is None:
        raise Refusal("split must be given for a data set on the hub, got none")
    stream = _stream(name, split, revision)
    there = stream.column_names
    for use, column in columns.items():
        if there is not None and column not in there:
            rule = f"columns.{use} must be a column of {name}"
            raise Refusal(f"{rule}, got {column}; there are {', '.join(there)}")
    return [
        Piece(
            name=f"{name} {split} shard {shard}",
            uri=f"{SCHEME}{name}@{revision or 'main'}/{split} shard {shard}",
        )
        for shard in range(stream.num_shards)
    ]


def rows(piece: Piece, columns: Sequence[str]) -> Iterator[TableRow]:
    """Rows of one shard, with ``columns``. Raises OSError."""
    yield from _rows(piece.uri, columns, 0)


def address(shard: str, whole: bool) -> str:
    """The shard without its revision, so that its rows are the same documents in another one.

    The data set as a ``whole`` has no shard in its address either.
    """
    said = _ADDRESS.fullmatch(shard)
    if said is None:
        return shard
    name = f"{SCHEME}{said['name']}"
    return name if whole else f"{name}/{said['split']}/{said['shard']}"


def row_at(address: str, number: int, column: str) -> Mapping[str, Any]:
    """The row of the shard at ``address``. Raises FileNotFoundError where there is none."""
    for row in islice(_rows(address, (column,), number), 1):
        return row.values
    raise FileNotFoundError(f"{address} has no row {number}")


def _rows(address: str, columns: Sequence[str], first: int) -> Iterator[TableRow]:
    said = _ADDRESS.fullmatch(address)
    if said is None:
        raise FileNotFoundError(f"{address} is no shard of a data set")
    stream = _stream(said["name"], said["split"], said["revision"])
    shard = stream.shard(num_shards=stream.num_shards, index=int(said["shard"]))
    found = iter(shard.skip(first) if first else shard)
    number = first
    while True:
        try:
            row = next(found, None)
        except Exception as error:  # of its HTTP client, or of the format of its files
            raise OSError(f"{address} breaks off at row {number}: {error}") from error
        if row is None:
            return
        yield TableRow(number, {column: row.get(column) for column in columns})
        number += 1


def _stream(name: str, split: str, revision: str | None) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(name, split=split, revision=revision, streaming=True)
    except ValueError as error:  # an unknown split, or a data set that is a program
        raise Refusal(f"hub must be a data set with split {split}, got {name}: {error}") from error
    except Exception as error:  # of its HTTP client, whichever it has today
        raise OSError(f"data set {name} cannot be had from the hub: {error}") from error
