"""The data of one bench: what is known, and the trajectories of each kind, drawn when first asked for."""

from __future__ import annotations

from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mbpo.lqr import exact
from mbpo.lqr.gradients import Trajectories
from mbpo.lqr.model import least_squares
from mbpo.lqr.objective import Objective
from mbpo.lqr.perturbation import safe_radius
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import World, exact_values
from mbpo.studies.gradients import closed_forms
from mbpo.studies.gradients.applied import GROUPS
from mbpo.studies.gradients.sampling import sample, sample_perturbed
from mbpo.studies.gradients.setting import BenchSetting, first_states

MODEL_TRANSITIONS = 200  # real transitions that the fitted dynamics of `pathwise` come from
KINDS = ("current", "past", "pool", "perturbed", "pairs", "twins")


class Draws:
    """Exact answers and `episodes` trajectories of each kind in one setting, all derived from `seed`."""

    def __init__(self, setting: BenchSetting, episodes: int, seed: int) -> None:
        self.setting = setting
        self.episodes = episodes - episodes % GROUPS
        self.key = jax.random.key(seed)
        system, K, S = setting.system, setting.gain, setting.exploration
        self.objective = Objective.of(system)
        self.policy = LinearGaussian(jnp.asarray(K), jnp.asarray(np.linalg.cholesky(S)))
        parameters = (system.A, system.B, system.Q, system.R, system.W, system.initial_covariance)
        self.world = World(*(jnp.asarray(each) for each in parameters))
        self.values = exact_values(self.world, self.policy, self.objective)
        self.gradient = np.asarray(exact.gradient(system, K, S))
        self.radius = safe_radius(system, K, S)
        self.drawn: dict[str, Trajectories] = {}

    def of(self, kind: str) -> Trajectories:
        """The trajectories of one kind; the same for every estimator that takes it."""
        if kind not in self.drawn:
            key = jax.random.fold_in(self.key, KINDS.index(kind))
            self.drawn[kind] = self._perturbed(kind, key) if kind in KINDS[3:] else self._plain(kind, key)
        return self.drawn[kind]

    def _plain(self, kind: str, key: Array) -> Trajectories:
        setting = self.setting
        pools = {"current": setting.gain[None], "past": setting.behaviour_gain[None], "pool": setting.pool}
        return sample(setting, self.policy, self.world, self.values, pools[kind], self.episodes, key)

    def _perturbed(self, kind: str, key: Array) -> Trajectories:
        setting, paired = self.setting, kind != "perturbed"
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        directions = self.episodes // 2 if paired else self.episodes
        U = self.radius * closed_forms.sphere(setting.gain.shape, directions, rng)
        U = np.stack([U, -U], axis=1).reshape(self.episodes, *setting.gain.shape) if paired else U
        acted = jnp.asarray(setting.gain + U)
        starts = _starts(setting, acted)
        return sample_perturbed(
            setting, self.policy, self.world, self.values, acted, starts, kind == "twins", key
        )

    @cached_property
    def model(self) -> World:
        """The dynamics fitted to the first `MODEL_TRANSITIONS` rows of the behaviour, or as many as identify them."""
        rows = self.of("past")
        n, m = self.world.B.shape
        count = -(-max(MODEL_TRANSITIONS, 4 * (n + m)) // self.setting.steps)
        x, u, after = (leaf[:count].reshape(-1, leaf.shape[-1]) for leaf in (rows.x, rows.u, rows.x_next))
        fit = least_squares(x, u, after, jnp.ones(x.shape[0]), jnp.asarray(1e-9))
        return self.world._replace(A=fit.A, B=fit.B, W=fit.W)

    @cached_property
    def smoothed(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean of the zeroth-order estimators, and the error with which it is known."""
        return closed_forms.smoothed(self.setting, self.radius)


def _starts(setting: BenchSetting, acted: Array) -> Array:
    """The covariance of first states under each gain, [N, n, n]."""
    if setting.system.horizon is not None:
        return jnp.broadcast_to(
            jnp.asarray(setting.system.initial_covariance), (len(acted), *setting.system.A.shape)
        )
    law = partial(first_states, setting.system, exploration=setting.exploration)
    return jax.jit(jax.vmap(law))(acted)
