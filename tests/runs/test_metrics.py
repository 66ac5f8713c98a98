import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbpo.errors import InputError
from mbpo.runs.metrics import MetricsFile, read_metrics

RECORDS = [{"step": 1, "loss": 0.1}, {"step": 2, "name": "né\n", "nested": {"a": [1, None]}}]


def write(path, records):
    with MetricsFile(path) as metrics:
        for record in records:
            metrics.append(record)
        return metrics.position


def test_records_read_back_and_each_line_is_there_at_once(tmp_path):
    path = tmp_path / "run/metrics.jsonl"
    with MetricsFile(path) as metrics:
        for count, record in enumerate(RECORDS, start=1):
            metrics.append(record)
            assert read_metrics(path) == RECORDS[:count]
            assert metrics.position == metrics.sync() == path.stat().st_size
    assert path.read_bytes().count(b"\n") == 2


def test_numpy_values_become_plain_and_what_is_not_finite_becomes_null(tmp_path):
    write(tmp_path / "m", [{"a": np.float32(0.5), "b": np.array([1, 2]), "c": np.nan, "d": {"e": -np.inf}}])
    assert read_metrics(tmp_path / "m") == [{"a": 0.5, "b": [1, 2], "c": None, "d": {"e": None}}]
    with MetricsFile(tmp_path / "n") as metrics:
        with pytest.raises(TypeError, match="object has no JSON form"):
            metrics.append({"a": 1, "b": object()})
        assert (tmp_path / "n").read_bytes() == b""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4), st.data())
def test_a_file_cut_anywhere_continues_to_the_same_bytes(tmp_path_factory, records, data):
    folder = tmp_path_factory.mktemp("metrics")
    write(folder / "whole", records)
    whole = (folder / "whole").read_bytes()
    known = data.draw(st.integers(0, len(records)))
    position = write(folder / "resumed", records[:known])
    with open(folder / "resumed", "ab") as file:
        file.write(whole[position : data.draw(st.integers(position, len(whole)))])
    assert records[: len(read_metrics(folder / "resumed"))] == read_metrics(folder / "resumed")
    with MetricsFile.resume(folder / "resumed", position) as metrics:
        for record in records[known:]:
            metrics.append(record)
    assert (folder / "resumed").read_bytes() == whole
    assert read_metrics(folder / "resumed") == records


def test_a_torn_last_line_is_left_out_even_where_it_looks_whole(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert read_metrics(path) == [{"a": 1}]
    path.write_bytes(b'{"a": 1}\n{"a": \xff')
    assert read_metrics(path) == [{"a": 1}]
    path.write_bytes(b"")
    assert read_metrics(path) == []


@pytest.mark.parametrize("line", [b"{", b"[1]", b"", b"\xff"])
def test_any_other_line_that_is_no_object_is_named(tmp_path, line):
    (tmp_path / "m").write_bytes(b'{"a": 1}\n' + line + b"\n{}\n")
    with pytest.raises(InputError, match="m, line 2, is not a JSON object"):
        read_metrics(tmp_path / "m")


@pytest.mark.parametrize(
    ("position", "sentence"),
    [
        (19, "has 18 bytes, expected at least the 19 of the checkpoint"),
        (-1, "has 18 bytes, expected at least the -1"),
        (8, "has no end of a line at byte 8"),
        (1, "has no end of a line at byte 1"),
    ],
)
def test_a_position_that_was_never_the_end_of_a_line_is_refused(tmp_path, position, sentence):
    path = tmp_path / "m"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    with pytest.raises(InputError, match=sentence):
        MetricsFile.resume(path, position)
    assert path.stat().st_size == 18


def test_a_file_that_is_not_there_starts_at_nought_alone(tmp_path):
    MetricsFile.resume(tmp_path / "new", 0).close()
    assert (tmp_path / "new").read_bytes() == b""
    with pytest.raises(InputError, match="absent cannot be continued: No such file"):
        MetricsFile.resume(tmp_path / "absent", 9)
    assert not (tmp_path / "absent").exists()


def test_a_new_file_does_not_go_on_an_old_one(tmp_path):
    write(tmp_path / "m", RECORDS[:1])
    with pytest.raises(InputError, match=r"m already holds \d+ bytes of metrics, expected 0"):
        MetricsFile(tmp_path / "m")
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        MetricsFile(tmp_path)
    with pytest.raises(InputError, match="absent cannot be read: No such file"):
        read_metrics(tmp_path / "absent")


class FullDisk:
    """A file that takes `room` more bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.file.write(data[: self.room])
        self.room -= done
        return done


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path):
    with MetricsFile(tmp_path / "m") as metrics:
        metrics.append(RECORDS[0])
        position, file = metrics.position, metrics._file
        metrics._file = FullDisk(file, 5)
        with pytest.raises(InputError, match="m cannot be written: No space left"):
            metrics.append(RECORDS[1])
        metrics._file = FullDisk(file, 10**6)
        assert (metrics.position, (tmp_path / "m").stat().st_size) == (position, position)
        metrics.append(RECORDS[1])
    assert read_metrics(tmp_path / "m") == RECORDS


TRAINING = """
import sys, time, numpy as np
from pathlib import Path
from mbpo.runs.checkpoint import read_checkpoint, write_checkpoint
from mbpo.runs.lock import run_lock
from mbpo.runs.metrics import MetricsFile
run, steps = Path(sys.argv[1]), 60
with run_lock(run):
    found = read_checkpoint(run)
    state = found.arrays["state"] if found else np.ones(1000)
    begin, position = (found.step, found.facts["position"]) if found else (0, 0)
    with MetricsFile.resume(run / "metrics.jsonl", position) as metrics:
        for step in range(begin + 1, steps + 1):
            time.sleep(0.003)
            state = np.cos(state * 1.7 + step)
            metrics.append({"step": step, "mean": state.mean()})
            if step % 4 == 0:
                write_checkpoint(run, step, {"state": state}, {"position": metrics.sync()})
            print(step, flush=True)
"""


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    def start(run):
        return subprocess.Popen([sys.executable, "-c", TRAINING, str(run)], stdout=subprocess.PIPE)

    child = start(tmp_path / "whole")
    child.communicate()
    assert child.returncode == 0
    chance, killed = random.Random(5), 0
    for _ in range(40):
        child = start(tmp_path / "killed")
        child.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.006))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if child.returncode == 0:
            break
        killed += child.returncode == -signal.SIGKILL
        if killed == 5:
            child = start(tmp_path / "killed")
            child.communicate()
            assert child.returncode == 0
            break
    assert killed > 1
    whole, resumed = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "killed"))
    assert resumed == whole
    assert [json.loads(line)["step"] for line in whole.splitlines()] == list(range(1, 61))
