"""docs/answers.md: the questions that this project was asked, answered by sentences that studies compute.

    python benchmarks/answers.py

runs the studies that are missing as `mbpo study` does, into runs/answers/ (an interrupted one starts anew, complete
ones are only read), records what they say in answers.json, and writes the page from it and from the other records here.
With `--write` nothing is run.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mbpo.report.studies import pictures_of

HERE = Path(__file__).parent
RUNS = HERE.parent / "runs" / "answers"
DOCS = HERE.parent / "docs"
RECORD = HERE / "answers.json"
SYSTEMS = (
    "boeing747", "cartpole", "double_integrator", "laplacian3", "laplacian3_cheap_state", "pendulum", "scalar",
    "two_masses",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A study whose findings answer a question, and the figure that shows it."""

    study: str
    seeds: int
    transitions: int
    figure: str
    systems: tuple[str, ...] = SYSTEMS

    @property
    def command(self) -> list[str]:
        """What `mbpo` is told, without where to keep it."""
        return [
            "study", self.study, *self.systems, "--seeds", str(self.seeds), "--transitions", str(self.transitions),
        ]  # fmt: skip


INTRODUCTION = (
    "Every sentence below that states a result was computed from the rows of a study or of a record in `benchmarks/`, "
    "by `python benchmarks/answers.py`, which wrote this page. Intervals are over seeds."
)
ASKED = (
    Asked("real-ratio", 16, 3000, "real-ratio-overview"),
    Asked("sample-efficiency", 16, 20_000, "sample-efficiency-overview"),
    Asked("rollout-length", 16, 3000, ""),
)


def main() -> None:
    """Run, record, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page from the record, run nothing")
    args = parser.parse_args()
    if not args.write:
        for asked in ASKED:
            _record(asked)
    record = json.loads(RECORD.read_text())
    (DOCS / "answers.md").write_text(_page(record))
    print(DOCS / "answers.md")


def _record(asked: Asked) -> None:
    out = RUNS / asked.study
    command = [sys.executable, "-m", "mbpo", *asked.command, "--out", str(out), "--json"]
    result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    config = json.loads((out / "config.json").read_text())
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[asked.study] = {
        "command": " ".join(["mbpo", *asked.command]),
        "systems": result["systems"],
        "seeds": result["seeds"],
        "settings": result["settings"],
        "findings": result["findings"],
        "caveats": result["caveats"],
        "versions": config["versions"],
        "platform": config["platform"],
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    for picture in pictures_of(result):
        if picture.name == asked.figure:
            (DOCS / "figures").mkdir(exist_ok=True)
            (DOCS / "figures" / f"{asked.study}.svg").write_text(_on_white(picture.svg))


def _on_white(svg: str) -> str:
    """The figure with a background, for pages that are dark."""
    begin = svg.index(">", svg.index("<svg")) + 1
    return f'{svg[:begin]}<rect width="100%" height="100%" fill="white"/>{svg[begin:]}'


def _page(record: dict) -> str:
    parts = [
        "# The questions this project was asked",
        "",
        INTRODUCTION,
        *_answer(
            "Does MBPO work where everything is known, and how much real data does it save?",
            "sample-efficiency",
            record,
        ),
        *_learners(),
        *_answer("What does the ratio of real to imagined data do?", "real-ratio", record),
        *_answer("How long should imagined branches be?", "rollout-length", record),
        *_tasks(),
    ]
    return "\n".join(parts) + "\n"


def _answer(question: str, study: str, record: dict) -> list[str]:
    if study not in record:
        return []
    found = record[study]
    lines = ["", f"## {question}", "", *(f"- {finding}" for finding in found["findings"]), ""]
    if (DOCS / "figures" / f"{study}.svg").exists():
        lines += [f"![{question}](figures/{study}.svg)", ""]
    lines += [f"`{found['command']}`. What to keep in mind:", "", *(f"- {each}" for each in found["caveats"])]
    return lines


def _learners() -> list[str]:
    """Which gradient works: every learner on random systems."""
    path = HERE / "random_systems.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    lines = [
        "", "## Which gradient works for linear policies?", "",
        "| learner | real transitions given | systems to 10 % | median to 10 % | systems to 1 % | median to 1 % |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    given = {row["learner"]: row["transitions"] for row in record["rows"]}
    by_learner = {(row["learner"], row["level"]): row for row in record["summary"]}
    for name in given:
        cells = []
        for level in ("10", "1"):
            row = by_learner[name, level]
            middle = "more than it had" if row["median"] is None else f"{row['median']:,.0f}"
            cells += [f"{row['reached']} of {row['systems']}", middle]
        lines.append(f"| `{name}` | {given[name]:,} | {' | '.join(cells)} |")
    about = (
        "Random systems with 1 to 6 states (`benchmarks/random_systems.py`), medians over systems of medians "
        f"over {record['rows'][0]['seeds']} seeds; counts and intervals of each system are in `random_systems.json`. "
        "`plain-` learners have the best of three steps on each system. Why the Gaussian way failed as it was first "
        "tried is told in [why the Gaussian hack failed](why-the-gaussian-hack-failed.md)."
    )
    return [*lines, "", about]


def _tasks() -> list[str]:
    """The original, harder setting."""
    path = HERE / "tasks_fast_hopper.json"
    if not path.exists():
        return []
    runs = json.loads(path.read_text())["runs"]
    lines = [
        "",
        "## And in the original, harder setting?",
        "",
        "Hopper-v5 with preset [`fast`](fast.md), one line a seed:",
        "",
    ]
    lines += ["| seed | real steps | mean return of the last policy | core-minutes |", "|---|---|---|---|"]
    for run in runs:
        minutes = "" if run["core_seconds"] is None else f"{run['core_seconds'] / 60:.0f}"
        lines.append(
            f"| {run['seed']} | {run['steps']:,} | {run['evaluation']['mean_return']:,.0f} | {minutes} |"
        )
    return lines


if __name__ == "__main__":
    main()
