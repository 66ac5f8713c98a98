"""Figures of the study of the real ratio: what it does, with other lengths and updates, why, and where it is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.gradient_figures import limits
from mbpo.report.palette import colour
from mbpo.report.studies.curves import (
    SMALL,
    Row,
    Series,
    column,
    excess_axis,
    excess_curve,
    excess_limits,
    left_out,
    line_end,
    seeds,
    some,
    tag_of,
    values_told,
    with_interval,
)
from mbpo.report.studies.gradient_errors import error_cases, error_figure, error_told, error_words
from mbpo.report.ticks import log_axis

AMOUNTS = (
    ("mbpo", "o"),
    ("mbpo-simple", "^"),
    ("dpg", "s"),
    ("dyna", "v"),
    ("off-pac", "D"),
)  # most data first
LENGTHS = (("dyna", "v"), ("mbpo", "o"), ("off-pac", "D"), ("dpg", "s"), ("mbpo-simple", "^"))
RATIO_TICKS = ([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
MANY = 3  # systems from which on one figure shows all of them
TINTS = ("mbpo", "mbpo-simple", "dpg", "dyna", "off-pac", "policy-gradient", "known", "certainty-equivalence")
ACROSS = "share of real transitions in a batch"
SCHEDULES_AT, SCHEDULE_GAP = 1.2, 0.24  # where the column of schedules is, in units of the ratio
DODGE = 0.045  # between marks that would hide each other
SIDESTEP = 1.05  # the same on a logarithmic axis


def pictures(result: Mapping[str, Any]) -> list[Picture]:
    """Five figures for each system of the study's JSON object, after one of all of them where there are many."""
    found: list[Picture | None] = [_overview(result["rows"])] if len(result["systems"]) >= MANY else []
    for place, system in enumerate(result["systems"]):
        rows, tag = some(result["rows"], system=system), tag_of(result["systems"], place)
        trained = some(rows, part="training")
        if trained:
            length, updates = _usual(trained)
            usual = {"rollout_length": length, "updates": updates}
            equal = {"exploration": 1.0, "imagined": max(row["imagined"] for row in trained)}
            found.append(_amounts(system, some(trained, **usual, **equal), tag))
            found.append(_widths(system, some(trained, planted_error=0.0, **usual), tag))
            found.append(_lengths(system, some(trained, planted_error=0.0, **equal), tag))
            found.append(_why(system, some(rows, part="gradient", rollout_length=length, **equal), tag))
            found.append(_best(system, some(rows, part="best", **usual, **equal), tag))
    return [picture for picture in found if picture is not None]


def _overview(rows: Sequence[Row]) -> Picture | None:
    """Excess cost over that with real data alone, a line for each system, a panel for each way to imagine."""
    trained = some(rows, part="training", planted_error=0.0)
    length, updates = _usual(some(rows, part="training"))
    most = max(row["transitions"] for row in trained)
    usual = _constant(some(trained, rollout_length=length, updates=updates, transitions=most))
    ways = sorted({(row["exploration"], row["imagined"]) for row in usual})
    lines = {way: _relative(some(usual, exploration=way[0], imagined=way[1])) for way in ways}
    lines = {way: found for way, found in lines.items() if found}
    if not lines:
        return None
    values = [value for found in lines.values() for _, shares in found.values() for value in shares]
    with style():
        figure, axes = new_figure(0.9 + 2.1 * len(lines), len(lines), right=0.64)
        figure.subplots_adjust(left=0.16, top=1 - 0.3 / figure.get_figheight(), hspace=0.28)
        for place, (way, found) in zip(axes, lines.items(), strict=True):
            _overview_panel(place, found, limits([*values, 1.0], 1.2))
            words = f"{way[0]:g}× the world's exploration, {way[1]:,} imagined rows"
            place.set_title(words, loc="left", fontsize=SMALL, color=palette.MUTED[0], pad=3)
        axes[-1].set_xlabel(ACROSS)
        svg = to_svg(figure)
    told = "; ".join(
        f"{way[0]:g} times the exploration, {way[1]:,} rows: "
        + ", ".join(f"{name} {shares[-1]:.2g}" for name, (_, shares) in found.items())
        for way, found in lines.items()
    )
    return Picture(
        "real-ratio-overview", "What the real ratio does on every system",
        f"Median excess cost over that with real data alone, after {most:,} real transitions, {seeds(usual)} each: "
        "below 1 imagined rows help. Systems whose median is infinite at a ratio have no mark there.",
        f"At imagined data alone, relative to real data alone. {told}.",
        svg,
    )  # fmt: skip


def _relative(rows: Sequence[Row]) -> dict[str, tuple[list[float], list[float]]]:
    """By system the ratios from 1 down and the excess costs over that at 1, where both are finite."""
    found = {}
    for system in dict.fromkeys(row["system"] for row in rows):
        own = [row for row in some(rows, system=system) if row["excess"]][::-1]
        if own and float(own[0]["ratio"]) == 1.0 and len(own) > 1:
            found[system] = (
                [float(row["ratio"]) for row in own],
                [row["excess"] / own[0]["excess"] for row in own],
            )
    return found


def _overview_panel(
    axes: Axes, lines: Mapping[str, tuple[list[float], list[float]]], height: tuple[float, float]
) -> None:
    axes.set_xlim(1.03, -0.03)
    axes.set_xticks(*RATIO_TICKS)
    axes.set_yscale("log")
    axes.set_ylim(height)
    log_axis(axes.yaxis, height, lambda value: f"{value:g}")
    axes.axhline(1.0, color=palette.MUTED[0], lw=0.8)
    axes.set_ylabel("over real data alone")
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    ends = []
    for i, (system, (ratios, shares)) in enumerate(lines.items()):
        tint = colour(TINTS[i % len(TINTS)])
        axes.plot(ratios, shares, color=tint, lw=1.2, marker="o", ms=3)
        ends += line_end(np.array(ratios), np.array(shares), system, tint)
    end_labels(axes, ends, SMALL)


def _usual(trained: Sequence[Row]) -> tuple[int, int]:
    """The rollout length and updates a round at which errors were planted; without any, the middle and the most."""
    rows = [row for row in trained if row["planted_error"]] or trained
    lengths = sorted({row["rollout_length"] for row in rows})
    return lengths[len(lengths) // 2], max(row["updates"] for row in rows)


def _constant(rows: Sequence[Row]) -> list[Row]:
    """The rows with a ratio that does not change, in its order."""
    return sorted((row for row in rows if _is_number(row["ratio"])), key=lambda row: float(row["ratio"]))


def _schedules(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not _is_number(row["ratio"])]


def _is_number(words: str) -> bool:
    return words[:1].isdigit()


def _by_amount(rows: Sequence[Row]) -> list[Series]:
    """One line for each amount of real data, the least first."""
    amounts = sorted({row["transitions"] for row in rows}, reverse=True)
    looks = [AMOUNTS[i % len(AMOUNTS)] for i in range(len(amounts))]
    return [
        Series(f"{amount:,}", colour(name), mark, some(rows, transitions=amount))
        for amount, (name, mark) in zip(amounts, looks, strict=True)
    ][::-1]


def _amounts(system: str, rows: Sequence[Row], tag: str) -> Picture:
    """Excess cost against the ratio at the usual length and updates, one line for each amount of real data."""
    chosen = some(rows, planted_error=0.0)
    series = _by_amount(chosen)
    return Picture(
        f"real-ratio-excess{tag}", f"What the real ratio does: {system}",
        "Median excess cost J/J* − 1 after training on so many real transitions, "
        f"{with_interval(chosen)}, with branches of {chosen[0]['rollout_length']} steps and "
        f"{_updates(chosen[0]['updates'])}. At 0 a batch holds imagined data alone, at 1 real data alone."
        f"{_schedule_words(chosen)}{left_out(chosen)}",
        f"Median excess cost by ratio, logarithmic upwards. {_in_words(series, '{} real transitions')}.",
        _ratio_svg([("", series)], "real transitions"),
    )  # fmt: skip


def _updates(count: int) -> str:
    return f"{count} update{'s' * (count != 1)} a round"


def _schedule_words(rows: Sequence[Row]) -> str:
    names = " or ".join(dict.fromkeys(row["ratio"] for row in _schedules(rows)))
    return f" Shaded: a ratio {names} over training, between 0 and 1." if names else ""


def _in_words(series: Sequence[Series], name: str) -> str:
    return "; ".join(
        f"{name.format(each.words)} ({values_told(_constant(each.rows) + _schedules(each.rows), 'ratio')})"
        for each in series
    )


def _lengths(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Excess cost against the ratio at all of the data: a panel for each number of updates, a line for each length."""
    most = max(row["transitions"] for row in rows)
    chosen = some(rows, transitions=most)
    lengths, updates = (sorted({row[name] for row in chosen}) for name in ("rollout_length", "updates"))
    if len(lengths) * len(updates) < 2:
        return None  # the first figure shows it all
    panels = []
    for count in updates:
        own = some(chosen, updates=count)
        series = [
            Series(str(length), colour(name), mark, some(own, rollout_length=length))
            for length, (name, mark) in zip(lengths, LENGTHS * len(lengths), strict=False)
        ]
        panels.append((_updates(count), series))
    words = ". ".join(f"{title}: {_in_words(series, 'length {}')}" for title, series in panels)
    return Picture(
        f"real-ratio-lengths{tag}", f"Longer branches, more updates: {system}",
        f"Median excess cost J/J* − 1 after {most:,} real transitions, "
        f"{with_interval(chosen)}, for several lengths of the imagined branches.{_schedule_words(chosen)}"
        f"{left_out(chosen)}",
        f"Median excess cost by ratio, logarithmic upwards. {words}.",
        _ratio_svg(panels, "steps of a branch"),
    )  # fmt: skip


def _widths(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Excess cost against the ratio at all of the data, a line for each way to imagine."""
    most = max(row["transitions"] for row in rows)
    chosen = [row for row in _constant(rows) if row["transitions"] == most]
    ways = sorted({(row["exploration"], row["imagined"]) for row in chosen})
    if len(ways) < 2:
        return None
    series = [
        Series(
            f"{width:g}× · {imagined:,}",
            colour(name),
            mark,
            some(chosen, exploration=width, imagined=imagined),
        )
        for (width, imagined), (name, mark) in zip(ways, LENGTHS * len(ways), strict=False)
    ]
    return Picture(
        f"real-ratio-exploration{tag}", f"Other ways to imagine: {system}",
        f"Median excess cost J/J* − 1 after {most:,} real transitions, {with_interval(chosen)}, for the standard "
        "deviation of exploration inside the model relative to the world's, and the imagined rows after a fit. Real "
        f"rows are the same.{left_out(chosen)}",
        f"Median excess cost by ratio, logarithmic upwards. {_in_words(series, '{} imagined rows')}.",
        _ratio_svg([("", series)], "exploration · imagined rows"),
    )  # fmt: skip


def _ratio_svg(panels: Sequence[tuple[str, Sequence[Series]]], unit: str) -> str:
    """Panels that share both axes: constant ratios as lines, then schedules in a column of their own."""
    rows = [row for _, series in panels for each in series for row in each.rows]
    names = dict.fromkeys(row["ratio"] for row in _schedules(rows))
    at = {name: SCHEDULES_AT + SCHEDULE_GAP * i for i, name in enumerate(names)}
    with style():
        figure, axes = new_figure(3.9 if len(panels) == 1 else 1.0 + 2.1 * len(panels), len(panels))
        top = 0.32 if len(panels) == 1 else 0.5
        figure.subplots_adjust(left=0.19, top=1 - top / figure.get_figheight(), hspace=0.2)
        for place, (words, series) in zip(axes, panels, strict=True):
            excess_axis(place, excess_limits(rows))
            place.set_xlim(-0.04, max([1.04, *(each + 0.15 for each in at.values())]))
            if at:
                place.axvspan(
                    SCHEDULES_AT - 0.14, place.get_xlim()[1], color=palette.SHADE[0], lw=0, zorder=0
                )
            for i, each in enumerate(series):
                _ratio_line(place, each, at, i, DODGE * (i - (len(series) - 1) / 2))
            place.set_title(words, loc="left", fontsize=SMALL, color=palette.MUTED[0], pad=3)
        axes[-1].set_xticks([*RATIO_TICKS[0], *at.values()], [*RATIO_TICKS[1], *at])
        axes[-1].set_xlabel(ACROSS)
        _key(axes[0], panels[0][1], unit, 1.0 if len(panels) == 1 else 1.09)
        return to_svg(figure)


def _ratio_line(axes: Axes, series: Series, at: Mapping[str, float], place: int, shift: float) -> None:
    constant, others = (replace(series, rows=pick(series.rows)) for pick in (_constant, _schedules))
    excess_curve(axes, np.array([float(row["ratio"]) for row in constant.rows]), constant, place=place)
    beside = np.array([at[row["ratio"]] + shift for row in others.rows])
    excess_curve(axes, beside, others, dash="none", band=False, place=place)


def _key(
    axes: Axes, series: Sequence[Series], unit: str, height: float, extra: Sequence[Line2D] = ()
) -> None:
    """Above the axes: what the lines differ in, and each line's value."""
    handles = [Line2D([], [], ls="none", label=unit)]
    handles += [
        Line2D([], [], color=s.tint, marker=s.mark, lw=1.8, ms=4.6, mew=0, label=s.words) for s in series
    ]
    legend = axes.legend(
        handles=[*handles, *extra], loc="lower left", bbox_to_anchor=(-0.14, height), ncols=8, frameon=False,
        fontsize=SMALL, handlelength=1.5, handletextpad=0.4, columnspacing=1.0, borderaxespad=0.2,
    )  # fmt: skip
    legend.get_texts()[0].set_color(palette.MUTED[0])


def _why(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """The parts of the gradient's error against the ratio: the least and the most data, and the planted error."""
    measured = [{**row, "ratio": float(row["ratio"])} for row in _constant(rows)]
    if not measured:
        return None
    panels = error_cases(measured)
    with style():
        svg = to_svg(error_figure(panels, "ratio", _ratio_axis))
    return Picture(
        f"real-ratio-gradient{tag}", f"Why: the error of the gradient: {system}",
        f"{error_words(panels)} Branches of {measured[0]['rollout_length']} steps.",
        f"Error of the gradient by ratio. {error_told(panels, 'ratio')}.",
        svg,
    )  # fmt: skip


def _ratio_axis(axes: Axes) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(*RATIO_TICKS)
    axes.set_xlabel(ACROSS)


def _best(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """The best ratio against the model's error, filled where the model is fitted and hollow where it is kept wrong."""
    found = [row for row in rows if row["excess"] is not None and row["model_error"]]
    if not found:
        return None
    series, lost = _by_amount(found), len(rows) - len(found)
    with style():
        figure, (axes,) = new_figure(3.5)
        figure.subplots_adjust(left=0.15, top=1 - 0.32 / figure.get_figheight())
        _best_axes(axes, limits([row["model_error"] for row in found], 1.3))
        for i, each in enumerate(series):
            _best_line(axes, each, SIDESTEP ** (i - (len(series) - 1) / 2))
        hollow = Line2D(
            [],
            [],
            ls="none",
            marker="o",
            mfc=palette.PAPER[0],
            color=palette.MUTED[0],
            label="kept wrong",
        )
        _key(axes, series, "real transitions", 1.0, [hollow])
        svg = to_svg(figure)
    missing = f" Left out: {lost} settings without a finite median or model error." if lost else ""
    told_of = "; ".join(
        f"{row['transitions']:,} transitions, model error {per_cent(row['model_error'])}: {row['ratio']}"
        for row in found
    )
    return Picture(
        f"real-ratio-best{tag}", f"The best ratio and the model's error: {system}",
        "The tried ratio with the least median excess cost; bars: the ratios that are best in 95 % of bootstrap "
        f"samples over {seeds(found)}. Filled: the fitted model; hollow: the same with an error that data do not "
        f"remove. Marks of different amounts of data are set a little apart.{missing}",
        f"Best ratio by the model's error. {told_of}.",
        svg,
    )  # fmt: skip


def _best_axes(axes: Axes, x: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(x)
    log_axis(axes.xaxis, x, per_cent)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks(*RATIO_TICKS)
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    axes.set_xlabel("median relative error of the model [A B]")
    axes.set_ylabel("best real ratio")


def _best_line(axes: Axes, series: Series, aside: float) -> None:
    rows = sorted(series.rows, key=lambda row: row["model_error"])
    x, y = column(rows, "model_error") * aside, np.array([float(row["ratio"]) for row in rows])
    axes.plot(x, y, color=series.tint, lw=1.0, alpha=0.45)
    axes.vlines(x, column(rows, "best_low"), column(rows, "best_high"), color=series.tint, lw=1.5)
    for place, height, row in zip(x, y, rows, strict=True):
        inside = palette.PAPER[0] if row["planted_error"] else series.tint
        axes.plot(
            place, height, series.mark, ms=5.8, mec=series.tint, mfc=inside, mew=1.4, clip_on=False, zorder=4
        )
