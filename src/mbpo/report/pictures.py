"""The figures that show one system from inside: gains in the plane, imagined against real rollouts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mbpo.lqr.system import LinearQuadratic
from mbpo.report import palette
from mbpo.report.drawing import FEW, Picture, new_figure, per_cent, style, to_svg
from mbpo.report.measures import reference_of
from mbpo.report.palette import colour, label
from mbpo.runs.record import RunRecord

GRID = 121
SHOWN_STATES = 3
CONTOURS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)


def gains_figure(records: Sequence[RunRecord]) -> Picture | None:
    """Gain trajectories over contours of exact excess cost; `None` unless a gain has two entries."""
    system = records[0].system
    if system.state_dim * system.action_dim != 2:
        return None
    lows, highs = _window(records)
    first, second = (np.linspace(a, b, GRID) for a, b in zip(lows, highs, strict=True))
    excess = excess_on_grid(system, first, second, records[0].optimal_cost)
    with style():
        crowded = len(records) > FEW
        legend = 0.3 + 0.17 * -(-len(records) // 3)  # inches where there are many names
        figure, (axes,) = new_figure(4.3 if not crowded else 3.9 + legend)
        _landscape(axes, first, second, excess)
        for record in reversed(records):  # the first on top
            tint = colour(record.name)
            for path in record.gains.reshape(record.seeds, -1, 2)[: 1 if crowded else None]:
                whole = np.concatenate([record.initial_gain.reshape(1, 2), path])
                axes.plot(whole[:, 0], whole[:, 1], color=tint, lw=0.8, alpha=0.7)
        _ends(axes, records[0])
        axes.set_xlim(first[0], first[-1])
        axes.set_ylim(second[0], second[-1])
        names = ("K[1,1]", "K[1,2]") if system.action_dim == 1 else ("K[1,1]", "K[2,1]")
        axes.set_xlabel(f"gain {names[0]}")
        axes.set_ylabel(f"gain {names[1]}")
        handles = [axes.plot([], [], color=colour(r.name), lw=1.8, label=label(r.name))[0] for r in records]
        axes.xaxis.set_major_locator(MaxNLocator(6 if crowded else "auto"))
        figure.subplots_adjust(top=0.9 if not crowded else 1 - legend / figure.get_figheight())
        _legend(axes, handles, crowded)
        svg = to_svg(figure)
    unstable = not np.isfinite(excess).all()
    shaded = " Gains in the shaded region do not stabilise the system." if unstable else ""
    return Picture(
        "gains",
        "The way to the optimum",
        "One thin line for each seed, from the first gain K₀ to the optimum K*, over contours of the exact "
        f"excess cost.{shaded}",
        "Trajectories of the two entries of the gain from the initial to the optimal gain.",
        svg,
    )


def excess_on_grid(
    system: LinearQuadratic, first: np.ndarray, second: np.ndarray, optimal_cost: float
) -> np.ndarray:
    """Exact relative excess cost, [len(second), len(first)], of the gains with those two entries."""

    from mbpo.lqr import exact

    across, upwards = np.meshgrid(first, second)
    gains = np.stack([across, upwards], axis=-1).reshape(-1, system.action_dim, system.state_dim)
    return np.asarray(exact.excess_costs(system, gains, optimal_cost)).reshape(across.shape)


def _window(records: Sequence[RunRecord]) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a rectangle around the gains visited, a few stray ones left out."""
    visited = np.concatenate([record.gains.reshape(-1, 2) for record in records])
    fixed = np.stack([records[0].initial_gain.reshape(2), records[0].optimal_gain.reshape(2)])
    low = np.minimum(np.quantile(visited, 0.002, axis=0), fixed.min(axis=0))
    high = np.maximum(np.quantile(visited, 0.998, axis=0), fixed.max(axis=0))
    margin = np.maximum(0.18 * (high - low), 0.05 * np.maximum(np.abs(low), np.abs(high)) + 1e-6)
    return low - margin, high + margin


def _landscape(axes: Axes, first: np.ndarray, second: np.ndarray, excess: np.ndarray) -> None:
    unstable = ~np.isfinite(excess)
    if unstable.any():
        axes.contourf(first, second, unstable.astype(float), [0.5, 1.5], colors=[palette.SHADE[0]])
        axes.contour(first, second, unstable.astype(float), [0.5], colors=[palette.MUTED[0]], linewidths=0.8)
    shown = np.ma.masked_where(unstable, excess)
    levels = [level for level in CONTOURS if shown.min() < level < shown.max()]
    if levels:
        lines = axes.contour(first, second, shown, levels, colors=[palette.GRID[0]], linewidths=1.0)
        axes.clabel(lines, fmt=per_cent, fontsize=7.5, colors=[palette.MUTED[0]])


def _ends(axes: Axes, record: RunRecord) -> None:
    for gain, name, mark, size in ((record.initial_gain, "K₀", "o", 7), (record.optimal_gain, "K*", "*", 15)):
        x, y = gain.reshape(2)
        axes.plot([x], [y], mark, color=palette.INK[0], ms=size, mec=palette.PAPER[0], mew=0.9, zorder=5)
        axes.annotate(
            name,
            (x, y),
            (10, 8),
            textcoords="offset points",
            fontsize=11,
            zorder=6,
            bbox={"facecolor": palette.PAPER[0], "alpha": 0.75, "edgecolor": "none", "pad": 1.0},
        )


def _legend(axes: Axes, handles: Sequence[Line2D], crowded: bool = False) -> None:
    """Names above the axes, out of the way."""
    left, size = (-0.16, 7.0) if crowded else (-0.02, 8.5)
    place = {"loc": "lower left", "bbox_to_anchor": (left, 1.0), "ncols": 3}
    axes.legend(handles=handles, frameon=False, fontsize=size, handlelength=1.2, columnspacing=1.0, **place)


def rollout_figure(records: Sequence[RunRecord]) -> Picture | None:
    """State components over time, real and imagined; `None` when no run has an imagined rollout."""
    with_both = [record for record in records if record.imagined_rollout is not None]
    record = reference_of(with_both) if with_both else records[0]
    if record.imagined_rollout is None or record.real_rollout is None:
        return None
    shown = min(record.system.state_dim, SHOWN_STATES)
    tint = colour(record.name)
    with style():
        figure, rows = new_figure(1.0 + 0.95 * shown, shown)
        figure.subplots_adjust(top=0.9)
        for i, axes in enumerate(rows):
            axes.axhline(0, color=palette.GRID[0], lw=0.8)
            axes.plot(record.real_rollout[:, i], color=palette.INK[0], lw=3.2, alpha=0.3, label="real")
            axes.plot(record.imagined_rollout[:, i], color=tint, lw=1.2, label="imagined")
            axes.set_ylabel(f"x{chr(0x2081 + i)}")
        _legend(rows[0], rows[0].get_lines()[1:])
        rows[-1].set_xlabel("step")
        svg = to_svg(figure)
    more = (
        f" The first {shown} of {record.system.state_dim} states." if record.system.state_dim > shown else ""
    )
    return Picture(
        "rollouts",
        "Imagination against the world",
        f"The final policy of {label(record.name)}, seed {record.settings['seed']}, in the world and in the "
        f"model it fitted, from the same start and with the same noise.{more}",
        "State components over time in the world and in the fitted model.",
        svg,
    )
