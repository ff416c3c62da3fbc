"""The main text of a page by trafilatura (Barbaresi 2021), slower by far and the most precise.

Its options are those measured to be best on the pages of tests/benchmarks/bench_html.py: without
comments F1 is 0.962 instead of 0.951, and with precision favoured 0.975.
"""

from datalake.config import Refusal


def precise_text(html: str) -> str | None:
    """The main text of a page; None where trafilatura finds none."""
    try:
        from trafilatura import extract
    except ImportError as error:
        raise Refusal(
            "extractor must be resiliparse or blocks where trafilatura is not installed (extra "
            f"precise of Tarn), got precise: {error}"
        ) from error
    text: str | None = extract(html, include_comments=False, favor_precision=True)
    return text
