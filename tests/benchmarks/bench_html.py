"""Main text of articles: precision, recall and F1 of every extractor, and speed, on one core.

The pages are those of scrapinghub's article extraction benchmark, compared as it does: 4-shingles
of ``\\w+`` tokens, precision and recall averaged over pages, F1 of these means. They are no part of
Tarn: ``PAGES`` is a folder of ``<id>.html.gz`` and ``ground_truth.json``.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from datalake.config import Refusal
from datalake.transforms.html_text import Extractor, read_page
from tests.benchmarks.report import Result, seconds_in_turn, show

PAGES = Path(__file__).resolve().parents[2] / "../shared/data/html"
NUM_RESAMPLED = 1000  # bootstrap: the standard error is then known to 2 %

Extract = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over pages, and the standard error of F1 over resampled pages."""

    precision: float
    recall: float
    f1: float
    error: float


def load_pages() -> dict[str, tuple[bytes, str]]:
    """Every page and the text of its article, by identifier."""
    truth = json.loads((PAGES / "ground_truth.json").read_text("utf-8"))
    return {
        name: (gzip.decompress(path.read_bytes()), truth[name]["articleBody"])
        for path in sorted(PAGES.glob("*.html.gz"))
        if (name := path.name.removesuffix(".html.gz"))
    }


def quality(extract: Extract, pages: Mapping[str, tuple[bytes, str]]) -> Quality:
    """How much of what is found is wanted, and of what is wanted found."""
    scores = np.array([_score(extract(html), wanted) for html, wanted in pages.values()])
    picks = np.random.default_rng(0).integers(len(scores), size=(NUM_RESAMPLED, len(scores)))
    precision, recall = scores.mean(axis=0)
    return Quality(
        float(precision),
        float(recall),
        float(_f1(precision, recall)),
        float(_f1(*scores[picks].mean(axis=1).T).std()),
    )


def trafilatura_text(**options: bool) -> Extract:
    """Trafilatura itself, from bytes."""
    from trafilatura import extract

    return lambda html: extract(html, **options) or ""


def _score(found: str, wanted: str) -> tuple[float, float]:
    a, b = _shingles(found), _shingles(wanted)
    common = (a & b).total()
    return common / max(1, a.total()), common / max(1, b.total())


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text)
    return Counter(tuple(tokens[i : i + 4]) for i in range(max(1, len(tokens) - 3)))


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / (precision + recall)


def main() -> None:
    """Measure every extractor beside trafilatura without comments; F1 times 100."""
    if not PAGES.is_dir():
        raise Refusal(f"bench html must find the pages of articles, got no folder {PAGES}")
    pages = load_pages()
    names = get_args(Extractor)
    jobs: dict[str, Extract] = {
        name: lambda html, name=name: read_page(html, None, name).text  # type: ignore[misc]
        for name in names
    }
    why = None
    try:
        jobs |= {
            "trafilatura": trafilatura_text(),
            "trafilatura without comments": trafilatura_text(include_comments=False),
        }
    except ImportError as error:
        why = f"trafilatura is not installed: {error}"
        del jobs["precise"]
    peer = "trafilatura without comments"
    size = sum(len(html) for html, _ in pages.values()) / 1e6
    measured = {name: quality(extract, pages) for name, extract in jobs.items()}
    taken = seconds_in_turn(
        {
            name: partial(lambda e: [e(html) for html, _ in pages.values()], extract)
            for name, extract in jobs.items()
        },
        repeats=3,
    )
    for name, q in measured.items():
        print(
            f"{name:<30} precision {q.precision:.4f} recall {q.recall:.4f} "
            f"F1 {q.f1:.4f} +- {q.error:.4f}  {size / taken[name]:6.1f} MB/s"
        )
    results = []
    for name in (n for n in names if n in jobs):
        for case, unit, ours, theirs in (
            ("F1", "%", 100 * measured[name].f1, None if why else 100 * measured[peer].f1),
            ("speed", "MB/s", size / taken[name], None if why else size / taken[peer]),
        ):
            results.append(
                Result(
                    case=f"{case} of {name}",
                    unit=unit,
                    ours=ours,
                    peer_name=peer,
                    peer=theirs,
                    why=why,
                )
            )
    show("html", results, ("resiliparse", *(() if why else ("trafilatura",))))


if __name__ == "__main__":
    main()
