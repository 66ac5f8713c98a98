"""The numbers of runs on control tasks in JSON's types: what `mbpo report --json` prints and the page's table holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mbpo.report.published import published
from mbpo.report.task_measures import Arm, Task, at, best, excess, grouped, pooled, solved, times
from mbpo.report.task_text import arm_findings, inner_findings, last_whole
from mbpo.runs.plain import plain
from mbpo.runs.task_record import TaskRecord


def report_numbers(runs: Sequence[TaskRecord]) -> dict[str, Any]:
    """`runs`: each alone; `tasks`: the same pooled over seeds."""
    return {
        "runs": [run_numbers(run) for run in runs],
        "tasks": [
            {
                "title": task.title,
                "environment": task.environment,
                "options": task.options,
                "termination": task.termination,
                "arms": [arm_numbers(task, arm) for arm in task.arms],
            }
            for task in grouped(runs)
        ],
    }


def run_numbers(run: TaskRecord) -> dict[str, Any]:
    """One run: what was asked, how far it got, and its last and best evaluation; null for what is not known."""
    last, highest, spent = (run.records[-1] if run.records else None), best(run), times(run)
    exact = (last or {}).get("exact") or {}
    return {
        "run": str(run.folder),
        **{key: run.request[key] for key in ("environment", "options", "termination", "preset")},
        "changes": run.changes(),
        **{key: run.request[key] for key in ("seed", "steps")},
        "done": run.done,
        "complete": run.complete,
        "evaluations": len(run.records),
        "updates": last and last["updates"],
        "last_step": last and last["env_steps"],
        "last_return": last and last["mean_return"],
        "best_return": highest and highest["mean_return"],
        "best_step": highest and highest["env_steps"],
        "excess_cost": exact.get("excess_cost"),
        "excess_standard_error": exact.get("standard_error"),
        "one_step_error": exact.get("one_step_error"),
        "seconds": None
        if spent is None
        else {name: float(each.sum()) for name, each in spent.seconds.items()},
        "updates_per_second": float(spent.updates.sum()) / spent.total if spent and spent.total > 0 else None,
        "diagnostics": last and last.get("diagnostics"),
    }


def arm_numbers(task: Task, arm: Arm) -> dict[str, Any]:
    """The runs of one request pooled: median, least and greatest of the runs that were there at each evaluation."""
    runs, curves = arm.recorded, published(arm.runs[0].family)
    curve, costs = pooled(runs, at("mean_return")), pooled(runs, excess)
    step = None if curve is None else int(curve.steps[last_whole(curve)])
    means = [] if step is None else [(each, each.at(step)) for each in curves]
    return plain(
        {
            "name": arm.name,
            "seeds": [run.request["seed"] for run in arm.runs],
            "mean_return": _curve(curve),
            "excess_cost": _curve(costs),
            "step_within_5_percent": None if costs is None else solved(costs),
            "published": [
                {"method": s.method, "version": s.version, "env_steps": step, "mean": mean, "seeds": s.seeds}
                for s, mean in means
                if mean is not None
            ],
            "findings": [*arm_findings(task, arm, curves), *inner_findings(arm)],
        }
    )


def _curve(curve: Any) -> dict[str, Any] | None:
    if curve is None:
        return None
    return {
        "env_steps": curve.steps,
        "median": curve.middle,
        "least": curve.low,
        "greatest": curve.high,
        "runs": curve.count,
    }
