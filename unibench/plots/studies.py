"""Plots of the analyses: importance against diversity, angles, sweeps over a parameter."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from unibench.plots.canvas import canvas, looks, title


def tradeoff(points: pd.DataFrame, model: str) -> Figure:
    """Importance retention against the Hopkins statistic, one curve per method (IDPruner, figure
    3).

    Args:
        points: of :func:`unibench.analysis.tradeoff.summary`.
        model: for the title.
    """
    figure, (panel,) = canvas(width=5.4, height=4.2)
    for method, look in looks(points["method"]).items():
        group = points[points["method"] == method]
        panel.plot(
            group["hopkins"],
            group["importance"],
            label=method,
            linewidth=1,
            markersize=5 if len(group) > 1 else 9,
            **look,
        )
        for _, point in group[group["weight"].isin([0.0, 0.5, 1.0])].iterrows():
            place = (point["hopkins"], point["importance"])
            panel.annotate(
                f"{point['weight']:g}", place, fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
    panel.set(
        xlabel="Hopkins statistic H(S) (left: spread, right: clumped)",
        ylabel="importance retention I(S)",
    )
    panel.legend(fontsize=7)
    title(figure, f"{model}, {int(points['pictures'].iloc[0])} pictures", [model])
    return figure


def angles(table: pd.DataFrame, model: str) -> Figure:
    """Share of token pairs by angle (IDPruner, figure 5)."""
    figure, (panel,) = canvas(width=5.0)
    panel.bar(
        table["low"],
        table["share"],
        width=table["high"] - table["low"],
        align="edge",
        color="#0072B2",
    )
    panel.axvline(90, color="0.4", linestyle="--", linewidth=1)
    panel.set(
        xlabel="angle between two visual tokens of a picture, degrees", ylabel="share of pairs"
    )
    title(figure, model, [model])
    return figure


def sweep(lines: pd.DataFrame, parameter: str, model: str) -> Figure:
    """Score against a parameter of a method, one curve for each ability, task or method.

    Args:
        lines: of :func:`unibench.analysis.sweep.sweep`: columns ``value, curve, budget,
            score_100``.
        parameter: its name.
        model: for the title.
    """
    budgets = list(dict.fromkeys(lines["budget"]))
    figure, axes = canvas(1, len(budgets))
    look = looks(lines["curve"])
    numeric = pd.to_numeric(lines["value"], errors="coerce").notna().all()
    lines = lines.assign(
        value=pd.to_numeric(lines["value"]) if numeric else lines["value"].astype(str)
    )
    for panel, budget in zip(axes, budgets, strict=True):
        for curve, group in lines[lines["budget"] == budget].groupby("curve", sort=False):
            ordered = group.sort_values("value") if numeric else group
            wide = 2.0 if curve == "all" else 1.0
            panel.plot(
                ordered["value"],
                ordered["score_100"],
                label=str(curve),
                linewidth=wide,
                markersize=4,
                **look[str(curve)],
            )
        panel.set(title=f"ratio {budget}", xlabel=parameter, ylabel="score")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7
    )
    title(figure, model, [model])
    return figure


def horizon(table: pd.DataFrame) -> Figure:
    """Random choice minus everything it is compared with, by the layer of the cut, with paired 95 %
    intervals.

    Args:
        table: of :func:`unibench.analysis.horizon.horizon`.
    """
    places = table[["model", "task", "budget"]].drop_duplicates()
    figure, axes = canvas(1, len(places))
    look = looks(table["against"])
    for panel, (model, task, budget) in zip(axes, places.itertuples(index=False), strict=True):
        same = (table["model"] == model) & (table["task"] == task) & (table["budget"] == budget)
        for name, group in table[same].groupby("against", sort=False):
            below, above = group["difference"] - group["low"], group["high"] - group["difference"]
            panel.errorbar(
                group["layer"],
                group["difference"],
                yerr=[below, above],
                label=f"against {name}",
                linewidth=1,
                capsize=2,
                **look[name],
            )
        panel.axhline(0, color="0.4", linestyle="--", linewidth=1)
        panel.set(xlabel="layer of the cut", ylabel="random minus the other, points")
        panel.set_title(f"{task} at {budget}", fontsize=8)
        panel.legend(fontsize=7)
    title(figure, ", ".join(dict.fromkeys(table["model"])), list(table["model"]))
    return figure
