"""Linear-quadratic systems from and to python-control's `StateSpace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from mbpo.errors import InputError
from mbpo.lqr.system import LinearQuadratic

if TYPE_CHECKING:
    from control import StateSpace


def to_statespace(system: LinearQuadratic, dt: float | bool = True) -> StateSpace:
    """The discrete `StateSpace` x' = A x + B u, y = x with sampling time `dt` (`True`: not specified).

    Cost, noise and objective have no place there. python-control's feedback is u = -K x, here it is u = +K x.
    Raises `InputError` when python-control is not installed.
    """
    control = _control()
    n, m = system.state_dim, system.action_dim
    return control.ss(system.A, system.B, np.eye(n), np.zeros((n, m)), dt, name=_plain(system.name))


def from_statespace(
    ss: StateSpace,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    W: ArrayLike | None = None,
    initial_covariance: ArrayLike | None = None,
    discount: float | None = None,
    horizon: int | None = None,
    terminal_cost: ArrayLike | None = None,
    initial_gain: ArrayLike | None = None,
    name: str = "system",
    source: str = "",
    dt: float | None = None,
) -> LinearQuadratic:
    """A system with the A `[n, n]` and B `[n, m]` of `ss`; outputs are ignored, the state is observed.

    A discrete system is kept as it is. A continuous one is sampled every `dt` with the input held in between
    (zero-order hold): [A_d B_d; 0 I] = exp([A B; 0 0] dt). `Q`, `R` and `W` are those of the discrete steps.

    Raises `InputError` when python-control is not installed, `ss` is not a `StateSpace`, `dt` is missing for
    a continuous system, not positive or at odds with a discrete one, or the system is not valid.
    """
    control = _control()
    if not isinstance(ss, control.StateSpace):
        raise InputError(f"ss must be a control.StateSpace, got a {type(ss).__name__}")
    A, B = np.asarray(ss.A, dtype=float), np.asarray(ss.B, dtype=float)
    if dt is not None and (isinstance(dt, bool) or not np.isfinite(dt) or dt <= 0):
        raise InputError(f"dt must be a positive number of seconds, got {dt!r}")
    if ss.isctime(strict=True):
        if dt is None:
            raise InputError(
                "a continuous StateSpace needs an explicit dt, the sampling time of its zero-order hold"
            )
        A, B = zero_order_hold(A, B, dt)
    elif ss.dt is None:
        raise InputError(
            "the StateSpace must say whether it is discrete (dt=True or a number) or continuous (dt=0)"
        )
    elif dt is not None and ss.dt is not True and not np.isclose(dt, ss.dt, rtol=1e-9, atol=0):
        raise InputError(f"dt = {dt!r} is at odds with the discrete StateSpace's own dt = {ss.dt!r}")
    optional: dict[str, Any] = {
        "W": W,
        "initial_covariance": initial_covariance,
        "terminal_cost": terminal_cost,
    }
    return LinearQuadratic(
        A,
        B,
        Q,  # pyright: ignore[reportArgumentType]  # array-likes are converted there
        R,  # pyright: ignore[reportArgumentType]
        **optional,
        discount=discount,
        horizon=horizon,
        initial_gain=initial_gain,  # pyright: ignore[reportArgumentType]
        name=name,
        source=source,
    )


def zero_order_hold(A: np.ndarray, B: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """(A_d `[n, n]`, B_d `[n, m]`) of dx/dt = A x + B u sampled every `dt`, u held: exp([A B; 0 0] dt)."""
    n, m = B.shape
    exponential = scipy.linalg.expm(np.block([[A, B], [np.zeros((m, n + m))]]) * dt)
    return exponential[:n, :n], exponential[:n, n:]


def _control() -> Any:
    try:
        import control
    except ImportError:
        raise InputError("python-control is not installed: pip install 'mbpo[control]'") from None
    return control


def _plain(name: str) -> str:
    """The name without the dots that python-control reserves for signals."""
    return name.replace(".", "_")
