"""How many threads the verbs for control tasks use: one for each core, or what the user or the run at hand says."""

import os
import subprocess
import sys

import pytest

TRAIN = """
import os, sys
from mbpo.cli import execute
from mbpo.runs import task_run
from mbpo.runs.task_folder import open_folder

def trained(request, folder, show, command):
    folder.mkdir(exist_ok=True)
    open_folder(folder, request, command)
    print(os.environ["PJRT_NPROC"])
    sys.exit()

task_run.train_task = trained
execute(["train", sys.argv[1], "--preset", "default", "--steps", "2000", "--out", sys.argv[2]])
"""


def threads(target, folder, **given):
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, target, str(folder)],
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("target", ["Pendulum-v1", "scalar"])
def test_a_run_on_a_task_uses_a_thread_for_each_core(tmp_path, target):
    assert threads(target, tmp_path / "run") == str(len(os.sched_getaffinity(0)))


def test_what_the_user_sets_wins_over_what_the_run_began_with(tmp_path):
    for given, used in (({"PJRT_NPROC": "5"}, "5"), ({}, "5"), ({"PJRT_NPROC": "3"}, "3")):
        assert threads("Pendulum-v1", tmp_path, **given) == used
