"""Checkpoints while their writer is killed, or still at work."""

import random
import signal
import subprocess
import sys
import time

import pytest

from mbpo.runs.checkpoint import read_checkpoint, write_checkpoint

WRITER = """
import sys, itertools, numpy as np
from pathlib import Path
from mbpo.runs.checkpoint import read_checkpoint, write_checkpoint
run, rewrite = Path(sys.argv[1]), sys.argv[2] == "rewrite"
found = read_checkpoint(run)
for step in itertools.count(0 if found is None else found.step + (not rewrite)):
    arrays = {str(i): np.full(20_000, step, np.float32) for i in range(3)}
    write_checkpoint(run, step, arrays, {"step": step}, keep=1 if rewrite else 2)
    if rewrite:
        write_checkpoint(run, step, arrays, {"step": step}, keep=1)
    print(step, flush=True)
"""


@pytest.mark.parametrize("mode", ["onward", "rewrite"])
def test_a_kill_at_any_moment_leaves_the_newest_or_the_one_being_written(tmp_path, mode):
    chance, seen = random.Random(mode), -1
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), mode], stdout=subprocess.PIPE)
        first = child.stdout.readline() if chance.random() < 0.8 else b""
        time.sleep(chance.uniform(0.0, 0.05))
        child.send_signal(signal.SIGKILL)
        reported = [int(line) for line in (first + child.communicate()[0]).split(b"\n")[:-1]]
        assert child.returncode == -signal.SIGKILL
        seen = max([seen, *reported])
        found = read_checkpoint(tmp_path)
        if found is None:
            assert seen == -1
            continue
        assert found.skipped == ()
        assert found.step >= seen
        assert found.facts == {"step": found.step}
        assert all((array == found.step).all() for array in found.arrays.values())
        seen = found.step
    assert seen > 0
    write_checkpoint(tmp_path, seen + 1, {}, {})
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_reader_beside_a_writer_always_finds_an_intact_one(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "onward"], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        steps = []
        for _ in range(100):
            found = read_checkpoint(tmp_path)
            assert found.skipped == ()
            assert all((array == found.step).all() for array in found.arrays.values())
            steps.append(found.step)
    finally:
        child.kill()
        child.communicate()
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]
