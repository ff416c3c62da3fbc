"""Figures of this room as SVG documents: equal content gives equal bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.scaling.fit import Law, by_budget
from training.scaling.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#56b4e9", "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito
_STYLE: Any = {
    "svg.hashsalt": "tarn",  # else element ids are random
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}
_POINTS = 40  # of a curve


def law_chart(law: Law, plan: Plan | None = None) -> str:
    """Left the runs and each budget's parabola, right the rules' extrapolation of their minima."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_parabolas(left, law)
        _draw_rules(right, law, plan)
        return _svg(figure)


def _draw_parabolas(axes: Any, law: Law) -> None:
    curves = law.iso_flops
    for place, (group, flops) in enumerate(zip(by_budget(law.runs), curves.budgets, strict=True)):
        colour = _COLOURS[place % len(_COLOURS)]
        sizes = [run.num_params for run in group]
        axes.scatter(sizes, [run.loss for run in group], s=18, color=colour)
        label = f"{flops:.1e} FLOPs"
        if not curves.fitted:
            axes.plot(sizes, [run.loss for run in group], color=colour, lw=1, label=label)
            continue
        best = curves.places[place]
        across = np.geomspace(min(*sizes, best), max(*sizes, best), _POINTS)
        along = [curves.curve(place, n) for n in across]
        axes.plot(across, along, color=colour, lw=1, label=label)
    axes.set(xscale="log", xlabel="parameters that multiply", ylabel="bits per byte")
    known = "" if curves.fitted else ", and no minimum among these sizes"
    axes.set_title(f"N* ~ C^{curves.exponent:.2f}{known}", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_rules(axes: Any, law: Law, plan: Plan | None) -> None:
    axes.scatter(law.iso_flops.budgets, law.iso_flops.minima, s=18, color="black", zorder=3)
    furthest = plan.flops if plan else 10 * law.top_flops
    across = np.geomspace(law.iso_flops.budgets[0], furthest, _POINTS)
    says = [law.predict(flops) for flops in across]
    band = [p.low for p in says], [p.high for p in says]
    axes.fill_between(across, *band, color=_COLOURS[1], alpha=0.12, lw=0)
    for place, rule in enumerate((law.rule, *law.others)):
        name, losses = rule.kind.replace("_", " "), [rule.best_loss(c) for c in across]
        style: dict[str, Any] = {"ls": "--", "color": _COLOURS[2 + place]}
        if rule is law.rule:
            name, style = f"{name} (chosen)", {"color": _COLOURS[1]}
        axes.plot(across, losses, lw=1, label=name, **style)
    if plan is not None:
        p = plan.predicted
        reach = [[p.loss - p.low], [p.high - p.loss]]
        axes.errorbar([plan.flops], [p.loss], reach, fmt="D", ms=4, color=_COLOURS[3], capsize=3)
        axes.set_title(f"{p.loss:.3f} [{p.low:.3f}, {p.high:.3f}] expected", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="FLOPs", ylabel="least bits per byte")
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.legend(frameon=False, fontsize=8)


def loss_chart(lines: Sequence[Mapping[str, Any]], plan: Plan, realised: float) -> str:
    """Training loss over tokens, and where validation ended against what was expected."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 1))
        tokens = [line["tokens"] / 1e6 for line in lines]
        left.plot(tokens, [line["loss"] for line in lines], color=_COLOURS[1], lw=1)
        left.set(xlabel="million tokens", ylabel="training loss, nats per token")
        p = plan.predicted
        reach = [[p.loss - p.low], [p.high - p.loss]]
        right.errorbar([0], [p.loss], reach, fmt="D", ms=4, color=_COLOURS[1], capsize=4)
        right.scatter([1], [realised], color=_COLOURS[3], zorder=3)
        right.set(xlim=(-0.6, 1.6), ylabel="validation, bits per byte")
        right.set_xticks([0, 1], ["predicted", "realised"])
        right.set_title(f"{p.loss:.3f} and {realised:.3f}", fontsize=9)
        return _svg(figure)


def curves_chart(lines: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]]) -> str:
    """Figures of ``metrics.jsonl`` over steps, one panel per title with the names it shows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.8 * len(panels) + 0.6, 2.6), layout="constrained")
        steps = [line["step"] for line in lines]
        for axes, (title, names) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for colour, name in zip(_COLOURS[1:], names, strict=False):
                label = name.replace("_", " ")
                axes.plot(steps, [line[name] for line in lines], color=colour, lw=1, label=label)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("step")
            if len(names) > 1:
                axes.legend(fontsize=8, frameon=False)
        return _svg(figure)


def _svg(figure: "Figure") -> str:
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()
