"""The page of a study, from its JSON result alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mbpo.report import palette
from mbpo.report.drawing import Picture
from mbpo.report.templates import environment

MOST_ROWS = 400  # on the page; table.csv has them all
ENDS = ("_low", "_high")
Row = Mapping[str, Any]


def study_files(
    result: Mapping[str, Any], about: Mapping[str, Any], pictures: Sequence[Picture]
) -> dict[str, str]:
    """`report.html` and the figures by path, for a result as `mbpo study --json` prints it.

    `about` has command, versions, platform, devices and sources, where each system comes from.
    """
    columns, rows = result["columns"], result["rows"]
    shown = main_columns(columns)
    page = (
        environment()
        .get_template("study.html.j2")
        .render(
            result=result,
            about=about,
            pictures=pictures,
            headings=[(name, _textual(rows, name)) for name in shown],
            rows=[[_cell(row, name) for name in shown] for row in rows[:MOST_ROWS]],
            meanings=[(name, columns[name], _ends(columns, name)) for name in shown],
            settings=[fact for fact in settings_words(result["settings"]) if fact[0] != "seeds"],
            colours=list(palette.variables().values()),
            command=shlex.join(about["command"]),
        )
    )
    files = {f"figures/{picture.name}.svg": picture.svg for picture in pictures}
    return {**files, "report.html": page.replace(" %", "\N{NO-BREAK SPACE}%")}


def main_columns(columns: Mapping[str, str]) -> list[str]:
    """The columns that are not an end of the interval of another one, which is shown with that one."""
    ends = {name + end for name in columns if _ends(columns, name) for end in ENDS}
    return [name for name in columns if name not in ends]


def words(value: Any, separator: str = ",") -> str:
    """One value of the table in words; `separator` of thousands."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:{separator}}"
    if isinstance(value, float):
        return f"{value:{separator}.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"
    return str(value)


def settings_words(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Each setting and its value in words, groups of groups taken apart."""
    for key, value in settings.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
            yield from settings_words(value, f"{name}: ")
        else:
            yield name, _setting(value)


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = [f"{key.replace('_', ' ')} {_setting(each)}" for key, each in value.items()]
        return "; ".join(parts) or "none"
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, list | tuple | Mapping) for each in value)
        parts = [f"({_setting(each)})" if nested else words(each, "") for each in value]
        return ", ".join(parts) or "none"
    return f"{value:.6g}" if isinstance(value, float) else words(value)


def _ends(columns: Mapping[str, str], name: str) -> list[str]:
    """What the two ends of the column's interval mean; nothing where it has none."""
    found = [columns[name + end] for end in ENDS if name + end in columns]
    return found if len(found) == len(ENDS) else []


def _textual(rows: Sequence[Row], name: str) -> bool:
    return any(isinstance(row[name], str) for row in rows)


def _cell(row: Row, name: str) -> tuple[str, str]:
    """A value, and its interval where the row has one."""
    low, high = (row.get(name + end) for end in ENDS)
    return words(row[name]), "" if low is None and high is None else f"{words(low)} to {words(high)}"
