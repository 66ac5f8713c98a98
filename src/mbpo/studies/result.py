"""What a study of many runs comes to: a table, what it says, and what it does not."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is asked of a study: seeds and real transitions (None: the study's own default), and the seed that every
    random number derives from."""

    seeds: int | None = None
    transitions: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class StudyResult:
    """A finished study, in JSON's types throughout.

    settings: everything that was held equal; findings: sentences, each with its interval and the number of seeds;
    caveats: what the reader must know before believing them; columns: what each column of the table means, in order;
    rows: the table, a value for each column, None where there is none.
    """

    study: str
    title: str
    question: str
    systems: Sequence[str]
    seeds: int
    settings: Mapping[str, Any]
    findings: Sequence[str]
    caveats: Sequence[str]
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        names = list(self.columns)
        for row in self.rows:
            if list(row) != names:
                raise ValueError(f"a row of {self.study} has columns {list(row)}, expected {names}")

    def to_json(self) -> dict[str, Any]:
        """The contract of `mbpo study --json`."""
        return {
            "study": self.study,
            "title": self.title,
            "question": self.question,
            "systems": list(self.systems),
            "seeds": self.seeds,
            "settings": dict(self.settings),
            "findings": list(self.findings),
            "caveats": list(self.caveats),
            "columns": dict(self.columns),
            "rows": [dict(row) for row in self.rows],
        }


def table_row(columns: Mapping[str, str], /, **values: Any) -> dict[str, Any]:
    """A value for each column, None where there is none; raises `KeyError` for values that no column holds."""
    strange = values.keys() - columns.keys()
    if strange:
        raise KeyError(f"no column is named {', '.join(sorted(strange))}")
    return {name: values.get(name) for name in columns}


def to_csv(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as CSV with a heading; floats to the last bit, nothing where there is no value."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(row[name]) for name in columns} for row in rows)
    return out.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
