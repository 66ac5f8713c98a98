import hashlib
import json
import os
import random
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from mbpo.errors import InputError
from mbpo.runs import checkpoint, tensors
from mbpo.runs.checkpoint import read_checkpoint, write_checkpoint

FACTS = {"metrics": 17, "name": "né", "rate": 0.1, "list": [1, None, True]}


def arrays(step=0):
    return {"w": np.full((3, 2), step, np.float32), "n": np.array(step), "empty": np.zeros((0, 4), bool)}


def written(run, *steps, **options):
    return [write_checkpoint(run, step, arrays(step), {**FACTS, "step": step}, **options) for step in steps]


def visible(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_written_reads_back(tmp_path):
    (path,) = written(tmp_path, 5250)
    assert path == tmp_path / "checkpoints/step-000005250"
    found = read_checkpoint(tmp_path)
    assert (found.path, found.step, found.skipped) == (path, 5250, ())
    assert found.facts == {**FACTS, "step": 5250}
    assert list(found.arrays) == ["w", "n", "empty"]
    for name, array in arrays(5250).items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
        assert found.arrays[name].flags.owndata
        assert found.arrays[name].flags.writeable


def test_the_manifest_describes_every_file_and_array(tmp_path):
    (path,) = written(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    content = (path / "arrays.safetensors").read_bytes()
    assert (manifest["schema"], manifest["step"], manifest["facts"]) == (1, 1, {**FACTS, "step": 1})
    assert manifest["files"] == {
        "arrays.safetensors": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    }
    assert manifest["arrays"]["w"] == {"shape": [3, 2], "dtype": "float32"}


def test_the_arrays_are_the_very_file_that_safetensors_writes(tmp_path):
    (path,) = written(tmp_path, 1)
    assert (path / "arrays.safetensors").read_bytes() == save(arrays(1))
    np.testing.assert_array_equal(load_file(path / "arrays.safetensors")["w"], arrays(1)["w"], strict=True)


def test_an_array_of_many_pieces_and_one_that_is_a_view_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "CHUNK", 64)
    given = {
        "big": np.arange(1001.0),
        "view": np.arange(12).reshape(3, 4).T[::2],
        "odd": np.arange(65, dtype=np.int8),
    }
    write_checkpoint(tmp_path, 0, given, {})
    for name, array in read_checkpoint(tmp_path).arrays.items():
        np.testing.assert_array_equal(array, given[name], strict=True)
    given["big"][-1] = np.inf
    with pytest.raises(ValueError, match="array 'big' holds NaN or an infinity"):
        write_checkpoint(tmp_path, 1, given, {})


def test_only_the_newest_are_kept(tmp_path):
    written(tmp_path, 1, 2, 3)
    assert visible(tmp_path) == ["step-000000002", "step-000000003"]
    written(tmp_path, 10**10, keep=1)
    assert visible(tmp_path) == ["step-10000000000"]
    assert read_checkpoint(tmp_path).step == 10**10


def test_nothing_is_found_where_nothing_was_written(tmp_path):
    assert read_checkpoint(tmp_path) is None
    assert read_checkpoint(tmp_path / "absent") is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/notes.txt").write_text("mine")
    assert read_checkpoint(tmp_path) is None
    written(tmp_path, 1, 2, 3)
    assert "notes.txt" in visible(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nonfinite_array_is_refused_and_nothing_is_written(tmp_path, value):
    bad = {"critic": np.array([1.0, value], np.float32), "n": np.array(1)}
    with pytest.raises(
        ValueError, match="array 'critic' holds NaN or an infinity, so step 4 is not checkpointed"
    ):
        write_checkpoint(tmp_path, 4, bad, {})
    assert list(tmp_path.iterdir()) == []
    write_checkpoint(tmp_path, 4, bad, {}, allow_nonfinite=["critic"])
    np.testing.assert_array_equal(read_checkpoint(tmp_path).arrays["critic"], bad["critic"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"facts": {"a": float("nan")}}, "must be JSON"),
        ({"facts": {"a": np.int64(1)}}, "must be JSON"),
        ({"facts": {"a": (1, 2)}}, "no tuples"),
        ({"facts": {1: 2}}, "strings as keys"),
        ({"arrays": {"a": np.array(["x"])}}, "array 'a' has dtype <U1"),
        ({"arrays": {"a": np.zeros(2, ">f4")}}, "array 'a' has dtype >f4"),
        ({"arrays": {"__metadata__": np.zeros(2)}}, "cannot be the name"),
        ({"step": -1}, "step must be at least 0"),
        ({"keep": 0}, "keep at least 1"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_checkpoint(tmp_path, **{"step": 1, "arrays": arrays(), "facts": {}, **changes})
    assert list(tmp_path.iterdir()) == []


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def edit_manifest(path, **changes):
    content = json.loads((path / "manifest.json").read_text())
    content.pop("seal")
    content |= changes
    (path / "manifest.json").write_text(json.dumps({"seal": checkpoint._seal(content), **content}))


ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"
DAMAGE = {
    f"{ARRAYS} does not match its checksum": lambda path: flip(path / ARRAYS, -1),
    "it cannot be read: its header is not the one that was written": lambda path: flip(path / ARRAYS, 3),
    f"{ARRAYS} has 100 bytes, expected": lambda path: os.truncate(path / ARRAYS, 100),
    f"{ARRAYS} has 0 bytes, expected": lambda path: os.truncate(path / ARRAYS, 0),
    f"it has no {ARRAYS}": lambda path: (path / ARRAYS).unlink(),
    f"it has no {MANIFEST}": lambda path: (path / MANIFEST).unlink(),
    f"{MANIFEST} does not match its seal": lambda path: (path / MANIFEST).write_text(
        (path / MANIFEST).read_text().replace("17", "18")
    ),
    f"{MANIFEST} is not a JSON object": lambda path: os.truncate(path / MANIFEST, 60),
    f"{MANIFEST} has schema 2, expected 1": lambda path: edit_manifest(path, schema=2),
    f"{MANIFEST} is that of step 1": lambda path: edit_manifest(path, step=1),
    "it holds core.123, which is not in its manifest": lambda path: (path / "core.123").touch(),
    "it cannot be read: [Errno 21] Is a directory": lambda path: (
        (path / MANIFEST).unlink(),
        (path / MANIFEST).mkdir(),
    ),
}


@pytest.mark.parametrize("sentence", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(tmp_path, sentence):
    _, newest = written(tmp_path, 1, 2)
    DAMAGE[sentence](newest)
    found = read_checkpoint(tmp_path)
    assert found.step == 1
    np.testing.assert_array_equal(found.arrays["w"], arrays(1)["w"])
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith(f"step-000000002 is damaged: {sentence}")
    shutil.rmtree(found.path)
    with pytest.raises(InputError, match="holds no intact checkpoint: step-000000002 is damaged"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
def test_no_flipped_bit_goes_unnoticed(tmp_path, name):
    (path,) = written(tmp_path, 1)
    size = (path / name).stat().st_size
    for place in random.Random(0).sample(range(size), min(size, 200)):
        before = (path / name).read_bytes()
        flip(path / name, place)
        try:
            found = read_checkpoint(tmp_path)
        except InputError:
            pass
        else:  # a bit of JSON's white space
            assert name == MANIFEST
            assert found.facts == {**FACTS, "step": 1}
        (path / name).write_bytes(before)


def test_a_damaged_step_is_written_again_and_a_later_one_goes(tmp_path):
    paths = written(tmp_path, 1, 2, 3, keep=3)
    flip(paths[1] / ARRAYS, -1)
    flip(paths[2] / ARRAYS, -1)
    assert read_checkpoint(tmp_path).step == 1
    written(tmp_path, 2)
    assert (read_checkpoint(tmp_path).step, read_checkpoint(tmp_path).skipped) == (2, ())
    assert visible(tmp_path) == ["step-000000001", "step-000000002"]


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path):
    (path,) = written(tmp_path, 7)
    path.rename(path.parent / ".step-000000007.999999999.replaced")
    assert read_checkpoint(tmp_path).step == 7
    written(tmp_path, 7)
    assert visible(tmp_path) == ["step-000000007"]


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path):
    folder = tmp_path / "checkpoints"
    left = {
        number: folder / f".step-000000001.{number}.partial"
        for number in (os.getpid(), os.getppid(), 999999999)
    }
    for each in left.values():
        each.mkdir(parents=True)
        (each / ARRAYS).touch()
    written(tmp_path, 2)
    assert visible(tmp_path) == [left[os.getppid()].name, "step-000000002"]


def test_a_full_disk_is_one_sentence_and_leaves_the_older_one(tmp_path, monkeypatch):
    written(tmp_path, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="step-000000002 cannot be written: No space left on device"):
        written(tmp_path, 2)
    assert visible(tmp_path) == ["step-000000001"]


def test_all_is_on_the_disk_before_it_is_seen_and_seen_before_an_older_one_goes(tmp_path, monkeypatch):
    written(tmp_path, 1)
    happened = []

    def recorded(name, function):
        def wrapper(*args, **options):
            target = args[0]
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            happened.append((name, os.path.basename(path)))
            return function(*args, **options)

        return wrapper

    monkeypatch.setattr(os, "fsync", recorded("sync", os.fsync))
    monkeypatch.setattr(os, "replace", recorded("rename", os.replace))
    written(tmp_path, 2, keep=1)
    hidden = f".step-000000002.{os.getpid()}.partial"
    assert happened[-6:] == [
        ("sync", ARRAYS),
        ("sync", MANIFEST),
        ("sync", hidden),
        ("rename", hidden),
        ("sync", "checkpoints"),
        ("rename", "step-000000001"),
    ]


def test_a_reader_whose_checkpoint_is_pruned_under_its_hands_looks_again(tmp_path, monkeypatch):
    written(tmp_path, 1)
    read = checkpoint.read_tensors

    def interrupted(path, layout):
        monkeypatch.setattr(checkpoint, "read_tensors", read)
        written(tmp_path, 2, keep=1)
        return read(path, layout)

    monkeypatch.setattr(checkpoint, "read_tensors", interrupted)
    found = read_checkpoint(tmp_path)
    assert (found.step, found.skipped) == (2, ())
