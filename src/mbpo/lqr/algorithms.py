"""The named algorithms on linear-quadratic systems: each is an agent, a model or none, and a plan for the one loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, OnPolicy, Plan, Replay
from mbpo.core.schedule import constant
from mbpo.lqr import exact
from mbpo.lqr.agents import CertaintyEquivalence, GradientAgent, PlainGradient
from mbpo.lqr.coordinates import Coordinates, exploration_covariance, well_scaled
from mbpo.lqr.environment import LinearQuadraticEnvironment
from mbpo.lqr.gradients import ESTIMATORS, FromTrajectories, GradientSource, ReplayedRows
from mbpo.lqr.model import LeastSquares
from mbpo.lqr.objective import Objective
from mbpo.lqr.optimum import Optimum, default_gain
from mbpo.lqr.perturbation import safe_radius
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.values import World

ROUNDS = 60  # equal rounds, at most; fewer when they would get shorter than an algorithm can use
GROWTH = 0.25  # share of the transitions so far that the next early round takes
LEAST = 4  # transitions for each regressor before the first fit
BATCH = 4096  # rows of an off-policy batch
BRANCHES = 4000  # imagined transitions after a fit: this many divided by the rollout length branches
EPISODES = 1000  # imagined trajectories of one on-policy update
TRAJECTORY = 20  # steps of an imagined trajectory where the objective does not set them
WINDOW_STEPS = (
    5  # steps of a real one: the noise of a likelihood ratio grows with them, the value after it is fitted
)
IMAGINED_EXPLORATION = 4.0  # standard deviation of exploration inside the model, relative to the world's
WINDOW = 5  # batches of trajectories that estimators which reuse old ones remember
STEP = 0.02  # of a plain gradient, in units of 1 / the largest curvature at the optimum
GROUP = 4  # trajectories come in two halves of pairs
FAR = 1e3  # standard deviations of the first loop's states beyond which a real rollout is cut


@dataclass(frozen=True)
class Algorithm:
    """What sets an algorithm apart.

    improve: the gradient estimator it steps along (None: the fitted model is solved outright); imagines: whether
    updates learn from imagined transitions; from_start: whole imagined rollouts from the start distribution rather
    than branches from real states; choices: the estimators that can take the place of `improve`; real_ratio,
    rollout_length: defaults where the algorithm has the option, else None; shortest: fewest real steps of a round;
    trust: see `GradientAgent`; plain: whether it steps along the gradient itself, with a constant step.
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
    plain: bool = False


@dataclass(frozen=True)
class Choices:
    """What a training chooses of an algorithm's options: see `Settings`."""

    improve: str | None
    real_ratio: float | None
    real_ratio_last: float | None
    rollout_length: int | None
    learn_cost: bool = False
    imagined_exploration: float = IMAGINED_EXPLORATION
    step: float = STEP


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
        "likelihood-ratio gradient on fresh real trajectories with a fitted baseline and Gauss-Newton steps, no model",
        improve="value-baseline", uses_model=False, updates=1, shortest=800, trust=0.05,
        choices=("value-baseline", "dpg"),
    ),
    "plain-reinforce": Algorithm(
        "REINFORCE as written down first: no baseline, no curvature, a constant step", improve="reinforce",
        uses_model=False, updates=1, shortest=800, choices=("reinforce",), plain=True,
    ),
    "plain-gpomdp": Algorithm(
        "GPOMDP alike: cost to go, no baseline, no curvature, a constant step", improve="gpomdp",
        uses_model=False, updates=1, shortest=800, choices=("gpomdp",), plain=True,
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
    """A system made ready to be learned, in well-scaled coordinates: the system, the first and the optimal gain, the
    exploration covariance S and when to cut are all in these."""

    coordinates: Coordinates
    system: LinearQuadratic
    gain: np.ndarray
    optimal_gain: np.ndarray
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
    gains = coordinates.inward(first), coordinates.inward(optimum.gain)
    return Setup(coordinates, scaled, *gains, S, limit, _episode_length(system))


def _episode_length(system: LinearQuadratic) -> int | None:
    if system.horizon is not None:
        return system.horizon
    if system.discount is None:
        return None
    return min(max(math.ceil(math.log(1e-3) / math.log(system.discount)), 10), 1000)


def replays_rows(algorithm: Algorithm, improve: str | None) -> bool:
    """Whether updates draw single transitions from everything seen rather than trajectories of one policy."""
    return improve is None or (improve == "dpg" and not algorithm.from_start and algorithm.shortest == 1)


class Sizes(NamedTuple):
    """Real steps of the warm-up, of the early rounds, and of all others; rounds counts both kinds."""

    warmup: int
    early: tuple[int, ...]
    rounds: int
    steps: int

    @property
    def transitions(self) -> int:
        """Real steps of all of them."""
        return self.warmup + sum(self.early) + (self.rounds - len(self.early)) * self.steps


def rounds_for(
    system: LinearQuadratic, algorithm: Algorithm, transitions: int, improve: str | None = None
) -> Sizes:
    """Rounds that use exactly `transitions` real steps; raises ValueError with the smallest number that would do.

    Where rounds may have any size they grow by a fixed factor, from the fewest transitions that tell a model, until
    they are equal: so what is learned from little data is recorded too.
    """
    whole = not algorithm.imagines and not replays_rows(algorithm, improve or algorithm.improve)
    unit = GROUP * trajectory_length(system, imagined=False) if whole else 1
    least = max(algorithm.shortest, LEAST * (system.state_dim + system.action_dim))
    steps = max(transitions // (ROUNDS + 1), least)
    steps = -(-steps // unit) * unit if steps == least else steps // unit * unit
    if steps == 0 or transitions < 2 * steps:
        raise ValueError(f"{2 * (-(-least // unit)) * unit}")
    if whole:
        rounds = min(transitions // steps - 1, ROUNDS)
        return Sizes(transitions - rounds * steps, (), rounds, steps)
    done, early = least, []
    while (size := min(math.ceil(GROWTH * done), transitions - done)) < steps and size > 0:
        early.append(size)
        done += size
    rounds, rest = divmod(transitions - done, steps)
    early += [rest] if rest else []
    return Sizes(least, tuple(early), len(early) + rounds, steps)


def trajectory_length(system: LinearQuadratic, imagined: bool) -> int:
    """Steps of one on-policy trajectory."""
    return system.horizon or (TRAJECTORY if imagined else WINDOW_STEPS)


def assemble(
    setup: Setup,
    algorithm: Algorithm,
    sizes: Sizes,
    chosen: Choices,
) -> tuple[Parts, Plan]:
    """The parts and the plan of `algorithm` on a system, in its coordinates; traced under 64-bit types."""
    system, improve = setup.system, chosen.improve
    start, factor = jnp.asarray(setup.gain), jnp.asarray(np.linalg.cholesky(setup.exploration))
    objective = Objective.of(system)
    environment = LinearQuadraticEnvironment.of(system, setup.state_limit, setup.episode_length)
    model = LeastSquares.of(system, setup.state_limit, chosen.learn_cost) if algorithm.uses_model else None
    batches = _batches(system, algorithm, sizes, chosen)
    if improve is None:
        agent = CertaintyEquivalence(start, factor, objective)
    elif algorithm.plain:
        source = _source(setup, algorithm, improve, batches)
        size = jnp.asarray(chosen.step / largest_curvature(setup))
        agent = PlainGradient(start, factor, size, objective, source)
    else:
        source = _source(setup, algorithm, improve, batches)
        imagined = chosen.imagined_exploration * factor
        agent = GradientAgent(
            start, factor, imagined, objective, source, trust=algorithm.trust, imagines=algorithm.imagines
        )
    plan = Plan(batches, sizes.warmup, sizes.rounds, sizes.steps, algorithm.updates, early=sizes.early)
    return Parts(environment, model, agent), plan


def largest_curvature(setup: Setup) -> float:
    """The largest eigenvalue of the Hessian of J at the optimum of a prepared system: steps of plain gradients are told
    in units of its inverse, which the learner could not know and which saves it a search."""
    hessian = np.asarray(exact.hessian(setup.system, setup.optimal_gain))
    size = setup.gain.size
    return float(np.linalg.eigvalsh(hessian.reshape(size, size))[-1])


def _batches(
    system: LinearQuadratic, algorithm: Algorithm, sizes: Sizes, chosen: Choices
) -> Replay | OnPolicy:
    improve, rollout_length = chosen.improve, chosen.rollout_length
    if not replays_rows(algorithm, improve):
        assert improve is not None
        twins = ESTIMATORS[improve].data == "twins"
        if not algorithm.imagines:
            length, restart = trajectory_length(system, imagined=False), system.horizon is not None
            return OnPolicy(sizes.steps // length, length, imagined=False, restart=restart, twins=twins)
        if algorithm.from_start or rollout_length is None:
            return OnPolicy(EPISODES, trajectory_length(system, imagined=True), imagined=True, twins=twins)
        count = max(BRANCHES // rollout_length // GROUP, 1) * GROUP
        return OnPolicy(count, rollout_length, imagined=True, branched=True, twins=twins)
    if not algorithm.imagines or chosen.real_ratio is None or rollout_length is None:
        return Replay(RealRatio.of(jnp.asarray(1.0, jnp.float64)), BATCH if improve else 1, None)
    ratio = RealRatio.between(chosen.real_ratio, chosen.real_ratio_last, sizes.transitions, jnp.float64)
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
