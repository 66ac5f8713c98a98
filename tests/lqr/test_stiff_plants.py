"""Sampled stiff plants: sound ones are solved whatever their units, broken ones are refused by name."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import scipy.linalg

from mbpo.errors import InputError
from mbpo.lqr.certificate import entry_margin
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.radius import Radius, closed_loop_radius
from mbpo.lqr.reference import spectral_radius
from mbpo.lqr.system import LinearQuadratic
from stiff_plants import SENTENCES, Fault, exact_cost, stiff_plant

PLANTS, BROKEN = 150, 30


@pytest.mark.parametrize("start", range(0, PLANTS, 30))
def test_sound_plants_are_solved_in_any_units(start: int) -> None:
    for seed in range(start, start + 30):
        natural, written, _ = stiff_plant(seed)
        best = solve(written)
        # SciPy, in the units the plant was made in: an oracle that never saw the units it was written in.
        P = scipy.linalg.solve_discrete_are(natural.A, natural.B, natural.Q, natural.R)
        assert best.cost == pytest.approx(np.trace(P), rel=1e-6), f"seed {seed}"
        assert best.spectral_radius == pytest.approx(solve(natural).spectral_radius, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_cost_is_that_of_sixty_digits(seed: int) -> None:
    written = stiff_plant(seed).written
    assert solve(written).cost == pytest.approx(exact_cost(written), rel=1e-9)


@pytest.mark.parametrize("fault", ["unreachable", "unseen"])
def test_broken_plants_are_refused_by_name(fault: Fault) -> None:
    for seed in range(BROKEN):
        natural, written, broken = stiff_plant(seed, fault)
        for system in (natural, written):
            with pytest.raises(InputError) as refused:
                solve(system)
            sentence = str(refused.value)
            assert SENTENCES[fault] in sentence, f"seed {seed}"
            named = float(sentence.split("λ = ")[1].split(" ")[0])
            assert named == pytest.approx(broken, rel=1e-4), f"seed {seed}"


def sampled(A: list, B: list, dt: float) -> LinearQuadratic:
    n, m = np.shape(B)
    power = scipy.linalg.expm(dt * np.block([[np.array(A), np.array(B)], [np.zeros((m, n + m))]]))
    return LinearQuadratic(power[:n, :n], power[:n, n:], np.eye(n), np.eye(m))


# Gains and costs from 60 digits.
CASES = {
    "reactor behind a valve": (
        [[1.0202013400267558, 0.012746143678495199], [0.0, 4.248354255291589e-18]],
        [[0.49228735699039994], [1.0]],
        4.560875634,
        0.702692,
        [[-0.6290048206350796, -0.007858630942467262]],
    ),
    "airframe behind an actuator": (
        [
            [1.0784292018781916, 0.19544040395943515, 0.007556566984176576],
            [0.7817616158377406, 0.9807089998984726, 0.03915737613012418],
            [0.0, 0.0, 9.35762296886304e-14],
        ],
        [[0.11008723583310892], [1.133485047626486], [0.9999999999999062]],
        14.76472543,
        0.792623,
        [[-1.2455654920238175, -0.644855033996775, -0.025551765650296113]],
    ),
    "level behind a valve": (
        [[1.0, 0.0125], [0.0, 4.248354255291589e-18]],
        [[0.48749999999999993], [1.0]],
        4.393408953,
        0.703091,
        [[-0.5938180497771479, -0.00742272562221435]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_actuator_that_has_settled_is_no_reason_to_refuse(case: str) -> None:
    A, B, cost, radius, gain = CASES[case]
    system = LinearQuadratic(A, B, np.eye(len(A)), [[1.0]])
    best = solve(system)
    assert best.cost == pytest.approx(cost, rel=1e-9)
    assert best.spectral_radius == pytest.approx(radius, abs=1e-6)
    np.testing.assert_allclose(best.gain, gain, rtol=1e-12)
    assert closed_loop_radius(system.A, system.B, default_gain(system)).value < 1


def test_the_missile_of_compleib() -> None:
    """AC4: Fares, Apkarian and Noll, Int. J. Control 74 (2001), 348-360."""
    A = [[-0.876, 1, -0.1209, 0], [8.9117, 0, -130.75, 0], [0, 0, -150, 0], [-1, 0, 0, -0.05]]
    system = sampled(A, [[0], [0], [150], [0]], 2.0)
    assert solve(system).cost == pytest.approx(exact_cost(system), rel=1e-12)


def test_the_airliner_of_compleib() -> None:
    """AC5: Ishihara, Guo and Takeda, Automatica 28 (1992), 599-603."""
    A = [
        [0.9801, 0.0003, -0.0980, 0.0038],
        [-0.3868, 0.9071, 0.0471, -0.0008],
        [0.1591, -0.0015, 0.9691, 0.0003],
        [-0.0198, 0.0958, 0.0021, 1],
    ]
    B = [[-0.0001, 0.0058], [0.0296, 0.0153], [0.0012, -0.0908], [0.0015, 0.0008]]
    system = sampled(A, B, 2.0)
    assert solve(system).cost == pytest.approx(exact_cost(system), rel=1e-9)


@pytest.mark.parametrize("unit", [1e-80, 1e-9, 1e9, 1e80])
@pytest.mark.parametrize("money", [1e-100, 1.0, 1e100])
def test_units_decide_nothing(unit: float, money: float) -> None:
    reached = LinearQuadratic(
        [[1.2, 1.0], [0.0, 1.1]], [[0.0], [unit]], money * np.eye(2), [[money * unit**2]]
    )
    assert solve(reached).cost == pytest.approx(money * solve(replace_units(reached, unit, money)).cost)
    unreached = replace(reached, B=[[unit], [0.0]])
    with pytest.raises(InputError, match=r"not stabilisable: the mode λ = 1\.1 "):
        solve(unreached)


@pytest.mark.parametrize("seed", [1027, 1034, 1076])
def test_coordinates_far_from_normal_are_no_reason_to_refuse(seed: int) -> None:
    """x -> T x with a T of condition 1e5 or less: rounding P to doubles leaves residuals above 1e-8."""
    natural = stiff_plant(seed).natural
    rng = np.random.default_rng(seed)
    n = natural.state_dim
    left = scipy.linalg.qr(rng.normal(size=(n, n)))[0]
    size = 10.0 ** rng.uniform(-2.5, 2.5, size=n)
    right = scipy.linalg.qr(rng.normal(size=(n, n)))[0]
    T, back = left * size @ right, right.T / size @ left.T
    Q, W = back.T @ natural.Q @ back, T @ T.T
    moved = replace(
        natural, A=T @ natural.A @ back, B=T @ natural.B, Q=(Q + Q.T) / 2, W=(W + W.T) / 2, name="moved"
    )
    assert solve(moved).cost == pytest.approx(solve(natural).cost, rel=1e-6)


def replace_units(system: LinearQuadratic, unit: float, money: float) -> LinearQuadratic:
    return replace(system, B=system.B / unit, Q=system.Q / money, R=system.R / money / unit**2)


def test_the_margin_is_what_the_loop_survives() -> None:
    rng = np.random.default_rng(0)
    F = rng.normal(size=(5, 5))
    F *= 0.9 / spectral_radius(F)
    margin = entry_margin(F, np.abs(F))
    assert 0 < margin < 1 / 0.9 - 1 + 1e-12  # F / 0.9 is on the circle
    for _ in range(200):
        assert spectral_radius(F * (1 + margin * rng.choice([-1, 1], size=F.shape))) < 1
    units = 10.0 ** rng.integers(-8, 9, size=5)
    scaled = units[:, None] * F / units
    assert entry_margin(scaled, np.abs(scaled)) == pytest.approx(margin, rel=0.5)
    assert entry_margin(1.2 * F, np.abs(F)) == 0


def test_the_margin_of_one_state_is_exact() -> None:
    assert entry_margin(np.array([[0.8]]), np.array([[0.8]])) == pytest.approx(0.25, rel=1e-12)
    assert entry_margin(np.zeros((1, 1)), np.zeros((1, 1))) > 1e100


def dead_time(steps: int) -> LinearQuadratic:
    """An unstable lag that hears its input `steps` samples late."""
    n = steps + 1
    A = np.eye(n, k=1)
    A[0, :2] = 1.1, 0.2
    return LinearQuadratic(A, np.eye(n)[:, -1:], np.diag([1.0] + steps * [0.0]), [[0.1]])


def test_the_radius_behind_a_dead_time_is_right_to_its_digits() -> None:
    system = dead_time(40)
    best = solve(system)
    assert best.spectral_radius == pytest.approx(0.548048355, abs=2e-9)
    assert best.spectral_radius_error < 1e-14
    assert abs(spectral_radius(system.A + system.B @ best.gain) - best.spectral_radius) > 1e-3


@pytest.mark.parametrize("steps", [3, 8, 15])
def test_the_radius_is_that_of_many_digits(steps: int) -> None:
    system = dead_time(steps)
    best = solve(system)
    with mpmath.workdps(50):
        A, B, K = (mpmath.matrix(x.tolist()) for x in (system.A, system.B, best.gain))
        expected = max(abs(each) for each in mpmath.eig(A + B * K, left=False, right=False))
        error = float(abs(expected - mpmath.mpf(best.spectral_radius)))
        assert error <= best.spectral_radius_error
        shown = str(Radius(best.spectral_radius, best.spectral_radius_error))
        assert abs(mpmath.mpf(shown) - expected) < mpmath.mpf(10) ** -(len(shown) - 2)


@pytest.mark.parametrize("seed", range(6))
def test_the_error_of_the_radius_is_an_upper_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    units = 10.0 ** rng.uniform(-3, 3, size=n)
    A, B, K = (
        units[:, None] * rng.normal(size=(n, n)) / units,
        rng.normal(size=(n, 1)),
        rng.normal(size=(1, n)),
    )
    found = closed_loop_radius(A, B, K)
    with mpmath.workdps(50):
        F = mpmath.matrix(A.tolist()) + mpmath.matrix(B.tolist()) * mpmath.matrix(K.tolist())
        expected = max(abs(each) for each in mpmath.eig(F, left=False, right=False))
        assert abs(expected - mpmath.mpf(found.value)) <= found.error < 1e-9 * found.value


@pytest.mark.parametrize(
    ("F", "radius"),
    [
        (np.zeros((2, 2)), 0.0),
        (np.eye(6, k=1), 0.0),
        (0.9 * np.eye(4) + np.eye(4, k=1), 0.9),
        (np.array([[0.0, 1.0], [-0.25, 0.0]]), 0.5),
        (np.array([[3.0]]), 3.0),
    ],
)
def test_radii_that_are_known(F: np.ndarray, radius: float) -> None:
    found = closed_loop_radius(F, np.zeros((len(F), 1)), np.zeros((1, len(F))))
    assert abs(found.value - radius) <= found.error
    assert found.error <= 1e-14
    assert str(found) == f"{radius:.12g}"


def test_only_digits_that_are_right_are_written() -> None:
    assert str(Radius(0.54424792, 4e-3)) == "0.54"
    assert str(Radius(0.54424792, 6e-3)) == "0.5"
    assert str(Radius(0.123456789012345, 1e-15)) == "0.123456789012"
    assert str(Radius(12.3456, 0.04)) == "12.3"
    far = dead_time(80)  # more states than are computed with many digits: 0.696998695225 with 200 allowed
    assert str(closed_loop_radius(far.A, far.B, solve(far).gain)) == "0.7"
