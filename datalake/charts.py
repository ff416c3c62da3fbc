"""Small charts as SVG text: no clock, no random identifier, so equal numbers give equal bytes.

Colours follow the reader's light or dark mode, also inside an ``<img>``.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

# Okabe and Ito 2008: told apart by colour-blind readers, on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_WIDTH = 720
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#333}.quiet{fill:#777}"
    ".axis{stroke:#999;fill:none}.line{fill:none;stroke-width:2}"
    "@media (prefers-color-scheme:dark){text{fill:#ddd}.quiet{fill:#999}}</style>"
)


def bars(
    rows: Sequence[tuple[str, Mapping[str, float], str]],
    colours: Mapping[str, str] | None = None,
    title: str = "",
) -> str:
    """Horizontal bars: a label, the parts that are stacked, and what is said at the end of each.

    ``colours`` maps the name of a part to its colour; with several parts a legend is drawn.
    """
    names = list(dict.fromkeys(name for _, parts, _ in rows for name in parts))
    colours = colours or dict(zip(names, COLOURS, strict=False))
    label_width = 16 + 7 * max((len(label) for label, _, _ in rows), default=0)
    said_width = 16 + 7 * max((len(said) for _, _, said in rows), default=0)
    most = max((sum(parts.values()) for _, parts, _ in rows), default=0) or 1
    scale = max(80, _WIDTH - label_width - said_width) / most
    top = 26 if len(names) > 1 else 4
    body = _legend(names, colours, label_width) if len(names) > 1 else ""
    for k, (label, parts, said) in enumerate(rows):
        y, x = top + 26 * k, float(label_width)
        body += _text(label_width - 8, y + 14, label, "end")
        for name, value in parts.items():
            width = value * scale
            body += (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="19" rx="2" '
                f'fill="{colours[name]}"><title>{escape(name)}: {value:,.0f}</title></rect>'
            )
            x += width
        body += _text(x + 8, y + 14, said, quiet=True)
    return _svg(body, top + 26 * len(rows), title)


def columns(
    rows: Sequence[tuple[str, Mapping[str, float]]],
    colours: Mapping[str, str] | None = None,
    title: str = "",
) -> str:
    """Vertical stacked columns with labels below, as many as there is room for: a histogram."""
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    colours = colours or dict(zip(names, COLOURS, strict=False))
    most = max((sum(parts.values()) for _, parts in rows), default=0) or 1
    height, top, step = 150, 26, _WIDTH / max(1, len(rows))
    label_width = 8 * max((len(label) for label, _ in rows), default=0)
    labelled = math.ceil(label_width / step)  # every so many columns
    body = _legend(names, colours, 4)
    for k, (label, parts) in enumerate(rows):
        y = float(top + height)
        for name, value in parts.items():
            tall = value / most * height
            y -= tall
            body += (
                f'<rect x="{k * step + 2:.1f}" y="{y:.1f}" width="{step - 4:.1f}" '
                f'height="{tall:.1f}" rx="2" fill="{colours[name]}">'
                f"<title>{escape(label)}, {escape(name)}: {value:,.0f}</title></rect>"
            )
        if k % labelled == 0:
            body += _text(k * step + step / 2, top + height + 16, label, "middle", quiet=True)
    return _svg(body, top + height + 24, title)


def curve(points: Sequence[tuple[float, float]], across: str, up: str, title: str = "") -> str:
    """A line through points of the unit square, with what its axes mean."""
    left, top, width, height = 44, 10, 420, 200
    path = " ".join(
        f"{'L' if k else 'M'}{left + x * width:.1f} {top + (1 - y) * height:.1f}"
        for k, (x, y) in enumerate(points)
    )
    body = f'<path class="axis" d="M{left} {top}V{top + height}H{left + width}"/>'
    body += f'<path class="line" stroke="{COLOURS[0]}" d="{path}"/>'
    for tick in (0, 0.25, 0.5, 0.75, 1):
        body += _text(left + tick * width, top + height + 17, f"{tick:g}", "middle", quiet=True)
        body += _text(left - 8, top + (1 - tick) * height + 4, f"{tick:g}", "end", quiet=True)
    body += _text(left + width / 2, top + height + 36, across, "middle")
    body += _text(left + 12, top + 14, up)
    return _svg(body, top + height + 44, title)


def _legend(names: Sequence[str], colours: Mapping[str, str], x: float) -> str:
    body = ""
    for name in names:
        body += f'<rect x="{x:.1f}" y="3" width="12" height="12" rx="2" fill="{colours[name]}"/>'
        body += _text(x + 18, 14, name)
        x += 34 + 7.5 * len(name)
    return body


def _text(x: float, y: float, said: str, anchor: str = "start", quiet: bool = False) -> str:
    kind = ' class="quiet"' if quiet else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(said)}</text>'


def _svg(body: str, height: float, title: str) -> str:
    named = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" role="img">{named}{_STYLE}{body}</svg>'
    )
