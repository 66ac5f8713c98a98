"""How results are written: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mbpo.runs.plain import plain

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on standard output, keys in the order given; null for a number that is not finite."""
    print(json.dumps(plain(result), allow_nan=False))


def console() -> Console:
    """The console for tables on standard output."""
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar of `total` steps on standard error, gone when it is done; the function given says what one step did."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, advance=1, description=f"done: {done}")


def print_facts(out: Console, title: str, facts: Sequence[tuple[str, str]]) -> None:
    """A title and, below it, names with their values."""
    from rich.text import Text

    table = _table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    _print_titled(out, title, table)


def print_matrix(out: Console, title: str, matrix: np.ndarray, row: str, column: str) -> None:
    """A title and a matrix `[r, c]` with aligned numbers: rows are `row`1, `row`2, ..., columns alike."""
    from rich.text import Text

    table = _table()
    table.add_column("")
    for j in range(matrix.shape[1]):
        table.add_column(f"{column}{j + 1}", justify="right", no_wrap=True)
    for i, entries in enumerate(matrix):
        table.add_row(Text(f"{row}{i + 1}", style="bold"), *(f"{entry:.6g}" for entry in entries))
    _print_titled(out, title, table)


def print_rows(
    out: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str | int]]
) -> None:
    """A title and a table with one heading a column; whole numbers are set to the right, text is folded."""
    from rich.text import Text

    table = _table()
    for heading, sample in zip(headings, rows[0], strict=True):
        table.add_column(heading, justify="right" if isinstance(sample, int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(entry)) for entry in row))
    _print_titled(out, title, table)


def _table(show_header: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_header=show_header)


def _print_titled(out: Console, title: str, table: Table) -> None:
    from rich.text import Text

    out.print(Text(title, style="bold cyan"), table)
