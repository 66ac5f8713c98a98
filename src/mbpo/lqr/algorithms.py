"""The named algorithms on linear-quadratic systems: each is an agent, a model or none, and a plan for the one loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, OnPolicy, Plan, Replay
from mbpo.core.schedule import constant
from mbpo.lqr import exact
from mbpo.lqr.agents import CertaintyEquivalence, GradientAgent
from mbpo.lqr.coordinates import Coordinates, exploration_covariance, well_scaled
from mbpo.lqr.environment import LinearQuadraticEnvironment
from mbpo.lqr.gradients import ESTIMATORS, FromTrajectories, GradientSource, ReplayedRows
from mbpo.lqr.model import LeastSquares
from mbpo.lqr.objective import Objective
from mbpo.lqr.optimum import Optimum, default_gain
from mbpo.lqr.perturbation import safe_radius
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.values import World

ROUNDS = 60  # refits, at most; fewer when rounds would get shorter than an algorithm can use
BATCH = 4096  # rows of an off-policy batch
BRANCHES = 4000  # imagined transitions after a fit: this many divided by the rollout length branches
EPISODES = 1000  # imagined trajectories of one on-policy update
TRAJECTORY = 20  # steps of a trajectory where the objective does not set them
IMAGINED_EXPLORATION = 4.0  # standard deviation of exploration inside the model, relative to the world's
WINDOW = 5  # batches of trajectories that estimators which reuse old ones remember
GROUP = 4  # trajectories come in two halves of pairs
FAR = 1e3  # standard deviations of the first loop's states beyond which a real rollout is cut


@dataclass(frozen=True)
class Algorithm:
    """What sets an algorithm apart.

    improve: the gradient estimator it steps along (None: the fitted model is solved outright); imagines: whether
    updates learn from imagined transitions; from_start: whole imagined rollouts from the start distribution rather
    than branches from real states; choices: the estimators that can take the place of `improve`; real_ratio,
    rollout_length: defaults where the algorithm has the option, else None; shortest: fewest real steps of a round;
    trust: see `GradientAgent`.
    """

    summary: str
    improve: str | None
    uses_model: bool
    updates: int
    shortest: int
    imagines: bool = False
    from_start: bool = False
    choices: tuple[str, ...] = ()
    real_ratio: float | None = None
    rollout_length: int | None = None
    trust: float = 0.25


EVERY = tuple(ESTIMATORS)
NAMED: dict[str, Algorithm] = {
    "mbpo": Algorithm(
        "Algorithm 2: short branches from real states, off-policy updates on mixed batches",
        improve="dpg", uses_model=True, updates=2, shortest=1, imagines=True, choices=EVERY,
        real_ratio=0.05, rollout_length=5,
    ),
    "mbpo-simple": Algorithm(
        "Algorithm 1 without its penalty: full imagined rollouts from the start, on-policy updates",
        improve="value-baseline", uses_model=True, updates=2, shortest=1, imagines=True, from_start=True,
        choices=EVERY,
    ),
    "dyna": Algorithm(
        "Dyna: as mbpo with one-step branches",
        improve="dpg", uses_model=True, updates=2, shortest=1, imagines=True, choices=EVERY,
        real_ratio=0.05, rollout_length=1,
    ),
    "policy-gradient": Algorithm(
        "likelihood-ratio policy gradient on fresh real trajectories, no model",
        improve="value-baseline", uses_model=False, updates=1, shortest=800, trust=0.05,
        choices=("value-baseline", "dpg"),
    ),
    "certainty-equivalence": Algorithm(
        "the optimal gain of the fitted model, the yardstick",
        improve=None, uses_model=True, updates=1, shortest=1,
    ),
}  # fmt: skip


def _on_real_data(name: str) -> Algorithm:
    """An estimator of the registry on real data alone; `dpg` replays single transitions, the others trajectories."""
    estimator = ESTIMATORS[name]
    if name == "dpg":
        return Algorithm(
            f"{estimator.summary}, no model", name, False, updates=2, shortest=1, choices=(name,)
        )
    fitted = estimator.world == "fitted"
    return Algorithm(
        f"{estimator.summary}, on real data",
        name,
        fitted,
        updates=1,
        shortest=800,
        choices=(name,),
        trust=0.05,
    )


ALGORITHMS: dict[str, Algorithm] = NAMED | {name: _on_real_data(name) for name in ESTIMATORS}


@dataclass(frozen=True, eq=False)
class Setup:
    """A system made ready to be learned, in well-scaled coordinates: the system, the first gain, the exploration
    covariance S and when to cut are all in these."""

    coordinates: Coordinates
    system: LinearQuadratic
    gain: np.ndarray
    exploration: np.ndarray
    state_limit: float
    episode_length: int | None


def prepare(system: LinearQuadratic, optimum: Optimum) -> Setup:
    """The defaults of learning on `system`, whose optimum says what exploration costs."""
    system = exact.resolved(system)
    first = default_gain(system)
    coordinates = well_scaled(system, first, optimum)
    scaled = coordinates.system(system)
    S = coordinates.inward_exploration(exploration_covariance(system, optimum))
    start = np.max(np.diag(scaled.initial_covariance))
    limit = FAR * math.sqrt(max(float(start), 1.0))
    return Setup(coordinates, scaled, coordinates.inward(first), S, limit, _episode_length(system))


def _episode_length(system: LinearQuadratic) -> int | None:
    if system.horizon is not None:
        return system.horizon
    if system.discount is None:
        return None
    return min(max(math.ceil(math.log(1e-3) / math.log(system.discount)), 10), 1000)


def replays_rows(algorithm: Algorithm, improve: str | None) -> bool:
    """Whether updates draw single transitions from everything seen rather than trajectories of one policy."""
    return improve is None or (improve == "dpg" and not algorithm.from_start and algorithm.shortest == 1)


def rounds_for(
    system: LinearQuadratic, algorithm: Algorithm, transitions: int, improve: str | None = None
) -> tuple[int, int, int]:
    """Warm-up, rounds and steps per round that use exactly `transitions` real steps; raises ValueError with the
    smallest number that would do."""
    whole = not algorithm.imagines and not replays_rows(algorithm, improve or algorithm.improve)
    unit = GROUP * trajectory_length(system) if whole else 1
    least = max(algorithm.shortest, 2 * (system.state_dim + system.action_dim))
    steps = max(transitions // (ROUNDS + 1), least)
    steps = -(-steps // unit) * unit if steps == least else steps // unit * unit
    rounds = min(transitions // steps - 1, ROUNDS) if steps else 0
    if rounds < 1:
        raise ValueError(f"{2 * (-(-least // unit)) * unit}")
    return transitions - rounds * steps, rounds, steps


def trajectory_length(system: LinearQuadratic) -> int:
    """Steps of one on-policy trajectory."""
    return system.horizon if system.horizon is not None else TRAJECTORY


def assemble(
    setup: Setup,
    algorithm: Algorithm,
    sizes: tuple[int, int, int],
    improve: str | None,
    real_ratio: float | None,
    rollout_length: int | None,
    learn_cost: bool,
) -> tuple[Parts, Plan]:
    """The parts and the plan of `algorithm` on a system, in its coordinates; traced under 64-bit types."""
    system, (warmup, rounds, steps) = setup.system, sizes
    start, factor = jnp.asarray(setup.gain), jnp.asarray(np.linalg.cholesky(setup.exploration))
    objective = Objective.of(system)
    environment = LinearQuadraticEnvironment.of(system, setup.state_limit, setup.episode_length)
    model = LeastSquares.of(system, setup.state_limit, learn_cost) if algorithm.uses_model else None
    batches = _batches(system, algorithm, improve, steps, real_ratio, rollout_length)
    if improve is None:
        agent = CertaintyEquivalence(start, factor, objective)
    else:
        source = _source(setup, algorithm, improve, batches)
        imagined = IMAGINED_EXPLORATION * factor
        agent = GradientAgent(
            start, factor, imagined, objective, source, trust=algorithm.trust, imagines=algorithm.imagines
        )
    return Parts(environment, model, agent), Plan(batches, warmup, rounds, steps, algorithm.updates)


def _batches(
    system: LinearQuadratic,
    algorithm: Algorithm,
    improve: str | None,
    steps: int,
    real_ratio: float | None,
    rollout_length: int | None,
) -> Replay | OnPolicy:
    if not replays_rows(algorithm, improve):
        assert improve is not None
        twins = ESTIMATORS[improve].data == "twins"
        if not algorithm.imagines:
            length, restart = trajectory_length(system), system.horizon is not None
            return OnPolicy(steps // length, length, imagined=False, restart=restart, twins=twins)
        if algorithm.from_start or rollout_length is None:
            return OnPolicy(EPISODES, trajectory_length(system), imagined=True, twins=twins)
        count = max(BRANCHES // rollout_length // GROUP, 1) * GROUP
        return OnPolicy(count, rollout_length, imagined=True, branched=True, twins=twins)
    if not algorithm.imagines or real_ratio is None or rollout_length is None:
        return Replay(RealRatio.of(jnp.asarray(1.0, jnp.float64)), BATCH if improve else 1, None)
    ratio = RealRatio.of(jnp.asarray(real_ratio, jnp.float64))
    count = max(BRANCHES // rollout_length, 1)
    return Replay(ratio, BATCH, Branches(constant(float(rollout_length)), count, rollout_length))


def _source(setup: Setup, algorithm: Algorithm, improve: str, batches: Replay | OnPolicy) -> GradientSource:
    system = setup.system
    if not isinstance(batches, OnPolicy) or improve == "dpg":
        return ReplayedRows()
    parameters = (system.A, system.B, system.Q, system.R, system.W, system.initial_covariance)
    told = ESTIMATORS[improve].needs_parameters and not algorithm.uses_model
    world = World(*(jnp.asarray(each) for each in parameters))
    return FromTrajectories(
        truth=world if told else None,
        start=world.start,
        radius=jnp.asarray(safe_radius(system, setup.gain, setup.exploration)),
        estimator=ESTIMATORS[improve],
        episodes=batches.episodes,
        length=batches.length,
        window=WINDOW,
    )
