"""The figure of a fitted mixture: whether the laws can be believed, and what they say."""

import io
from typing import Any

import numpy as np

from datalake.charts import COLOURS
from datalake.mixture_fit import MixtureFit

_STYLE: Any = {
    "svg.hashsalt": "tarn",  # else element ids are random
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}
_POINTS = 60  # of a curve


def draw(found: MixtureFit) -> str:
    """An SVG: left each run as the others predict it, right the target along each share."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_held_out(left, found)
        _draw_shares(right, found)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _draw_held_out(axes: Any, found: MixtureFit) -> None:
    losses = np.array(found.losses)
    for colour, name, chosen, observed in zip(
        _colours(len(found.laws)), found.sources, found.laws, losses.T, strict=False
    ):
        label = f"{name}: {chosen.kind}, {chosen.spearman:.2f}"
        axes.scatter(observed, chosen.held_out, s=14, color=colour, label=label)
    ends = [losses.min(), losses.max()]
    axes.plot(ends, ends, color="grey", lw=0.8, zorder=0)
    axes.set(xlabel="found, bits per byte", ylabel="predicted from the other runs")
    axes.set_title(f"rank correlation of the target {found.spearman:.2f}", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_shares(axes: Any, found: MixtureFit) -> None:
    """One share moves over what was tried, and the others keep their proportions."""
    shares = np.array(found.shares)
    best = np.array(found.best[: shares.shape[1]])
    for k, colour in enumerate(_colours(len(best))):
        across = np.linspace(shares[:, k].min(), shares[:, k].max(), _POINTS)
        others = np.delete(best, k)
        line = np.insert((found.whole - across)[:, None] * others / others.sum(), k, across, axis=1)
        axes.plot(across, found.target(line), color=colour, lw=1, label=found.sources[k])
        axes.scatter(shares[:, k], found.observed, s=10, color=colour, alpha=0.6)
        axes.axvline(found.natural[k], color=colour, lw=0.8, ls=":")
        axes.scatter([best[k]], [found.predicted], marker="D", s=26, color=colour, zorder=3)
    axes.set(xlabel="share (dotted: natural)", ylabel="target, bits per byte")
    says = f"{found.gain:.1%} [{found.gain_low:.1%}, {found.gain_high:.1%}] gained"
    axes.set_title(says, fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _colours(number: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(number)]
