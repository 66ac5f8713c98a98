"""Linear systems whose state is hidden: what is seen is a noisy linear function of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.toml_file import built, parsed, read
from mbpo.lqr.validation import labels, matrix, positive_definite, positive_semidefinite, square, symmetric


@dataclass(frozen=True, eq=False)
class HiddenSystem:
    """x' = A x + B u + w with w ~ N(0, W), seen through y = C x + v with v ~ N(0, V); x_0 ~ N(0, X0).

    A system to forecast needs A, C, W and V. One to control also has B, R and a cost: of the outputs, `Qy`, or of the
    hidden state, `Q`, or both; what is minimised is lim 1/T E sum_{t<T} (x_t'Q x_t + y_t'Qy y_t + u_t'R u_t). A cost
    of the outputs is a function of what is seen, so a learner can be shown it; a cost of the hidden state is not.

    Shapes: `A`, `W`, `Q`, `initial_covariance` (X0, the identity unless given) `[n, n]`; `C` `[p, n]`; `V`, `Qy`
    `[p, p]`; `B` `[n, m]`; `R` `[m, m]`. Array-likes are kept as read-only float64. W and V may be singular.

    Raises `InputError` naming the matrix and entry: wrong shape, not finite, asymmetric, a covariance or cost with a
    negative eigenvalue, R not positive definite, a cost without B or R.
    """

    A: np.ndarray
    C: np.ndarray
    W: np.ndarray
    V: np.ndarray
    B: np.ndarray | None = None
    Q: np.ndarray | None = None
    Qy: np.ndarray | None = None
    R: np.ndarray | None = None
    initial_covariance: np.ndarray = None  # pyright: ignore[reportAssignmentType]  # the identity, once n is known
    name: str = "system"
    source: str = ""

    def __post_init__(self) -> None:
        labels(self.name, self.source)
        A = square("A", self.A)
        n = len(A)
        C = matrix("C", self.C, None, n)
        p = len(C)
        self._set("A", A)
        self._set("C", C)
        if self.initial_covariance is None:
            self._set("initial_covariance", np.eye(n))
        for name, size in (("W", n), ("initial_covariance", n), ("Q", n), ("V", p), ("Qy", p)):
            value = getattr(self, name)
            if value is not None or name in ("W", "V"):
                value = symmetric(name, matrix(name, value, size, size))
                self._set(name, positive_semidefinite(name, value))
        self._set_control(n)

    def _set_control(self, n: int) -> None:
        given = [name for name in ("Q", "Qy", "R") if getattr(self, name) is not None]
        if self.B is None and given:
            raise InputError(f"{given[0]} is a cost of control, which needs an input matrix B")
        if self.R is None and given:
            raise InputError(f"{given[0]} is given without R, the cost of the inputs")
        if given == ["R"]:
            raise InputError("R is given without a cost of the outputs (Qy) or of the hidden state (Q)")
        if self.B is not None:
            B = matrix("B", self.B, n)
            self._set("B", B)
            if self.R is not None:
                m = B.shape[1]
                self._set("R", positive_definite("R", symmetric("R", matrix("R", self.R, m, m))))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def state_dim(self) -> int:
        """The number n of hidden states."""
        return self.A.shape[0]

    @property
    def output_dim(self) -> int:
        """The number p of outputs."""
        return self.C.shape[0]

    @property
    def input_dim(self) -> int:
        """The number m of inputs, 0 without any."""
        return 0 if self.B is None else self.B.shape[1]

    @property
    def has_cost(self) -> bool:
        """Whether there is something to control for."""
        return self.R is not None

    def with_noise(self, process: float, observation: float) -> HiddenSystem:
        """The same system with both noises multiplied, as standard deviations."""
        return replace(self, W=process**2 * self.W, V=observation**2 * self.V)


REQUIRED = ("A", "C", "W", "V")


def hidden_names() -> tuple[str, ...]:
    """The names of the hidden systems that come with the package, in alphabetical order."""
    files = resources.files("mbpo.lqr").joinpath("hidden_systems").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def resolve_hidden(name_or_path: str | PathLike[str]) -> HiddenSystem:
    """The hidden system that a user means: a name, or the path of a TOML file with keys A, C, W, V and optionally
    B, Q, Qy, R, initial_covariance, name, source. A name wins over a file of that name.

    Raises `InputError` when neither is found or the file is not a valid system.
    """
    text = os.fspath(name_or_path)
    if text in hidden_names():
        file = resources.files("mbpo.lqr").joinpath("hidden_systems", f"{text}.toml")
        return _from_text(file.read_text(encoding="utf-8"), f"{text}.toml", text)
    if text.endswith(".toml") or os.sep in text or isinstance(name_or_path, Path):
        return load_hidden(text)
    raise InputError(f"there is no hidden system {text!r}, {did_you_mean(text, hidden_names())}")


def load_hidden(path: str | PathLike[str]) -> HiddenSystem:
    """Read a hidden system from a TOML file; its name defaults to the file's stem. Raises `InputError`."""
    path = Path(path)
    return _from_text(read(path), str(path), path.stem)


def _from_text(text: str, place: str, name: str) -> HiddenSystem:
    return built(HiddenSystem, parsed(text, place), REQUIRED, place, name, "a hidden system")


def simulate(
    system: HiddenSystem, steps: int, runs: int, seed: int, inputs: np.ndarray | None = None
) -> np.ndarray:
    """Outputs `[runs, steps, p]` from x_0 ~ N(0, X0); `inputs` `[runs, steps, m]`, none unless given."""
    random = np.random.default_rng(seed)
    start, process, observation = (_factor(each) for each in (system.initial_covariance, system.W, system.V))
    x = random.standard_normal((runs, system.state_dim)) @ start
    seen = random.standard_normal((steps, runs, system.output_dim)) @ observation
    noise = random.standard_normal((steps, runs, system.state_dim)) @ process
    if inputs is not None and system.B is not None:
        noise = noise + np.swapaxes(inputs, 0, 1) @ system.B.T
    for t in range(steps):
        seen[t] += x @ system.C.T
        x = x @ system.A.T + noise[t]
    return np.ascontiguousarray(np.swapaxes(seen, 0, 1))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance, singular or not."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
