import struct
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mbpo.errors import InputError
from mbpo.runs.events import EventsWriter


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def masked(data):
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    content, found = path.read_bytes(), []
    while content:
        length, check = struct.unpack("<QI", content[:12])
        data, content = content[12 : 12 + length], content[12 + length :]
        assert (check, content[:4]) == (masked(struct.pack("<Q", length)), struct.pack("<I", masked(data)))
        found.append(Event.FromString(data))
        content = content[4:]
    return found


def shown(folder):
    """What TensorBoard shows: the files in the order of their names, purged at every START but the first."""
    scalars, started = {}, False
    for path in sorted(folder.iterdir()):
        for event in events(path):
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                if started:
                    scalars = {at: value for at, value in scalars.items() if at[1] < event.step}
                started = True
            scalars |= {(each.tag, event.step): each.simple_value for each in event.summary.value}
    return scalars


def test_the_checksum_of_this_test_is_the_standard_s():
    assert crc32c(b"123456789") == 0xE3069283


def test_every_number_becomes_a_tag(tmp_path):
    record = {
        "loss": 0.5,
        "count": np.int64(3),
        "flag": True,
        "device": jnp.asarray(1.5),
        "array0": np.array(2.5, np.float32),
        "actor": {"loss": -1.0, "deep": {"er": 4}},
        "text": "no",
        "none": None,
        "list": [1.0],
        "vector": np.zeros(2),
    }
    before = time.time()
    with EventsWriter(tmp_path / "events") as writer:
        writer.write(7, record)
        writer.write(np.int64(8), {"text": "nothing to show"})
        writer.write(9, {"loss": float("nan"), "huge": 1e300})
    first, start, *rest = events(writer.path)
    assert first.file_version == "brain.Event:2"
    assert start.session_log.status == SessionLog.START
    assert [event.step for event in rest] == [7, 9]
    assert {value.tag: value.simple_value for value in rest[0].summary.value} == {
        "loss": 0.5,
        "count": 3.0,
        "flag": 1.0,
        "device": 1.5,
        "array0": 2.5,
        "actor/loss": -1.0,
        "actor/deep/er": 4.0,
    }
    assert np.isnan(rest[1].summary.value[0].simple_value)
    assert rest[1].summary.value[1].simple_value == np.inf
    assert before <= first.wall_time <= rest[0].wall_time <= time.time()


def test_each_event_is_in_the_file_at_once(tmp_path):
    with EventsWriter(tmp_path) as writer:
        for step in range(3):
            writer.write(step, {"a": step})
            assert len(events(writer.path)) == step + 3


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    for start, stop, value, purge in ((0, 6, 1.0, None), (4, 8, 2.0, 4), (2, 5, 3.0, 2)):
        with EventsWriter(tmp_path, purge_step=purge) as writer:
            for step in range(start, stop):
                writer.write(step, {"a": value})
    assert shown(tmp_path) == {
        ("a", 0): 1.0,
        ("a", 1): 1.0,
        ("a", 2): 3.0,
        ("a", 3): 3.0,
        ("a", 4): 3.0,
    }


def test_a_run_killed_before_its_first_checkpoint_is_replaced_from_the_start(tmp_path):
    with EventsWriter(tmp_path) as writer:
        writer.write(0, {"a": 1.0, "gone": 1.0})
    with EventsWriter(tmp_path, purge_step=0) as writer:
        writer.write(0, {"a": 2.0})
    assert shown(tmp_path) == {("a", 0): 2.0}


def test_another_writer_without_a_purge_adds_to_the_first(tmp_path):
    for step in range(2):
        with EventsWriter(tmp_path) as writer:
            writer.write(step, {"a": step})
    assert shown(tmp_path) == {("a", 0): 0.0, ("a", 1): 1.0}


def test_names_sort_in_the_order_of_writing_within_a_second_and_after_a_clock_was_set_back(tmp_path):
    (tmp_path / "events.out.tfevents.2000000000.host").touch()
    (tmp_path / "events.out.tfevents.odd").touch()
    paths = []
    for _ in range(4):
        with EventsWriter(tmp_path) as writer:
            paths.append(writer.path.name)
    assert paths == sorted(set(paths))
    assert paths[0] > "events.out.tfevents.2000000000.host"


def python(code, *arguments):
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_no_warning_no_torch_and_tensorboardx_only_when_used(tmp_path):
    done = python(
        """
import sys
from mbpo.runs.events import EventsWriter
assert "tensorboardX" not in sys.modules
with EventsWriter(sys.argv[1]) as writer:
    writer.write(1, {"a": 1.0})
assert "tensorboardX" in sys.modules
assert not {"torch", "tensorflow", "jax"} & set(sys.modules)
""",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_tensorboardx_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    for name in ("tensorboardX", "tensorboardX.proto.event_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="which is not installed: pip install tensorboardX"):
        EventsWriter(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written: File exists"):
        EventsWriter(tmp_path / "file")
