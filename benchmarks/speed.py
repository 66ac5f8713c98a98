"""How fast the deep parts are, as a share of this machine's own matrix products, with a given number of threads.

    taskset -c 0 .venv/bin/python benchmarks/speed.py 1 > benchmarks/speed.json
    .venv/bin/python benchmarks/speed.py 2 > benchmarks/speed_2_threads.json
    .venv/bin/python benchmarks/speed.py 16 > benchmarks/speed_16_threads.json
    .venv/bin/python benchmarks/speed.py 2 parallel > benchmarks/speed_2_threads_parallel.json

`parallel`: products run beside each other, each on one thread, as `mbpo train` of preset `fast` has it.

Hopper's sizes (11 numbers seen, 3 chosen), the published networks. The yardstick is 256 x 256 x 256 products in float32
in a compiled loop, measured between the others, so that all see the same machine. Shares count useful products only.
"""

import json
import os
import platform
import statistics
import sys
import time

os.environ["PJRT_NPROC"] = THREADS = sys.argv[1] if len(sys.argv) > 1 else "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false" if "parallel" in sys.argv else ""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mbpo.core.buffer import Ring
from mbpo.core.host_loop import Stages
from mbpo.core.loop import Parts, RunState, branch
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Plan, Replay
from mbpo.core.types import Clock, Transition
from mbpo.deep.ensemble import Ensemble
from mbpo.deep.sac import SoftActorCritic
from mbpo.environments import make
from mbpo.presets import preset
from mbpo.runs.task_parts import assemble

N, M, BATCH, UPDATES, ROWS, REPEATS = 11, 3, 256, 20, 10_000, 7


def rows(count: int) -> Transition:
    """Random transitions."""
    keys = jax.random.split(jax.random.key(0), 4)
    seen, after = (jax.random.normal(key, (count, N)) for key in keys[:2])
    action = jnp.tanh(jax.random.normal(keys[2], (count, M)))
    reward = jax.random.normal(keys[3], (count,))
    return Transition(seen, action, reward, after, jnp.zeros(count, bool), jnp.zeros(count, bool))


def products(sizes: list[int]) -> int:
    """Floating-point operations of one row through a network, forward."""
    return sum(2 * a * b for a, b in itertools.pairwise(sizes))


def yardstick():
    """A compiled loop of 400 products, and its operations."""
    matrix = jax.random.normal(jax.random.key(1), (256, 256))
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 400, lambda i, x: (x @ matrix) * 0.05, x))
    return lambda: loop(matrix), 400 * 2 * 256**3


def agent_updates():
    """One compiled stage of `UPDATES` updates as the loop runs it, sampling from both rings included."""
    agent = SoftActorCritic(N, M, -1.0)
    plan = Plan(Replay(RealRatio.of(jnp.float32(0.05)), BATCH, None), 10, 1, 1, UPDATES)
    stages = Stages(Parts(None, None, agent), plan)
    ring = Ring(rows(ROWS), jnp.int32(ROWS), jnp.int32(0))
    clock = Clock(*(jnp.int32(each) for each in (1, 1, 0, 0)))
    state = RunState(clock, None, ring, None, ring, None)
    held = [agent.init(jax.random.key(2))]

    def run():
        (held[0], _), _, info = stages.improve((held[0], None), state, jax.random.key(3))
        return info

    actor, critic = [N, 256, 256, 2 * M], [N + M, 256, 256, 1]
    forward, first = products(critic), 2 * (N + M) * 256
    critics = 2 * (
        forward + forward + forward - first
    )  # forward, weights, and inputs of all layers but the first
    through = products(actor) + 2 * forward + 2 * forward + 2 * products(actor) - 2 * N * 256
    return run, UPDATES * BATCH * (products(actor) + 2 * forward + critics + through), UPDATES


def ensemble_fit():
    """Three epochs of a fit to `ROWS` rows."""
    ensemble = Ensemble(N, M, lambda s, a, n: jnp.bool_(False), most_epochs=3)
    ring = Ring(rows(ROWS), jnp.int32(ROWS), jnp.int32(0))
    fit, state = jax.jit(ensemble.fit), ensemble.init(jax.random.key(4))
    sizes = [N + M, 200, 200, 200, 200, 2 * (N + 1)]
    steps = 3 * -(-int(0.8 * ROWS) // BATCH)
    descent = steps * BATCH * 7 * (3 * products(sizes) - 2 * sizes[0] * 200)
    holdout = 3 * int(0.2 * ROWS) * 7 * products(sizes)
    return lambda: fit(state, ring, jax.random.key(5)), descent + holdout, steps


@functools.cache
def fast():
    """Parts, plan and state of preset `fast` with `ROWS` real rows and a full ring of imagined ones."""
    settings = preset("fast", "Hopper-v5")
    parts, plan = assemble(settings, make("Hopper-v5"), 40_000)
    ring = Ring(rows(ROWS), jnp.int32(ROWS), jnp.int32(0))
    imagined = rows(plan.batches.branches.capacity)
    full = Ring(imagined, jnp.int32(len(imagined.reward)), jnp.int32(0))
    policy = parts.agent.refresh(parts.agent.init(jax.random.key(2)), ring)
    clock = Clock(*(jnp.int32(each) for each in (1, ROWS, 0, 1)))
    return parts, plan, RunState(clock, None, ring, parts.model.init(jax.random.key(4)), full, policy)


def value_gradient_updates():
    """One compiled block of updates as the loop runs it, with its distribution rollouts."""
    parts, plan, state = fast()
    stages, agent = Stages(parts, plan), parts.agent
    held = [jax.tree.map(jnp.copy, (state.policy, state.imagined))]
    rest = state._replace(policy=None, imagined=None)

    def run():
        held[0], _, info = stages.improve(held[0], rest, jax.random.key(3))
        return info

    model = products([N + M, 256, 256, 256, N + 1])
    actor, critic = products([N, 256, 256, 2 * M]), products([N + M, 256, 256, 1])
    slow, fit = 2 * critic, agent.critics * (3 * critic - 2 * (N + M) * 256)
    upwards = agent.critics * 2 * critic  # forward, and back to the inputs
    rollout = agent.horizon * 2 * model + (agent.horizon + 1) * 3 * actor
    update = BATCH * (rollout + slow + fit + upwards)
    refreshments = plan.updates_per_round // plan.refresh_every
    imagined = refreshments * BATCH * plan.batches.branches.longest * (model + actor)
    return run, plan.updates_per_round * update + imagined, plan.updates_per_round


def fit_steps():
    """One compiled fit of preset `fast`, its hold-out included."""
    parts, _, state = fast()
    model, fit = parts.model, jax.jit(parts.model.fit)
    one = products([N + M, 256, 256, 256, N + 1])
    work = model.fit_steps * BATCH * model.networks * (3 * one - 2 * (N + M) * 256)
    work += 2 * 4096 * model.networks * one
    return lambda: fit(state.model, state.real, jax.random.key(5)), work, model.fit_steps


def distribution_rollout():
    """256 states rolled 20 steps, and written into the ring."""
    parts, plan, state = fast()
    roll = jax.jit(lambda state, key: branch(parts, plan.batches.branches, state, key).imagined)
    steps = plan.batches.branches.longest
    work = steps * BATCH * (products([N + M, 256, 256, 256, N + 1]) + products([N, 256, 256, 2 * M]))
    return lambda: roll(state, jax.random.key(8)), work, steps * BATCH


def imagination():
    """One imagined step of 100,000 branches."""
    ensemble = Ensemble(N, M, lambda s, a, n: jnp.bool_(False))
    state, start = ensemble.init(jax.random.key(6)), rows(100_000)
    keys = jax.random.split(jax.random.key(7), 100_000)
    step = jax.jit(ensemble.step)
    work = 100_000 * products([N + M, 200, 200, 200, 200, 2 * (N + 1)])
    return lambda: step(state, start.observation, start.action, keys), work, 100_000


def simulator() -> float:
    """Real Hopper steps a second, our checks included."""
    environment, steps = make("Hopper-v5"), 2000
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, M)).astype(np.float32)
    environment.reset(0)
    began = time.perf_counter()
    for number, action in enumerate(actions):
        answer = environment.step(action)
        if answer.terminal or answer.truncated:
            environment.reset(number)
    return steps / (time.perf_counter() - began)


def seconds(run) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def main() -> None:
    """Print one JSON object."""
    measure, operations = yardstick()
    seconds(measure)
    parts = {
        "agent updates": agent_updates(),
        "ensemble gradient steps": ensemble_fit(),
        "imagined transitions": imagination(),
        "value-gradient updates": value_gradient_updates(),
        "fast: gradient steps of a fit": fit_steps(),
        "fast: states of a distribution rollout": distribution_rollout(),
    }
    result = {}
    for name, (run, work, count) in parts.items():
        seconds(run)
        pairs = [(seconds(measure), seconds(run)) for _ in range(REPEATS)]
        shares = [work / own / (operations / yard) for yard, own in pairs]
        result[name] = {
            "per_second": round(count / min(own for _, own in pairs), 1),
            "share_of_products": round(statistics.median(shares), 3),
            "share_range": [round(min(shares), 3), round(max(shares), 3)],
        }
        print(name, result[name], file=sys.stderr)
    yard = operations / min(seconds(measure) for _ in range(REPEATS)) / 1e9
    versions = {"python": platform.python_version(), "jax": jax.__version__}
    print(
        json.dumps(
            {
                "threads": int(THREADS),
                "products_in_parallel": "parallel" in sys.argv,
                "products_gflops": round(yard, 1),
                "parts": result,
                "simulator_steps_per_second": round(simulator(), 1),
                "versions": versions,
                "platform": platform.platform(),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
