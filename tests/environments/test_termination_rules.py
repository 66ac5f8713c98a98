"""The built-in rules against the simulator, in states on both sides of every threshold."""

import jax
import numpy as np
import pytest

from mbpo.environments import make
from mbpo.environments.task_rules import Never
from mbpo.environments.termination import LEARNED, agreement, resolve
from mbpo.environments.variants import VARIANTS, variant_options
from mbpo.errors import InputError

# what to draw uniformly: position index -> range across the thresholds
HEIGHTS = {
    "Hopper": {1: (0.5, 1.5), 2: (-0.35, 0.35)},
    "Walker2d": {1: (0.6, 2.2), 2: (-1.4, 1.4)},
    "HalfCheetah": {1: (-0.5, 1.0), 2: (-3.0, 3.0)},
    "Ant": {2: (0.05, 1.3)},
    "Humanoid": {2: (0.7, 2.3)},
    "HumanoidStandup": {2: (0.1, 2.0)},
    "InvertedPendulum": {1: (-0.35, 0.35)},
    "InvertedDoublePendulum": {1: (-1.0, 1.0), 2: (-1.0, 1.0)},
    "Swimmer": {0: (-5.0, 5.0), 2: (-3.0, 3.0)},
    "Reacher": {0: (-3.0, 3.0), 1: (-3.0, 3.0)},
    "Pusher": {0: (-2.0, 1.0)},
}
NEVER = {"HalfCheetah", "HumanoidStandup", "Swimmer", "Reacher", "Pusher"}
WALKERS = {"exclude_current_positions_from_observation": False}
CHANGED = [
    ("Hopper-v5", WALKERS),
    ("Walker2d-v5", WALKERS),
    ("Ant-v5", WALKERS),
    ("Humanoid-v5", WALKERS),
    ("Hopper-v5", {"healthy_z_range": (0.9, 1.2), "healthy_angle_range": (-0.1, 0.3)}),
    ("Hopper-v5", {"healthy_state_range": (-1.0, 2.0), "healthy_angle_range": (-9.0, 9.0)}),
    ("Walker2d-v5", {"healthy_z_range": (1.0, 1.5), "healthy_angle_range": (-0.3, 0.9)}),
    ("Ant-v5", {"healthy_z_range": (0.5, 0.8), "include_cfrc_ext_in_observation": False}),
    ("Humanoid-v5", {"healthy_z_range": (1.2, 1.6)}),
    *((task, dict(options)) for task, variants in VARIANTS.items() for options in variants.values()),
]


def perturbed_steps(environment, count: int):
    """Transitions from random states: some as an episode brings them, most with positions drawn anew."""
    task, name = environment.gym.unwrapped, environment.id.split("-")[0]
    rng = np.random.default_rng(0)
    rows, observation, ended = [], environment.reset(0), False
    for k in range(count):
        if ended or k % 10 == 0:
            observation = environment.reset(k)
        if k % 3:
            qpos, qvel = task.data.qpos.copy(), task.data.qvel.copy()
            for index, (low, high) in HEIGHTS[name].items():
                qpos[index] = rng.uniform(low, high)
            task.set_state(qpos, qvel + rng.normal(size=qvel.shape))
            observation = task._get_obs().astype(np.float32)
        action = rng.uniform(-1, 1, environment.action_size)
        step = environment.step(action)
        rows.append((observation, action, step.observation, step.terminal))
        observation, ended = step.observation, step.terminal or step.truncated
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("version", ["v4", "v5"])
@pytest.mark.parametrize("name", list(HEIGHTS))
def test_rule_equals_the_simulator(name, version):
    if (name, version) == ("Pusher", "v4"):
        with pytest.raises(InputError, match="Pusher-v4 cannot be made with the packages installed"):
            make("Pusher-v4")
        return
    environment = make(f"{name}-{version}")
    rule = resolve(environment, None)
    observations, actions, following, terminals = perturbed_steps(environment, 300)
    assert agreement(rule, observations, actions, following, terminals) == (0, -1)
    assert environment.terminates is (name not in NEVER)
    assert isinstance(rule, Never) is (name in NEVER)
    if name not in NEVER:
        assert 30 < terminals.sum() < 270
    environment.close()


@pytest.mark.parametrize(("task", "options"), CHANGED)
def test_rule_honours_changed_options(task, options):
    environment = make(task, options)
    observations, actions, following, terminals = perturbed_steps(environment, 300)
    assert agreement(resolve(environment, None), observations, actions, following, terminals) == (0, -1)
    assert 20 < terminals.sum() < 290
    environment.close()


@pytest.mark.parametrize("task", ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"])
def test_an_unenforced_health_never_terminates(task):
    environment = make(task, {"terminate_when_unhealthy": False})
    assert not environment.terminates
    _, _, _, terminals = perturbed_steps(environment, 60)
    assert not terminals.any()
    environment.close()


def test_the_goal_of_the_mountain_car():
    environment = make("MountainCarContinuous-v0")
    rule = resolve(environment, None)
    rng = np.random.default_rng(0)
    rows = []
    for k in range(300):
        environment.reset(k)
        state = rng.uniform([0.35, -0.03], [0.55, 0.07]).astype(np.float32)
        environment.gym.unwrapped.state = state
        step = environment.step(np.array([rng.uniform(-1, 1)]))
        rows.append((state, [0.0], step.observation, step.terminal))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    assert agreement(rule, *columns) == (0, -1)
    assert 50 < columns[3].sum() < 250


def test_rules_trace_batch_and_compare_by_value():
    environment = make("Hopper-v5")
    rule = resolve(environment, None)
    batch = np.zeros((5, 11), np.float32), np.zeros((5, 3), np.float32), np.zeros((5, 11), np.float32)
    told = jax.jit(jax.vmap(rule))(*batch)
    assert told.shape == (5,)
    assert told.dtype == bool
    assert told.all()
    assert rule == resolve(make("Hopper-v5"), None)
    assert hash(rule) == hash(resolve(make("Hopper-v5"), None))
    assert rule != resolve(make("Hopper-v5", {"healthy_z_range": (0.1, 2.0)}), None)
    nan = np.full((1, 11), np.nan, np.float32)
    assert agreement(rule, nan, np.zeros((1, 3)), nan, np.array([True])) == (0, -1)


def test_agreement_counts_and_points():
    environment = make("InvertedPendulum-v5")
    rule = resolve(environment, None)
    following = np.array([[0, 0.1, 0, 0], [0, 0.3, 0, 0], [0, -0.3, 0, 0], [0, 0, 0, 0]], np.float32)
    terminals = np.array([False, False, True, True])
    assert agreement(rule, following, np.zeros((4, 1)), following, terminals) == (2, 1)


def test_names_of_rules():
    environment = make("Hopper-v5")
    assert isinstance(resolve(environment, "never"), Never)
    assert resolve(environment, "learned") is LEARNED
    assert make("Hopper-v5", termination="learned").rule() is LEARNED


def test_a_users_rule(tmp_path, monkeypatch):
    (tmp_path / "my_rules.py").write_text(
        "import jax.numpy as jnp\n\ndef falls(observation, action, next_observation):\n"
        "    return next_observation[0] < 0.9 + 0 * action[0] * observation[0]\n"
    )
    monkeypatch.chdir(tmp_path)
    environment = make("Hopper-v5", termination="my_rules:falls")
    told = environment.rule()(*(np.full(size, 0.8, np.float32) for size in (11, 3, 11)))
    assert told.shape == ()
    assert bool(told)


def test_variants_have_the_published_sizes():
    sizes = {
        ("Ant-v5", "truncated"): 27,
        ("Humanoid-v5", "truncated"): 45,
        ("Walker2d-v5", "walker2d.xml"): 17,
    }
    for (task, name), size in sizes.items():
        assert make(task, variant_options(task, name)).observation_size == size
    friction = [
        make("Walker2d-v5", options).gym.unwrapped.model.geom("foot_geom").friction[0]
        for options in ({}, variant_options("Walker2d-v5", "walker2d.xml"))
    ]
    assert friction == [1.9, 0.9]
    for task, name in (("Ant-v5", "truncate"), ("Ant", "truncated"), ("Pendulum-v1", "truncated")):
        with pytest.raises(InputError, match=r"did you mean|the valid names are"):
            variant_options(task, name)
