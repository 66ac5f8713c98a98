import json

import numpy as np
import pytest

from mbpo.cli import doctor, execute


@pytest.fixture
def no_learning(monkeypatch):
    """The checks that need no compiled training."""
    monkeypatch.setattr(doctor, "CHECKS", doctor.CHECKS[:2])


def test_the_exact_checks_pass(no_learning, capsys):
    assert execute(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [check["ok"] for check in result["checks"]] == [True, True]
    assert {"python", "jax", "numpy"} <= set(result["versions"])
    assert result["devices"]
    assert result["threads"]["PJRT_NPROC"]


def test_the_table_says_ok(no_learning, capsys):
    assert execute(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "failed" not in out
    assert "Riccati" in out


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_failing_check_gives_status_1(options, monkeypatch, capsys):
    def broken():
        raise OSError("no such\nlibrary")

    monkeypatch.setattr(
        doctor, "CHECKS", (("a wrong answer", lambda: (False, "off by one")), ("broken", broken))
    )
    with pytest.raises(SystemExit) as left:
        execute(["doctor", *options])
    assert left.value.code == 1
    out = capsys.readouterr().out
    assert "off by one" in out
    assert "OSError: no such library" in out


def test_a_wrong_gradient_is_found(monkeypatch):
    from mbpo.lqr import exact

    right = exact.gradient
    monkeypatch.setattr(exact, "gradient", lambda system, gain: 1.001 * np.asarray(right(system, gain)))
    assert not doctor.gradient_check()[0]
