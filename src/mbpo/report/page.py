"""One self-contained HTML page about several runs: figures inline, nothing loaded from anywhere."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbpo.core.quantiles import quantiles
from mbpo.errors import InputError
from mbpo.lqr.needed import bound_words
from mbpo.report import palette
from mbpo.report.drawing import Picture, per_cent
from mbpo.report.figures import excess_figure, model_error_figure, spread_figure
from mbpo.report.measures import (
    LEVELS,
    excess_words,
    finding,
    median_excess,
    ratio_words,
    reference_of,
    sentence_start,
    transitions_to,
)
from mbpo.report.needed import needed_figure
from mbpo.report.palette import label
from mbpo.report.pictures import gains_figure, rollout_figure
from mbpo.report.templates import environment
from mbpo.runs.record import RunRecord


@dataclass(frozen=True)
class Section:
    """What the page says about one system."""

    name: str
    heading: str
    facts: str
    source: str
    finding: str
    rows: list[dict[str, Any]]
    pictures: list[Picture]


def write_report(
    directory: str | os.PathLike[str],
    records: Sequence[RunRecord],
    title: str,
    command: Sequence[str] | None = None,
) -> Path:
    """Write `report.html` and `figures/*.svg` about `records` to `directory`; returns the page's path.

    Runs on systems of one name share a section. `command` is the one that repeats everything, where there is
    one. Raises `InputError` when there is no record or the directory cannot be written.
    """
    if not records:
        raise InputError("a report needs at least one run, got none")
    folder, sections = Path(directory), _sections(records)
    page = _render(title, sections, records, command)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for section in sections:
            for picture in section.pictures:
                _write(folder / "figures" / f"{_file_name(section.name)}-{picture.name}.svg", picture.svg)
        _write(folder / "report.html", page)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder / "report.html"


def _write(path: Path, text: str) -> None:
    """Write whole or not at all."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    hidden.write_bytes(text.encode())
    os.replace(hidden, path)


def _sections(records: Sequence[RunRecord]) -> list[Section]:
    by_system: dict[str, list[RunRecord]] = {}
    for record in records:
        by_system.setdefault(record.system.name, []).append(record)
    return [_section(group) for group in by_system.values()]


def _section(records: Sequence[RunRecord]) -> Section:
    system = records[0].system
    pictures = (
        excess_figure(records),
        needed_figure(records),
        gains_figure(records),
        model_error_figure(records),
        rollout_figure(records),
        spread_figure(records),
    )
    objective = {"average": "average cost", "discount": f"discount {system.discount}"}
    states = _count(system.state_dim, "state")
    facts = (
        f"{states}, {_count(system.action_dim, 'input')}, "
        f"{objective.get(system.objective, f'total cost over {system.horizon} steps')}, "
        f"optimal cost {records[0].optimal_cost:.6g}"
    )
    return Section(
        system.name,
        sentence_start(system.name.replace("_", " ")),
        facts,
        sentence_start(system.source),
        finding(records),
        [_row(record, reference_of(records)) for record in records],
        [picture for picture in pictures if picture is not None],
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(record: RunRecord, reference: RunRecord) -> dict[str, Any]:
    low, high = quantiles(record.excess_cost[:, -1:], (0.1, 0.9))[:, 0]
    return {
        "variable": palette.variable(record.name),
        "label": label(record.name),
        "transitions": f"{int(record.transitions[-1]):,}",
        "reached": [_reached(record, reference, level) for level in LEVELS],
        "excess": excess_words(float(median_excess(record)[-1])),
        "spread": f"{excess_words(float(low))} to {excess_words(float(high))}",
        "limit": excess_words(record.limit),
        "unstable": f"{record.unstable} of {record.seeds}",
        "cuts": f"{int(record.cuts.sum()):,}",
        "command": shlex.join(record.command),
    }


def _reached(record: RunRecord, reference: RunRecord, level: float) -> dict[str, str]:
    used, base = transitions_to(record, level), transitions_to(reference, level)
    if used.middle is None:
        return {"used": "not reached", "ratio": ""}
    ratio = ""
    if record is not reference and base.middle:
        ratio = bound_words(used, base, ratio_words(used.middle / base.middle))
    return {"used": str(used), "ratio": ratio}


def _render(
    title: str, sections: Sequence[Section], records: Sequence[RunRecord], command: Sequence[str] | None
) -> str:
    first = records[0]
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            sections=sections,
            levels=[per_cent(level) for level in LEVELS],
            colours=list(palette.variables().values()),
            command=None if command is None else shlex.join(command),
            versions=first.versions,
            platform=first.platform,
            devices=", ".join(_unique(first.devices)),
            seeds=_count(first.seeds, "seed"),
        )
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _file_name(name: str) -> str:
    """The name with everything but letters, digits, dots, dashes and underscores replaced."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
    return kept[:100] or "system"
