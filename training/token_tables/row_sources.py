"""The source of every token row: the one that most of its tokens come from."""

import json

import numpy as np
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.tables import Lake
from training.data.mixing import owner, tokens_by_source


def row_sources(lake: Lake, version: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Sources of the corpus, sorted, and the number of that of each row to train on.

    Rows, int16 ``[rows]``, are in order of ``row_id``; ``version`` is of ``tokens``.
    """
    corpus = lake.read("corpus", corpus_version(lake, version), ["doc_id", "source"])
    names, source_of = np.unique(corpus["source"].to_numpy().astype(str), return_inverse=True)
    doc_ids = corpus["doc_id"].combine_chunks()
    columns = ["row_id", "num_tokens", "doc_ids", "doc_starts"]
    ids, owners = [np.empty(0, np.int64)], [np.empty(0, np.int16)]
    for batch in lake.batches("tokens", version, columns, {"split": "train"}):
        place = pc.index_in(batch["doc_ids"].flatten(), doc_ids)
        if place.null_count:
            raise Refusal(f"tokens {version} must be of the documents of its corpus, got others")
        counted = tokens_by_source(
            batch["doc_starts"],
            batch["num_tokens"].to_numpy(),
            source_of[place.to_numpy()],
            len(names),
        )
        ids.append(batch["row_id"].to_numpy())
        owners.append(owner(counted).astype(np.int16))
    order = np.argsort(np.concatenate(ids), kind="stable")
    return tuple(names.tolist()), np.concatenate(owners)[order]


def corpus_version(lake: Lake, version: int) -> int:
    """The version of ``corpus`` that this version of ``tokens`` was made of, as its commit says."""
    for commit in lake.history("tokens"):
        if commit["version"] == version:
            inputs = json.loads(commit.get("inputs", "{}"))
            if "corpus" in inputs:
                return int(inputs["corpus"])
    raise Refusal(f"tokens {version} must name the version of corpus that it was made of, got none")
