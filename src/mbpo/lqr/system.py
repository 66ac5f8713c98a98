"""Linear-quadratic systems: the world in which the optimum, the gradient and the model's error are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr.validation import labels, matrix, positive_definite, positive_semidefinite, square, symmetric

Objective = Literal["average", "discount", "horizon"]
LONGEST_HORIZON = 1_000_000


@dataclass(frozen=True, eq=False)
class LinearQuadratic:
    """A linear system with Gaussian noise, x' = A x + B u + w with w ~ N(0, W), and a quadratic cost.

    The first state is x_0 ~ N(0, X0). One objective is minimised over policies u = +K x:

    - average (the default): lim 1/T E sum_{t<T} (x_t'Q x_t + u_t'R u_t)
    - `discount` g in (0, 1): E sum_t g^t (x_t'Q x_t + u_t'R u_t)
    - `horizon` T >= 1: E [sum_{t<T} (x_t'Q x_t + u_t'R u_t) + x_T' Q_T x_T]

    Shapes: `A`, `Q`, `W`, `initial_covariance` (X0) and `terminal_cost` (Q_T) `[n, n]`; `B` `[n, m]`;
    `R` `[m, m]`; `initial_gain` `[m, n]`. `W` and `initial_covariance` default to the identity;
    `terminal_cost` defaults to the optimal value matrix of the undiscounted infinite-horizon problem, for
    which the stationary gain is optimal at every stage. Array-likes are kept as read-only float64.

    Raises `InputError` naming the matrix and entry: wrong shape, not finite, asymmetric, Q, W, X0 or Q_T with
    a negative eigenvalue, R not positive definite, discount or horizon out of range.
    """

    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    W: np.ndarray = None  # pyright: ignore[reportAssignmentType]  # the identity, once n is known
    initial_covariance: np.ndarray = None  # pyright: ignore[reportAssignmentType]  # likewise
    discount: float | None = None
    horizon: int | None = None
    terminal_cost: np.ndarray | None = None
    initial_gain: np.ndarray | None = None
    name: str = "system"
    source: str = ""

    def __post_init__(self) -> None:
        labels(self.name, self.source)
        self._set_matrices()
        self._set_objective()

    def _set_matrices(self) -> None:
        A = square("A", self.A)
        n = len(A)
        B = matrix("B", self.B, n)
        m = B.shape[1]
        self._set("A", A)
        self._set("B", B)
        self._set("Q", positive_semidefinite("Q", symmetric("Q", matrix("Q", self.Q, n, n))))
        self._set("R", positive_definite("R", symmetric("R", matrix("R", self.R, m, m))))
        for name in ("W", "initial_covariance", "terminal_cost"):
            value = getattr(self, name)
            if value is None and name != "terminal_cost":
                value = np.eye(n)
            if value is not None:
                value = positive_semidefinite(name, symmetric(name, matrix(name, value, n, n)))
            self._set(name, value)
        if self.initial_gain is not None:
            self._set("initial_gain", matrix("initial_gain", self.initial_gain, m, n))

    def _set_objective(self) -> None:
        if self.discount is not None and self.horizon is not None:
            raise InputError("discount and horizon exclude each other: give one of them or neither")
        if self.discount is not None:
            if not _is_real(self.discount) or not 0 < self.discount < 1:
                raise InputError(f"discount must be a number strictly between 0 and 1, got {self.discount!r}")
            self._set("discount", float(self.discount))
        if self.horizon is not None:
            integer = isinstance(self.horizon, (int, np.integer)) and not isinstance(self.horizon, bool)
            if not integer or not 1 <= self.horizon <= LONGEST_HORIZON:
                raise InputError(
                    f"horizon must be a whole number from 1 to {LONGEST_HORIZON}, got {self.horizon!r}"
                )
            self._set("horizon", int(self.horizon))
        if self.terminal_cost is not None and self.horizon is None:
            raise InputError("terminal_cost needs a horizon: without one there is no last state to charge")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def state_dim(self) -> int:
        """The number n of states."""
        return self.A.shape[0]

    @property
    def action_dim(self) -> int:
        """The number m of inputs."""
        return self.B.shape[1]

    @property
    def objective(self) -> Objective:
        """What is minimised: `"average"`, `"discount"` or `"horizon"`."""
        if self.discount is not None:
            return "discount"
        return "average" if self.horizon is None else "horizon"

    def to_toml(self) -> str:
        """The system as TOML text that `load_toml` reads back to the same numbers, bit for bit."""
        from mbpo.lqr.toml_file import dump_toml

        return dump_toml(self)


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
