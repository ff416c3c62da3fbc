"""The data card: what the corpus is made of, on one page that needs no network.

After Gebru et al. 2021, Datasheets for Datasets (arXiv:1803.09010), as far as a pipeline can answer
by counting: composition, what was left out and why, licences, and how it is meant to be sampled.
"""

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from datalake import charts
from datalake.dedup.clustering.clusters import size_chart
from datalake.filters.rules import REASONS
from datalake.funnel import STAGES, Count, Funnel

_STYLE = """
:root { color-scheme: light dark; --quiet: #767676; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 3rem auto;
  padding: 0 1rem; }
h1 { font-size: 2rem; margin-bottom: .2rem; } h2 { margin-top: 3rem; font-size: 1.25rem; }
.lead { font-size: 1.15rem; } .quiet, caption { color: var(--quiet); }
td .quiet { font-size: .85rem; margin-left: .5rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.figures div { background: var(--soft); border-radius: .6rem; padding: .8rem 1.2rem; flex: 1; }
.figures b { display: block; font-size: 1.6rem; white-space: nowrap; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; } svg { max-width: 100%; height: auto; }
td.share { width: 30%; } td.share span { display: block; height: .7rem; border-radius: .2rem; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: .2rem; }
details { margin: .4rem 0; } summary { cursor: pointer; }
blockquote { margin: .5rem 0; padding: .5rem .9rem; border-left: 3px solid var(--line);
  background: var(--soft); border-radius: .2rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .8rem/1.5 ui-monospace, monospace; }
blockquote b { display: block; margin-bottom: .3rem; } del { background: #d55e0033; }
ins { background: #0072b233; text-decoration: none; }
a { color: inherit; overflow-wrap: anywhere; }
"""


def write(funnel: Funnel, title: str, folder: Path) -> None:
    """Write ``index.html`` and ``funnel.json``, the same numbers for people and for programs."""
    numbers = json.dumps(funnel.as_json(), indent=1, sort_keys=True)
    (folder / "funnel.json").write_text(numbers + "\n", encoding="utf-8")
    (folder / "index.html").write_text(page(funnel, title), encoding="utf-8")


def page(funnel: Funnel, title: str) -> str:
    """The card as one HTML document, styles and charts inside."""
    found, corpus = funnel.total("raw"), funnel.total("corpus")
    kinds = _sentence_list(sorted(funnel.stages["corpus"]))
    share = _percent(corpus.documents, found.documents)
    body = f"""
<h1>{escape(title)}</h1>
<p class="lead">{corpus.documents:,} documents and {size(corpus.num_bytes)} of text from {kinds},
{share} of the {found.documents:,} records that were found.</p>
{_figures(funnel)}
<h2>What came through</h2>
{funnel_chart(funnel)}
<p class="quiet">Bytes of what was found are those of the raw payload, markup included; from
<i>with text</i> on they are UTF-8 bytes of the text.</p>
<h2>What the rules dropped</h2>
{_dropped(funnel)}
<h2>Duplicates</h2>
{_duplicates(funnel)}
<h2>What was cut from texts</h2>
{_cuts(funnel)}
<h2>Benchmarks in the data</h2>
{_contamination(funnel)}
<h2>Licences</h2>
{_composition(funnel, funnel.licences, "licence")}
<h2>Languages</h2>
{_composition(funnel, funnel.languages, "language")}
<h2>Lengths</h2>
{length_chart(funnel)}
{_scores(funnel)}
<h2>How it is sampled</h2>
{_sampling(funnel)}
{_samples(funnel)}
"""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<style>{_STYLE}</style>\n<body>{body}</body></html>\n"
    )


def plots(funnel: Funnel) -> dict[str, str]:
    """The charts of the card by title, as SVG."""
    drawn = {
        "Documents that came through": funnel_chart(funnel),
        "Documents that each rule dropped": reasons_chart(funnel),
        "Bytes that each reason cut": cuts_chart(funnel),
        "Lengths": length_chart(funnel),
        "Clusters of duplicates by size": size_chart(funnel.clusters),
    }
    return drawn | {f"Score: {name}": score_chart(funnel, name) for name in sorted(funnel.scores)}


def funnel_chart(funnel: Funnel) -> str:
    """Documents that each stage let through, stacked by source, as SVG."""
    rows = []
    for stage, label in STAGES.items():
        counts = funnel.stages[stage]
        parts = {s: float(counts[s].documents) for s in funnel.sources if s in counts}
        total = funnel.total(stage)
        said = f"{total.documents:,} · {size(total.num_bytes)}"
        rows.append(
            (
                label,
                parts,
                said + (f" · {_short(total.num_tokens)} tokens" * bool(total.num_tokens)),
            )
        )
    return charts.bars(rows, _colours(funnel), "Documents that came through each stage")


def reasons_chart(funnel: Funnel, most: int = 12) -> str:
    """The reasons that dropped most documents, stacked by source, as SVG."""
    sums: dict[str, dict[str, float]] = {}
    for source, reasons in funnel.reasons.items():
        for reason, count in reasons.items():
            sums.setdefault(reason, {})[source] = float(count.documents)
    first = sorted(sums.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:most]
    rows = [(reason, parts, f"{sum(parts.values()):,.0f}") for reason, parts in first]
    return charts.bars(rows, _colours(funnel), "Documents that each rule dropped")


def length_chart(funnel: Funnel) -> str:
    """Histogram of the lengths of texts in the corpus, in powers of two, as SVG."""
    powers = [k for lengths in funnel.lengths.values() for k in lengths]
    rows = [
        (_power_of_two(k), {s: float(n[k]) for s, n in sorted(funnel.lengths.items()) if k in n})
        for k in range(min(powers), max(powers) + 1)
    ]
    return charts.columns(rows, _colours(funnel), "Documents by length, from so many bytes on")


def score_chart(funnel: Funnel, name: str) -> str:
    """Documents by one score, stacked by source, as SVG."""
    histogram = funnel.scores[name]
    rows = [
        (f"{edge:.3g}", {source: float(n[k]) for source, n in histogram.counts.items()})
        for k, edge in enumerate(histogram.edges[:-1])
    ]
    return charts.columns(rows, _colours(funnel), f"Documents by the score {name}")


def cuts_chart(funnel: Funnel, most: int = 12) -> str:
    """The reasons that cut most bytes, stacked by source, as SVG."""
    sums: dict[str, dict[str, float]] = {}
    for source, reasons in funnel.cuts.items():
        for reason, places in reasons.items():
            sums.setdefault(reason, {})[source] = float(places.num_bytes)
    first = sorted(sums.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:most]
    rows = [(reason, parts, size(sum(parts.values()))) for reason, parts in first]
    return charts.bars(rows, _colours(funnel), "Bytes that each reason cut")


def size(num_bytes: float) -> str:
    """A number of bytes as people say it: ``12.3 MB``, in powers of 1000."""
    rounded = float(f"{num_bytes:.3g}")  # first, or 999,600 would be 1000 kB
    power = min(5, max(0, (len(f"{rounded:.0f}") - 1) // 3))
    value = rounded / 1000**power
    digits = 0 if power == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def _short(number: float) -> str:
    """A number as people say it: ``12.3 M``."""
    said = size(number).replace("B", "").replace("k", "k").strip()
    return said.replace("G", "bn") if said.endswith("G") else said


def _power_of_two(k: int) -> str:
    return f"{2 ** (k % 10)} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[k // 10]}"


def _figures(funnel: Funnel) -> str:
    dropped = sum((c for by in funnel.reasons.values() for c in by.values()), Count())
    copies = sum((c for by in funnel.copies.values() for c in by.values()), Count())
    figures = (
        (size(funnel.total("corpus").num_bytes), "of text to train on"),
        (_short(funnel.total("corpus").num_tokens), "tokens at least"),
        (f"{dropped.documents:,}", "documents dropped by rules"),
        (f"{copies.documents:,}", "copies removed"),
        (size(sum(funnel.epoch_bytes.values())), "seen in one epoch"),
    )
    inside = "".join(f"<div><b>{number}</b>{said}</div>" for number, said in figures)
    return f'<div class="figures">{inside}</div>'


def _dropped(funnel: Funnel) -> str:
    if not funnel.reasons:
        return "<p>Nothing: every document passed.</p>"
    said = (
        "<p>A document is dropped for the first rule that it fails, in the order of the recipe. "
        "It stays in the table <code>kept</code> with that reason.</p>"
    )
    for source, reasons in funnel.reasons.items():
        documents = funnel.stages["documents"][source].documents
        said += _table(
            f"{source}: of {documents:,} documents",
            ("rule", "documents", "bytes", "tokens", ""),
            [
                (name, count, count.documents / documents, funnel.sources.index(source))
                for name, count in sorted(reasons.items(), key=lambda r: -r[1].documents)
            ],
        )
    return said


def _duplicates(funnel: Funnel) -> str:
    kept = funnel.total("kept").documents
    said = (
        "<p><i>Exact</i> copies differ in case and white space at most, copies by <i>url</i> "
        "stand at the same address, and <i>near</i> copies share a band of MinHash minima. Of "
        "each cluster the best document stays: by the recipe's choice or the longest, then the "
        "one whose licence binds least, then the one found first.</p>"
    )
    for source, kinds in funnel.copies.items():
        rows = [(k, c, c.documents / kept, funnel.sources.index(source)) for k, c in kinds.items()]
        said += _table(
            f"{source}: copies removed", ("kind", "documents", "bytes", "tokens", ""), rows
        )
    if funnel.clusters:
        said += "<h3>How many documents say the same</h3>" + size_chart(funnel.clusters)
    if funnel.largest_clusters:
        items = "".join(
            f"<li>{copies:,} × {escape(title)}"
            + (f' <span class="quiet">{escape(uri)}</span></li>' if uri != title else "</li>")
            for copies, title, uri in funnel.largest_clusters
        )
        said += f"<p>The largest clusters:</p><ol>{items}</ol>"
    return said


def _cuts(funnel: Funnel) -> str:
    if not funnel.cuts:
        return "<p>Nothing: every text in the corpus is whole.</p>"
    said = (
        "<p>Lines that a rule refuses, what stands elsewhere, personal data and items of "
        "benchmarks. Each place is a row of the table <code>cuts</code>; what is masked has a "
        "placeholder instead.</p>"
    )
    said += cuts_chart(funnel)
    for source, reasons in funnel.cuts.items():
        rows = "".join(
            f'<tr><td>{escape(reason)}</td><td class="number">{places.number:,}</td>'
            f'<td class="number">{size(places.num_bytes)}</td></tr>'
            for reason, places in reasons.items()
        )
        said += (
            f"<table><caption>{escape(source)}</caption><tr><th>reason</th>"
            f'<th class="number">places</th><th class="number">bytes</th></tr>{rows}</table>'
        )
    return said


def _contamination(funnel: Funnel) -> str:
    if not funnel.contamination:
        return "<p>No item of an evaluation was found in a document.</p>"
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{found.items:,}</td>'
        f'<td class="number">{found.documents:,}</td>'
        f'<td class="number">{found.acted_on:,}</td></tr>'
        for name, found in funnel.contamination.items()
    )
    return (
        '<table><tr><th>benchmark</th><th class="number">items found</th>'
        '<th class="number">documents</th><th class="number">places removed</th></tr>'
        f"{rows}</table>"
    )


def _scores(funnel: Funnel) -> str:
    if not funnel.scores:
        return ""
    drawn = "".join(
        f"<h3>{escape(name)}</h3>{score_chart(funnel, name)}" for name in sorted(funnel.scores)
    )
    return (
        "<h2>Scores</h2><p>What the recipe's scorers say of every document, kept or not; the "
        f"outermost hundredth on each side is in the outermost column.</p>{drawn}"
    )


def _samples(funnel: Funnel) -> str:
    if not funnel.samples and not funnel.cut_samples:
        return ""
    said = (
        "<h2>Look for yourself</h2><p>Drawn at random, the same in every run. Personal data is "
        "masked here, whatever the recipe does with it.</p>"
    )
    for source in funnel.sources:
        said += f"<h3>{escape(source)}</h3>"
        reasons: dict[str | None, str] = {}
        for one in (s for s in funnel.samples if s.source == source):
            shown = (
                f"<blockquote><b>{escape(one.title or one.uri)}</b>{escape(one.text)}</blockquote>"
            )
            reasons[one.reason] = reasons.get(one.reason, "") + shown
        for reason, quotes in sorted(reasons.items(), key=lambda item: item[0] or ""):
            name = "in the corpus" if reason is None else f"dropped: {escape(reason)}"
            said += f"<details><summary>{name}</summary>{quotes}</details>"
        places: dict[str, str] = {}
        for cut in (c for c in funnel.cut_samples if c.source == source):
            instead = f"<ins>{escape(cut.replacement)}</ins>" if cut.replacement else ""
            removed = f"<del>{escape(cut.cut)}</del>" if cut.cut else ""
            places[cut.reason] = places.get(cut.reason, "") + (
                f"<blockquote><b>{escape(cut.title)}</b>{escape(cut.before)}{removed}{instead}"
                f"{escape(cut.after)}</blockquote>"
            )
        for reason, quotes in sorted(places.items()):
            said += f"<details><summary>cut: {escape(reason)}</summary>{quotes}</details>"
    return said


def _composition(
    funnel: Funnel, parts: Mapping[str, Mapping[str, Count]], name: str, most: int = 15
) -> str:
    said = ""
    for source, counts in parts.items():
        whole = funnel.stages["corpus"][source].num_bytes or 1
        index = funnel.sources.index(source)
        first = list(counts.items())
        rows = [(key, c, c.num_bytes / whole, index) for key, c in first[:most]]
        if rest := [c for _, c in first[most:]]:
            others = sum(rest, Count())
            rows.append((f"{len(rest)} others", others, others.num_bytes / whole, index))
        said += _table(f"{source}, by bytes", (name, "documents", "bytes", "tokens", ""), rows)
    return said


def _sampling(funnel: Funnel) -> str:
    epoch = funnel.epoch_bytes
    whole = sum(epoch.values()) or 1
    rows = "".join(
        f"<tr><td>{escape(source)}</td>"
        f'<td class="number">{funnel.weights[source]:.3g}</td>'
        f'<td class="number">{size(num_bytes)}</td>'
        f'<td class="number">{_percent(num_bytes, whole)}</td></tr>'
        for source, num_bytes in epoch.items()
    )
    return (
        "<table><caption>What one epoch sees</caption><tr><th>source</th>"
        '<th class="number">times</th><th class="number">bytes</th>'
        f'<th class="number">share</th></tr>{rows}</table>'
    )


def _table(
    caption: str, heads: tuple[str, ...], rows: Iterable[tuple[str, Count, float, int]]
) -> str:
    """Name, documents, bytes, tokens, and a bar for a share of 0..1 in the colour of the source."""
    first, *others = (escape(head) for head in heads)
    head = f"<th>{first}</th>" + "".join(f'<th class="number">{h}</th>' for h in others)
    body = "".join(
        f"<tr><td>{escape(name)}{_meaning(name)}</td>"
        f'<td class="number">{count.documents:,}</td>'
        f'<td class="number">{size(count.num_bytes)}</td>'
        f'<td class="number">{_short(count.num_tokens)}</td><td class="share">'
        f'<span title="{_percent(share, 1)}" style="width:{100 * share:.1f}%;min-width:1px;'
        f'background:{charts.COLOURS[colour % len(charts.COLOURS)]}"></span></td></tr>'
        for name, count, share, colour in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _meaning(name: str) -> str:
    return f' <span class="quiet">{escape(REASONS[name])}</span>' if name in REASONS else ""


def _colours(funnel: Funnel) -> dict[str, str]:
    number = len(charts.COLOURS)
    return {s: charts.COLOURS[k % number] for k, s in enumerate(funnel.sources)}


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def _sentence_list(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
