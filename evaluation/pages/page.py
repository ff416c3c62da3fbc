"""One HTML file that needs nothing else: no network, no script, light and dark, fit for print."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--soft:#5b6675;--line:#d5dbe3;
--tint:#f3f6fa;--accent:#0b63b0;--right:#00765a;--wrong:#b3261e}
@media (prefers-color-scheme:dark){:root{--paper:#14181e;--ink:#e8ecf2;--soft:#a3adba;
--line:#39424f;--tint:#1c222b;--accent:#6db3f2;--right:#4fc9a4;--wrong:#ff9a90}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif;
overflow-wrap:break-word}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}
svg[width="560"]{width:100%;max-width:45rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.25rem;margin:2.6rem 0 .6rem}
h3{font-size:1rem;margin:1.6rem 0 .4rem}
p{margin:.5rem 0;max-width:44rem}
.lead{font-size:1.1rem}.soft,figcaption,caption{color:var(--soft)}
.wide{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.2rem 0}
th,td{text-align:left;padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);
vertical-align:top}
th{font-weight:600}td.number,th.number{text-align:right}
figure{margin:1rem 0}figure .wide{margin:0 0 .4rem}figcaption{font-size:.9rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.25rem;margin:.8rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{background:var(--tint);padding:.7rem .9rem;border-radius:6px;overflow-x:auto;margin:.3rem 0;
font:.85rem/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
pre b{color:var(--accent)}
.tag{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 .55rem;
font-size:.82rem;color:var(--soft)}
a{color:var(--accent)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;
margin:1.2rem 0;padding:0;list-style:none}
.tiles li{background:var(--tint);border-radius:10px;padding:.8rem 1rem;line-height:1.35}
.tiles b{display:block;font-size:1.65rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles small{color:var(--soft);font-size:.85rem;display:block}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(25rem,100%),1fr));
gap:0 2rem}.sides>div{min-width:0}
details{margin:.5rem 0}summary{cursor:pointer;padding:.25rem 0}
.answer{border-left:3px solid var(--line);padding:.1rem 0 .1rem .9rem;margin:.8rem 0;
overflow-wrap:anywhere}
.answer p{white-space:pre-wrap;margin:.15rem 0}.answer .soft{font-size:.9rem}
.answer.right{border-color:var(--right)}.answer.wrong{border-color:var(--wrong)}
.right b{color:var(--right)}.wrong b{color:var(--wrong)}
@media (max-width:46rem){main{padding:1.2rem 1rem 3rem}svg[width="720"]{min-width:34rem}
svg[width="560"] text{font-size:14.5px}
td,th[scope=row]{min-width:5.5rem}td.number{min-width:0}
h1{font-size:1.55rem}th,td{padding-right:.7rem}dl{grid-template-columns:1fr;gap:0}
dd{margin:0 0 .5rem}}
@media print{main{max-width:none}}
"""


class Html(str):
    """Text that is markup already; every other string is escaped where it enters a page."""

    __slots__ = ()


def html(value: object) -> Html:
    """``value`` as markup."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def page(title: str, parts: Iterable[Html]) -> str:
    """A whole document. Its policy forbids the browser to load or run anything."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{html(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def section(heading: str, *parts: Html) -> Html:
    """A heading and what it is about."""
    return Html(f"<section><h2>{html(heading)}</h2>\n{chr(10).join(parts)}</section>")


def paragraph(*pieces: object, look: str = "") -> Html:
    """Pieces of text run together."""
    attribute = f' class="{look}"' if look else ""
    return Html(f"<p{attribute}>{''.join(map(html, pieces))}</p>")


def table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Rows below headers; a column of numbers is set flush right.

    The first column names its row. A cell of None is left empty.
    """
    rows = [list(row) for row in rows]
    numeric = [
        all(isinstance(row[i], int | float) for row in rows if row[i] is not None)
        for i in range(len(headers))
    ]

    def cell(value: object, column: int, tag: str = "td", scope: str = "") -> str:
        look = ' class="number"' if numeric[column] and rows else ""
        shown = f"{value:,}" if isinstance(value, int) else "" if value is None else value
        return f"<{tag}{scope}{look}>{html(shown)}</{tag}>"

    head = "".join(cell(h, i, "th", ' scope="col"') for i, h in enumerate(headers))
    body = "\n".join(
        "<tr>"
        + "".join(
            cell(v, i, "th", ' scope="row"') if i == 0 else cell(v, i) for i, v in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return Html(
        f'<div class="wide"><table><caption>{html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def tagged(value: object, tag: str) -> Html:
    """``value`` with a small label behind it."""
    return Html(f'{html(value)} <span class="tag">{html(tag)}</span>')


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, side by side."""
    items = "".join(f"<dt>{html(name)}</dt><dd>{html(value)}</dd>" for name, value in pairs)
    return Html(f"<dl>{items}</dl>")


def tiles(numbers: Iterable[tuple[str, str, str]]) -> Html:
    """The few numbers that matter most, large: value, what it is, what to know about it."""
    items = "".join(
        f"<li><b>{html(value)}</b>{html(what)}<small>{html(note)}</small></li>"
        for value, what, note in numbers
    )
    return Html(f'<ul class="tiles">{items}</ul>')


def side_by_side(blocks: Iterable[Html]) -> Html:
    """Blocks in two columns where the screen is wide enough."""
    return Html(f'<div class="sides">{"".join(f"<div>{block}</div>" for block in blocks)}</div>')


def folded(summary: object, *parts: Html, is_open: bool = False) -> Html:
    """What only some readers want: opened by a click, and without a script."""
    state = " open" if is_open else ""
    return Html(
        f"<details{state}><summary>{html(summary)}</summary>\n{chr(10).join(parts)}</details>"
    )


def bullets(items: Iterable[object]) -> Html:
    """One point below the other."""
    return Html("<ul>" + "".join(f"<li>{html(item)}</li>" for item in items) + "</ul>")


def figure(svg: str, caption: str) -> Html:
    """A chart with its caption."""
    return Html(
        f'<figure><div class="wide">{svg}</div><figcaption>{html(caption)}</figcaption></figure>'
    )
