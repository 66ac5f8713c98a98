"""Every named system is valid, sourced, and has the optimum that was computed independently."""

from pathlib import Path

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.reference import spectral_radius

OPTIMA = {  # gain, average cost: from an independent script
    "near_diagonal": (
        np.diag([-0.005273610666985015, -0.0039220025815841384, -0.005828816065430966]),
        1.1135416007332313,
    ),
    "double_integrator": ([[-0.917041547351763, -1.6820521590421307]], 0.3725314341860716),
    "laplacian3_cheap_state": (
        [
            [-0.04373094660675325, -0.012508643247144888, -0.0012693584453131069],
            [-0.0125086432471449, -0.045000305052067494, -0.012508643247146586],
            [-0.0012693584453131236, -0.012508643247146591, -0.04373094660675486],
        ],
        0.13728716597811141,
    ),
    "laplacian3": (
        [
            [-0.6263760664541659, -0.008342037559971623, -2.5100239757045557e-05],
            [-0.008342037559971621, -0.6264011666939228, -0.00834203755997163],
            [-2.5100239757045638e-05, -0.008342037559971632, -0.6263760664541659],
        ],
        4.898278514100675,
    ),
    "pendulum": ([[-18.53914346046397, -6.4432494143303085]], 0.17260075454489765),
    "cartpole": (
        [[0.8234860442570081, -49.79193595697561, 2.417257927455565, -10.166520828404291]],
        10.485703278611524,
    ),
    "boeing747": (
        [
            [-0.2695561531113056, 0.04984546294768567, 1.0444609874874593, 0.28723813990671754],
            [-0.5731660856796297, -0.03172363143978644, -0.20718560273153178, 0.12953258960071856],
        ],
        33.193498047855954,
    ),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_optimum(name: str) -> None:
    gain, cost = OPTIMA[name]
    best = solve(catalogue.get(name))
    np.testing.assert_allclose(best.gain, gain, rtol=1e-10, atol=1e-12)
    assert best.cost == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("name", catalogue.names())
def test_every_system_has_a_source_an_optimum_and_a_start(name: str) -> None:
    system = catalogue.get(name)
    assert system.name == name
    assert len(system.source) > 20
    assert np.isfinite(solve(system).cost)
    if system.horizon is None:
        assert spectral_radius(system.A + system.B @ default_gain(system)) < 1


def test_unknown_name_suggests_the_nearest() -> None:
    for look_up in (catalogue.get, catalogue.resolve):
        with pytest.raises(InputError, match="did you mean 'pendulum'"):
            look_up("pendulm")


def test_resolve_takes_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = catalogue.get("scalar").to_toml().replace('name = "scalar"', "")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    (tmp_path / "mine").write_text(text, encoding="utf-8")
    (tmp_path / "pendulum").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for given in ("mine.toml", "./mine.toml", tmp_path / "mine.toml", "mine"):
        assert catalogue.resolve(given).name == "mine"
    assert catalogue.resolve("pendulum").state_dim == 2
    assert catalogue.resolve("./pendulum").state_dim == 1
    with pytest.raises(InputError, match=r"other\.toml: there is no such file"):
        catalogue.resolve("other.toml")
