"""One HTML file that needs nothing else: no network, no script, light and dark, fit for print."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--soft:#5b6675;--line:#d5dbe3;
--tint:#f3f6fa;--accent:#0b63b0}
@media (prefers-color-scheme:dark){:root{--paper:#14181e;--ink:#e8ecf2;--soft:#a3adba;
--line:#39424f;--tint:#1c222b;--accent:#6db3f2}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}
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


def figure(svg: str, caption: str) -> Html:
    """A chart with its caption."""
    return Html(
        f'<figure><div class="wide">{svg}</div><figcaption>{html(caption)}</figcaption></figure>'
    )
