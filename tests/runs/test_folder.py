import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.train import Settings
from mbpo.runs import folder
from mbpo.runs.folder import PACKAGES, existing_run, read_run, write_run
from synthetic_runs import synthetic_training

COMMAND = ["mbpo", "train", "double_integrator", "--out", "a b"]


def refuse(constant):
    raise AssertionError(f"{constant} in JSON")


def strict_json(text):
    return json.loads(text, parse_constant=refuse)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_what_is_written_reads_back_bit_for_bit(tmp_path):
    training = synthetic_training(unstable=1)
    written = write_run(tmp_path / "run", training, COMMAND)
    for record in (written, read_run(tmp_path / "run")):
        for name in ("transitions", "gains", "excess_cost", "model_error", "limit_curve", "real_rollout"):
            np.testing.assert_array_equal(getattr(record, name), getattr(training, name))
        np.testing.assert_array_equal(record.optimal_gain, training.optimum.gain)
        np.testing.assert_array_equal(record.system.A, training.system.A)
        assert record.settings == dataclasses.asdict(training.settings)
        assert record.command == COMMAND
        assert record.optimal_cost == training.optimum.cost
        assert (record.algorithm, record.seeds, record.unstable) == ("mbpo", 5, 1)


def test_arrays_that_are_views_are_written_as_they_look(tmp_path):
    training = synthetic_training()
    strided = dataclasses.replace(training, excess_cost=np.asfortranarray(training.excess_cost))
    np.testing.assert_array_equal(write_run(tmp_path / "r", strided, []).excess_cost, training.excess_cost)


def test_a_run_without_a_model_has_no_model_error(tmp_path):
    record = write_run(tmp_path / "run", synthetic_training("policy-gradient"), COMMAND)
    assert record.model_error is None
    assert record.imagined_rollout is None


def test_metrics_hold_one_object_for_each_round_and_null_for_unstable_seeds(tmp_path):
    training = synthetic_training(unstable=2)
    write_run(tmp_path / "run", training, COMMAND)
    rounds = [strict_json(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [each["transitions"] for each in rounds] == training.transitions.tolist()
    assert set(rounds[0]) == {
        "transitions",
        "excess_cost",
        "model_error",
        "realised_ratio",
        "cuts",
        "imagined",
    }
    assert rounds[0]["excess_cost"] == training.excess_cost[:, 0].tolist()
    assert rounds[-1]["excess_cost"][-2:] == [None, None]


def test_every_json_file_is_strict_and_names_the_versions(tmp_path):
    training = dataclasses.replace(synthetic_training(unstable=5), limit=float("inf"))
    write_run(tmp_path / "run", training, COMMAND)
    config = strict_json((tmp_path / "run/config.json").read_text())
    assert set(config["versions"]) == {"python", *PACKAGES}
    assert config["versions"]["numpy"] == np.__version__
    assert strict_json((tmp_path / "run/result.json").read_text())["limit"] is None


def test_the_same_run_is_written_to_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, synthetic_training(), COMMAND)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    write_run(tmp_path / "old", synthetic_training(), COMMAND)
    before = contents(tmp_path / "old")

    def fail(training):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(folder, "_arrays", fail)
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="on fire"):
            write_run(tmp_path / name, synthetic_training(), COMMAND)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert contents(tmp_path / "old") == before


def test_existing_run_returns_the_same_run_and_refuses_another(tmp_path):
    training, place = synthetic_training(), tmp_path / "run"
    assert existing_run(place, training.settings, training.system) is None
    write_run(place, training, COMMAND)
    found = existing_run(place, training.settings, training.system)
    assert found is not None
    np.testing.assert_array_equal(found.gains, training.gains)
    other = dataclasses.replace(training.settings, transitions=1300)
    with pytest.raises(InputError, match="transitions 1200, not 1300"):
        existing_run(place, other, training.system)
    with pytest.raises(InputError, match="another system"):
        existing_run(place, training.settings, catalogue.get("laplacian3"))


def test_another_run_is_replaced_only_when_asked(tmp_path):
    place = tmp_path / "run"
    write_run(place, synthetic_training(), COMMAND)
    other = synthetic_training(transitions=2400)
    with pytest.raises(InputError, match="transitions 1200, not 2400"):
        write_run(place, other, COMMAND)
    assert write_run(place, other, COMMAND, replace=True).transitions[-1] == 2400
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "run").mkdir()
    assert existing_run(tmp_path / "run", Settings("mbpo", 1200), catalogue.get("laplacian3")) is None
    write_run(tmp_path / "run", synthetic_training(), COMMAND)


@pytest.mark.parametrize("replace", [False, True])
def test_a_directory_of_something_else_is_never_touched(tmp_path, replace):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(InputError, match="not empty and not a run"):
        write_run(tmp_path, synthetic_training(), COMMAND, replace=replace)
    with pytest.raises(InputError, match="not empty and not a run"):
        existing_run(tmp_path, Settings("mbpo", 1200), catalogue.get("laplacian3"))
    assert contents(tmp_path) == {"thesis.txt": b"three years"}


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"file"):
            existing_run(place, Settings("mbpo", 1200), catalogue.get("laplacian3"))
        with pytest.raises(InputError, match=r"file"):
            write_run(place, synthetic_training(), COMMAND)


def test_an_unwritable_directory_is_one_sentence():
    place = Path("/proc/mbpo-run") if sys.platform == "linux" else Path(os.devnull) / "run"
    with pytest.raises(InputError, match="cannot be written"):
        write_run(place, synthetic_training(), COMMAND)


def test_a_damaged_run_is_one_sentence(tmp_path):
    write_run(tmp_path / "run", synthetic_training(), COMMAND)
    (tmp_path / "run/arrays.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"arrays\.safetensors cannot be read"):
        read_run(tmp_path / "run")
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(InputError):
        read_run(tmp_path / "run")
    with pytest.raises(InputError, match="not a complete run"):
        read_run(tmp_path / "nowhere")


def test_reading_needs_no_jax(tmp_path):
    write_run(tmp_path / "run", synthetic_training(), COMMAND)
    program = (
        "import sys; from mbpo.runs.folder import read_run; "
        f"print(read_run({str(tmp_path / 'run')!r}).seeds, 'jax' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["5", "False"]
