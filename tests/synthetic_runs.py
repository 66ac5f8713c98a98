"""Trainings with made-up numbers: what a run looks like, without learning anything."""

import numpy as np

from mbpo.lqr import catalogue, optimum
from mbpo.lqr.train import Settings, Training


def synthetic_training(
    algorithm="mbpo",
    system="double_integrator",
    seeds=5,
    unstable=0,
    rate=1.0,
    rounds=12,
    transitions=1200,
):
    """Excess costs of exactly 20 rate / N times 1 + seed / 10; the last `unstable` seeds end unstable."""
    problem = catalogue.get(system)
    best = optimum.solve(problem)
    start = np.asarray(optimum.default_gain(problem))
    used = np.linspace(transitions / rounds, transitions, rounds).astype(np.int64)
    share = np.linspace(0.2, 1.0, rounds)[None, :, None, None]
    noise = np.random.default_rng(3).normal(size=(seeds, rounds, *start.shape))
    gains = start + share * (best.gain - start) + 0.01 * noise
    excess = 20 * rate / used[None, :] * (1 + np.arange(seeds)[:, None] / 10)
    if unstable:
        excess[-unstable:, -2:] = np.inf
    has_model = algorithm in ("mbpo", "mbpo-simple", "certainty-equivalence")
    path = 0.9 ** np.arange(30)[:, None] * np.ones(problem.state_dim)
    return Training(
        system=problem,
        settings=Settings(algorithm, transitions, seeds),
        optimum=best,
        initial_gain=start,
        exploration=np.eye(problem.action_dim),
        transitions=used,
        gains=gains,
        excess_cost=excess,
        model_error=np.sqrt(excess.clip(max=4.0)) / 4 if has_model else None,
        realised_ratio=np.full((seeds, rounds), 0.05),
        cuts=np.zeros((seeds, rounds), np.int64),
        imagined=np.full((seeds, rounds), 400),
        limit=5.0 / transitions,
        limit_curve=5.0 / used,
        real_rollout=path,
        imagined_rollout=1.1 * path if has_model else None,
    )
