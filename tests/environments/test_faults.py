"""Everything an environment, its options or a rule can do wrong, each answered by one sentence."""

import broken
import numpy as np
import pytest

from mbpo.environments import EnvironmentFault, make
from mbpo.environments.termination import agreement
from mbpo.errors import InputError

F32 = np.float32
AT_STEP = rf"step {broken.AT} of episode 0"
# what a sound environment returns wrongly at one step, and what the sentence must mention
RETURNED = [
    ({"observation": np.array([0, np.nan], F32)}, AT_STEP + r".*entry 1 is nan, expected finite"),
    ({"observation": np.array([-np.inf, 0], F32)}, r"entry 0 is -inf, expected finite"),
    ({"observation": np.array([1e300, 0])}, r"entry 0 is 1e\+300, expected numbers that float32 can hold"),
    ({"observation": np.zeros(2, np.int64)}, r"dtype int64, expected a floating one such as float32"),
    ({"observation": np.zeros(2, bool)}, r"dtype bool"),
    ({"observation": np.array(["a", "b"])}, r"dtype <U1"),
    ({"observation": np.array([None, None])}, r"dtype object"),
    ({"observation": np.zeros(3, F32)}, r"shape \[3\], expected \[2\]"),
    ({"observation": np.zeros((2, 1), F32)}, r"shape \[2, 1\], expected \[2\]"),
    ({"observation": None}, r"observation None, expected a NumPy array of shape \[2\]"),
    ({"observation": [0.0, 0.0]}, r"of type list, expected a NumPy array"),
    ({"observation": {"x": 1}}, r"of type dict, expected a NumPy array"),
    ({"reward": np.inf}, r"reward inf, expected a finite"),
    ({"reward": np.float64("nan")}, r"reward nan, expected a finite"),
    ({"reward": 1e39}, r"reward 1e\+39, expected a finite float32"),
    ({"reward": None}, r"reward None, expected a real number"),
    ({"reward": 1 + 2j}, r"of type complex, expected a real number"),
    ({"reward": True}, r"of type bool, expected a real number"),
    ({"reward": np.zeros(2)}, r"an array of shape \[2\] and dtype float64, expected a real number"),
    ({"terminated": 1}, r"terminated 1 of type int, expected True or False"),
    ({"terminated": None}, r"terminated None, expected True or False"),
    ({"truncated": np.array([True])}, r"truncated an array of shape \[1\]"),
    ({"info": None}, r"info None, expected a dict"),
    (
        {"first": np.zeros(2, F32)},
        r"the reset of episode 0 returned an array.*expected \(observation, info\)",
    ),
    ({"first": (np.zeros(2, F32), None)}, r"the reset of episode 0 returned info None"),
    ({"first": (np.full(2, np.nan, F32), {})}, r"the reset of episode 0.*entry 0 is nan"),
    ({"first": (None, {})}, r"the reset of episode 0 returned the observation None"),
]
FAULTY = [
    ("broken/Raises-v0", AT_STEP + r" raised KeyError: 'no such joint"),
    ("broken/RaisesAtReset-v0", r"the reset of episode 0 raised RuntimeError$"),
    ("broken/FourValues-v0", r"a tuple of 4 values, expected \(observation, reward, terminated, truncated"),
    ("limited/FourValues-v0", r"values to unpack.*expected it to return \(observation, reward, terminated"),
    ("broken/RefusesSeed-v0", r"raised TypeError: .*seed"),
]
UNMADE = [
    ("broken/DictSeen-v0", {}, r"observation space is a Dict.*FlattenObservation"),
    ("broken/TupleSeen-v0", {}, r"observation space is a Tuple"),
    ("broken/DiscreteSeen-v0", {}, r"observation space is a Discrete.*discrete states"),
    ("broken/ImageSeen-v0", {}, r"\[64, 64, 3\] look like images"),
    ("broken/EmptySeen-v0", {}, r"observation space is empty"),
    ("broken/NoSpaces-v0", {}, r"observation space is missing"),
    ("broken/DiscreteChosen-v0", {}, r"action space is a Discrete, expected a bounded Box"),
    ("broken/MultiDiscreteChosen-v0", {}, r"action space is a MultiDiscrete"),
    ("broken/UnboundedChosen-v0", {}, r"action 0 ranges over \[-inf, 1\], expected finite bounds"),
    ("broken/WideChosen-v0", {}, r"action 0 ranges over \[-3e\+38, 3e\+38\], expected finite bounds"),
    ("broken/MatrixChosen-v0", {}, r"actions have shape \[2, 2\], expected a vector"),
    ("broken/IntegerChosen-v0", {}, r"actions have dtype int32, expected floats"),
    ("broken/FrozenChosen-v0", {}, r"action 1 can only be 1, expected low < high"),
    ("broken/FailsToStart-v0", {}, r"cannot be made: OSError: cannot find the robot"),
    ("broken/FailsToStart-v0", {"speed": 1}, r"has no option 'speed', the valid names are max_episode_steps"),
    ("Hoper-v5", {}, r"no environment 'Hoper-v5', did you mean 'Hopper-v5'"),
    ("Hopper", {}, r"did you mean 'Hopper-v5'"),
    ("Hopper-v2", {}, r"no environment 'Hopper-v2', did you mean 'Hopper-v5'"),
    ("quite/Unknown-v0", {}, r"write|writing 'module:Name-v0'"),
    ("no_such_module_at_all:Env-v0", {}, r"needs the module 'no_such_module_at_all', which is not installed"),
    ("", {}, r"must be an id such as 'Hopper-v5', got ''"),
    (3, {}, r"must be an id such as 'Hopper-v5', got 3"),
    ("Hopper-v5", {"healthy_z_rang": (0, 1)}, r"no option 'healthy_z_rang', did you mean 'healthy_z_range'"),
    ("Hopper-v5", {"frame_skip": 0}, r"Hopper-v5 cannot be made: ZeroDivisionError"),
    ("Hopper-v5", {"xml_file": "no.xml"}, r"cannot be made: OSError: File .*no.xml does not exist"),
    ("Hopper-v5", {"healthy_z_range": 0.7}, r"thresholds of HopperEnv are not pairs of numbers"),
    ("Walker2d-v5", {"healthy_angle_range": "no"}, r"thresholds of Walker2dEnv are not pairs of numbers"),
    ("Hopper-v5", {"max_episode_steps": 0}, r"max_episode_steps of Hopper-v5 must be a whole number"),
    ("Hopper-v5", {"render_mode": "human"}, r"'render_mode' is not an option"),
    ("Hopper-v5", {1: 2}, r"named by strings, got 1"),
    ("Hopper-v5", [("a", 1)], r"must be a mapping, got list"),
]
RULES = [
    (None, r"may terminate and training needs to know when: .*'module:function'.*'learned'.*'never'"),
    ("nevr", r"no termination rule 'nevr', did you mean 'never'"),
    (7, r"no termination rule 7, expected one of"),
    ("broken:", r"not of the form 'module:function'"),
    (":works", r"not of the form 'module:function'"),
    ("no_such_module_at_all:rule", r"needs the module 'no_such_module_at_all'"),
    ("broken:work", r"no function 'work', did you mean 'works'"),
    ("broken:CONSTANT", r"is a float, expected a function"),
    (
        "broken:two_arguments",
        r"must take \(observation, action, next_observation\), but .* \(observation, action\)",
    ),
    ("broken:not_boolean", r"returned an array of shape \[\] and dtype float32, expected one boolean"),
    ("broken:many", r"returned an array of shape \[2\] and dtype bool, expected one boolean"),
    ("broken:nothing", r"returned None, expected one boolean"),
    ("broken:branches", r"cannot be traced by JAX"),
    ("broken:in_numpy", r"cannot be traced by JAX"),
    ("broken:wrong_size", r"raised TypeError: .* on one transition"),
]


def one_sentence(caught: pytest.ExceptionInfo) -> None:
    """The message is one line without a traceback, and nothing is chained for a traceback to show."""
    text = str(caught.value)
    assert "\n" not in text
    assert "Traceback" not in text
    assert text[-1] not in ". "
    assert len(text) < 500
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def play(environment, steps: int = 6) -> None:
    environment.reset(0)
    for _ in range(steps):
        environment.step(np.zeros(environment.action_size))


@pytest.mark.parametrize(("settings", "sentence"), RETURNED)
def test_what_breaks_the_contract_is_named_with_its_place(settings, sentence):
    with pytest.raises(EnvironmentFault, match=sentence) as caught:
        play(make("broken/Sound-v0", settings))
    one_sentence(caught)
    assert str(caught.value).startswith("broken/Sound-v0: ")


@pytest.mark.parametrize(("name", "sentence"), FAULTY)
def test_an_exception_inside_becomes_a_sentence(name, sentence):
    with pytest.raises(EnvironmentFault, match=sentence) as caught:
        play(make(name))
    one_sentence(caught)


@pytest.mark.parametrize(("name", "options", "sentence"), UNMADE)
def test_what_cannot_be_made_or_learned_in(name, options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        make(name, options)
    one_sentence(caught)


@pytest.mark.parametrize(("name", "sentence"), RULES)
def test_what_is_not_a_rule(name, sentence):
    environment = make("broken/Sound-v0")
    environment.termination = name
    with pytest.raises(InputError, match=sentence) as caught:
        environment.rule()
    one_sentence(caught)
    if name is not None:
        with pytest.raises(InputError, match=sentence) as caught:
            make("broken/Sound-v0", termination=name)
        one_sentence(caught)


def test_only_a_rule_can_be_compared_with_data():
    with pytest.raises(InputError, match="only a rule can be compared"):
        agreement("learned", *np.zeros((3, 2, 2), F32), np.zeros(2, bool))


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (np.zeros(2), r"action of shape \[2\]"),
        ([np.nan], r"\[nan\], expected \[1\] finite"),
        (0.0, r"of shape \[\]"),
    ],
)
def test_actions_are_checked(action, sentence):
    environment = make("broken/Sound-v0")
    environment.reset(0)
    with pytest.raises(InputError, match=sentence) as caught:
        environment.step(action)
    one_sentence(caught)


@pytest.mark.parametrize("seed", [-1, 1.5, None, "0"])
def test_seeds_are_checked(seed):
    with pytest.raises(InputError, match="seed must be a whole number"):
        make("broken/Sound-v0").reset(seed)


def test_no_step_before_a_reset_nor_after_an_end_or_a_fault():
    environment = make("broken/Sound-v0", {"reward": None})
    for _ in range(2):
        with pytest.raises(InputError, match="expected a reset before this step"):
            environment.step(np.zeros(1))
        with pytest.raises(EnvironmentFault, match="reward None"):
            play(environment)
    limited = make("limited/Sound-v0")
    play(limited, 20)
    with pytest.raises(InputError, match="expected a reset before this step"):
        limited.step(np.zeros(1))


def test_frames_need_a_render_mode_and_a_picture():
    with pytest.raises(InputError, match="render_mode must be one of rgb_array, human or None, got 'rgb'"):
        make("broken/Sound-v0", render_mode="rgb")
    with pytest.raises(InputError, match="expected render_mode='rgb_array'"):
        make("broken/Sound-v0").render()
    environment = make("broken/Draws-v0", render_mode="rgb_array")
    environment.reset(0)
    assert environment.render().shape == (4, 5, 3)
    for time, sentence in (
        (1, "drew no frame, expected an array"),
        (2, "cannot draw a frame .RuntimeError: no GL"),
    ):
        environment.gym.unwrapped.time = time
        with pytest.raises(EnvironmentFault, match=sentence) as caught:
            environment.render()
        one_sentence(caught)


def test_what_fails_at_the_end():
    with pytest.raises(EnvironmentFault, match="broken/Draws-v0 cannot be closed: OSError: stuck") as caught:
        make("broken/Draws-v0").close()
    one_sentence(caught)
