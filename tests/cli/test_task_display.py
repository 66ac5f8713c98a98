"""What a training says while it goes on, and how long it says is left."""

import io
import re

import pytest
from rich.console import Console

from mbpo.cli import train_task
from mbpo.cli.train_task import _Display, _Pace
from mbpo.runs.task_run import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [0.0]
    monkeypatch.setattr(train_task.time, "monotonic", lambda: now[0])
    return now


def at(updates, doing="improving", record=None, done=6000):
    return Progress(done, 40_000, doing, record, updates, 40_000)


def test_the_time_left_follows_from_the_updates_to_come(clock):
    pace = _Pace()
    assert pace.left(at(0)) == ""
    for updates in range(250, 5001, 250):
        clock[0] += 10.0  # 25 updates a second
        left = pace.left(at(updates))
    assert left == "23 min", "35,000 / 25 s"
    clock[0] += 60.0  # an evaluation: no update, but time goes on
    assert pace.left(at(5000)) == "22 min"
    clock[0] += 5.0
    assert re.fullmatch(r"\d+ s", pace.left(at(39_990)))


def test_a_run_that_goes_on_counts_only_what_this_process_does(clock):
    """20,000 updates were made by an earlier process."""
    pace = _Pace()
    pace.left(at(20_000))
    clock[0] += 10.0
    assert pace.left(at(20_250)) == "13 min"


def record(steps, mean_return):
    gap = {"gap": 2.5, "imagined": 200.5, "real": 198.0, "horizon": 100.0}
    return {
        "env_steps": steps, "updates": steps, "mean_return": mean_return, "model": {"holdout_error": [0.03, 0.02]},
        "diagnostics": {"exploitation": gap},
    }  # fmt: skip


def test_each_evaluation_is_a_line_with_the_model_s_promise_beside_the_truth(clock):
    written = io.StringIO()
    display = _Display("Hopper-v5")
    display._console = Console(file=written, width=200)
    display.show(at(0, "compiling"))
    display.show(at(0, "fitting"))
    for steps, mean_return in ((6000, 250.4), (7000, 1005.0)):
        clock[0] += 50.0
        display.show(at(steps, record=record(steps, mean_return), done=steps))
    lines = written.getvalue().splitlines()
    assert lines[0] == "Hopper-v5 step 6000: compiling"
    assert lines[1].startswith("Hopper-v5 step 6000: return 250.4, model error 0.02, ")
    assert "100 steps in the model 200.5, real 198.0" in lines[1]
    assert "20 updates/s" in lines[2]
    assert lines[2].endswith("28 min left"), "33,000 at 20 a second"
    assert len(lines) == 3
    facts = display._bar.tasks[0].fields["facts"]
    assert facts == "7,000/40,000 steps  28 min left  returns 250, 1005"
