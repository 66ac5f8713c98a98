"""The page of a bench of gradient estimators, from its JSON result alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mbpo.lqr.gradients import ESTIMATORS
from mbpo.report import palette
from mbpo.report.drawing import Picture, per_cent
from mbpo.report.gradient_curves import path_figure, sweep_figures
from mbpo.report.gradient_figures import bias_figure, short, times, transitions_figure
from mbpo.report.measures import sentence_start
from mbpo.report.palette import label
from mbpo.report.templates import environment

DATA = {
    "current": "the policy's own",
    "past": "another policy's",
    "pool": "a mixture of policies",
    "perturbed": "at perturbed gains",
    "pairs": "at opposite gains",
    "twins": "at opposite gains, same noise",
}
UNBIASED = {True: "yes", False: "no", None: "untestable"}
Row = Mapping[str, Any]


def gradients_files(result: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    """`report.html` and the figures by path, for a result as `mbpo gradients --json` prints it, with or without
    degradation and ratio_path; `about` has command, versions, platform, devices and source.
    """
    told = [row["name"] for row in result["estimators"] if _told(row["name"])]
    pictures = [
        bias_figure(result["estimators"]),
        transitions_figure(result["estimators"], told),
        *sweep_figures(result),
        path_figure(result.get("ratio_path"), result["steps"]),
    ]
    drawn = [picture for picture in pictures if picture is not None]
    files = {f"figures/{picture.name}.svg": picture.svg for picture in drawn}
    return {**files, "report.html": _page(result, about, drawn)}


def _page(result: Mapping[str, Any], about: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    page = (
        environment()
        .get_template("gradients.html.j2")
        .render(
            title=f"Gradient estimators against the exact gradient: {result['system']}",
            result=result,
            findings=findings(result),
            facts=facts(result),
            matrices=matrices(result),
            rows=[estimator_row(row, result["z_threshold"]) for row in result["estimators"]],
            pictures=pictures,
            colours=list(palette.variables().values()),
            command=shlex.join(about["command"]),
            about=about,
        )
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _told(name: str) -> bool:
    """Whether the estimator is told parameters of the system."""
    return name in ESTIMATORS and ESTIMATORS[name].needs_parameters


def facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The setting in words."""
    objective = {"average": "average cost per step", "discount": f"discount {result['discount']}"}
    moment, threshold = result["weight_second_moment"], result["z_threshold"]
    count = len(result["estimators"]) * sum(len(row) for row in result["exact_gradient"])
    return [
        ("objective", objective.get(result["objective"], f"total cost over {result['horizon']} steps")),
        ("trajectories", f"{result['episodes']:,} of {result['steps']} steps for each estimator"),
        ("seed", str(result["seed"])),
        ("cost of K", _number(result["cost"], "infinite")),
        ("E w² of a trajectory's ratio", _number(moment, "infinite")),
        ("radius of the perturbations", _number(result["perturbation_radius"])),
        (
            "|z| to stay below",
            f"{threshold:.3g}: all unbiased estimators together do, with probability 0.999 ({count} entries)",
        ),
    ]


def matrices(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Gains, exploration and the exact gradient as aligned text."""
    named = (
        ("gain K", "gain"),
        ("behaviour gain", "behaviour_gain"),
        ("exploration S", "exploration"),
        ("exact gradient dJ/dK", "exact_gradient"),
    )
    return [(words, _matrix(result[key])) for words, key in named]


def _matrix(rows: Sequence[Sequence[float]]) -> str:
    entries = [[f"{value:.5g}" for value in row] for row in rows]
    widths = [max(len(row[j]) for row in entries) for j in range(len(entries[0]))]
    return "\n".join("  ".join(e.rjust(w) for e, w in zip(row, widths, strict=True)) for row in entries)


def findings(result: Mapping[str, Any]) -> list[str]:
    """What came out: the cheapest estimators, whether the z-scores hold, and who is biased by how much."""
    rows = result["estimators"]
    sentences = [_cheapest(rows), _scores(rows, result["z_threshold"]), _biased(rows)]
    return [sentence for sentence in sentences if sentence]


def _cheapest(rows: Sequence[Row]) -> str:
    priced = [row for row in rows if row["transitions_to_10_percent"]]
    if not priced:
        return "The exact gradient is zero to rounding here, so that no error can be measured relative to it."
    best, own = (
        min(priced, key=_price),
        min((r for r in priced if not _told(r["name"])), key=_price, default=None),
    )
    words = f"{sentence_start(_name(best))} needs the fewest transitions for a gradient with 10 % error: "
    words += short(_price(best))
    if own is not None and own is not best:
        words += f"; of those told nothing about the system {_name(own)}, {short(_price(own))}"
    others = [
        f"{_name(row)} needs {_ratio(_price(row) / _price(best))}"
        for row in priced
        if row["name"] in ("reinforce", "importance-sampling") and row is not best
    ]
    tail = f" {sentence_start(' and '.join(others))} times as many as {_name(best)}." if others else ""
    return words + "." + tail


def _ratio(value: float) -> str:
    return short(value) if value >= 10 else f"{value:.1f}"


def _price(row: Row) -> float:
    return row["transitions_to_10_percent"]


def _name(row: Row) -> str:
    return label(row["name"])


def _scores(rows: Sequence[Row], threshold: float) -> str:
    """Whether every estimator has the mean it should have."""
    above = []
    for row in rows:
        z = row["max_z"] if row["unbiased"] else row["max_z_closed_form"]
        if (row["unbiased"] or row["closed_form_mean"] is not None) and not (z is not None and z < threshold):
            above.append(f"{_name(row)} ({_number(z, 'infinite')})")
    untestable = [_name(row) for row in rows if row["unbiased"] is None]
    tail = f" Untestable, for the size of their weights: {', '.join(untestable)}." if untestable else ""
    if above:
        return (
            f"|z| is above {threshold:.3g} for {', '.join(above)}: its mean is not what it should be." + tail
        )
    return (
        f"Every unbiased estimator agrees with the exact gradient, and every other one with its own closed form where "
        f"there is one: all |z| are below {threshold:.3g}." + tail
    )


def _biased(rows: Sequence[Row]) -> str:
    """The biased, the worst first."""
    seen = sorted((r for r in rows if r["relative_bias"]), key=lambda row: -row["relative_bias"])
    hidden = [_name(row) for row in rows if row["unbiased"] is False and row["relative_bias"] == 0]
    words = [f"{_name(row)} by {per_cent(row['relative_bias'])}" for row in seen]
    if not words and not hidden:
        return ""
    tail = f"{' and '.join(hidden)} by less than can be seen" if hidden else ""
    return f"Biased: {', '.join([*words, tail] if tail else words)}."


def estimator_row(row: Row, threshold: float) -> dict[str, Any]:
    """The numbers of one estimator in words."""
    return {
        "name": row["name"],
        "label": _name(row),
        "variable": palette.variable(row["name"]),
        "summary": row["summary"],
        "data": DATA[row["data"]],
        "told": _told(row["name"]),
        "unbiased": UNBIASED[row["unbiased"]],
        "note": row["note"],
        "z": _number(row["max_z"], "infinite"),
        "z_above": row["unbiased"] is True and not _below(row["max_z"], threshold),
        "own": _own_score(row),
        "own_above": row["closed_form_mean"] is not None and not _below(row["max_z_closed_form"], threshold),
        "bias": _share(row["relative_bias"]),
        "std": "–" if row["relative_std"] is None else times(row["relative_std"]),
        "cosine": "–" if row["cosine"] is None else f"{row['cosine']:.4f}",
        "fraction": _share(row["effective_sample_fraction"]),
        "exact_fraction": "" if row["exact_fraction"] is None else _share(row["exact_fraction"]),
        "needed": _needed(row),
        "natural": _share(row["natural_error"]),
        "newton": _share(row["gauss_newton_error"]),
    }


def _below(z: float | None, threshold: float) -> bool:
    return z is not None and z < threshold


def _own_score(row: Row) -> str:
    """|z| against the closed form of the estimator's mean, or why there is none."""
    if row["closed_form_mean"] is not None:
        return _number(row["max_z_closed_form"], "infinite")
    if row["unbiased"] is not False:
        return "its mean is the gradient"
    reasons = [clause for clause in row["note"].split("; ") if "no closed form" in clause]
    return f"no closed form: {reasons[0] if reasons else row['note']}"


def _needed(row: Row) -> str:
    needed = row["transitions_to_10_percent"]
    if needed is not None:
        return f"{needed:,.0f}"
    return "–" if row["relative_bias"] is None else "never"


def _number(value: float | None, missing: str = "–") -> str:
    return missing if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    """A relative quantity in per cent; rounding errors as such."""
    if value is None:
        return "–"
    return "0 %" if value == 0 else "< 1e-6" if value < 1e-6 else per_cent(value)
