"""Termination rules: whether nothing follows a transition, told from the transition alone.

A rule is `rule(observation [n], action [m] in [-1, 1], next_observation [n]) -> bool[]`, traceable by JAX. A learned
model ends its imagined rollouts by one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mbpo.environments.faults import reason
from mbpo.environments.making import imported
from mbpo.environments.task_rules import Never, built_in_rule
from mbpo.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from mbpo.environments.gymnasium_environment import GymnasiumEnvironment

Rule: TypeAlias = Callable[[Float[Array, "n"], Float[Array, "m"], Float[Array, "n"]], Bool[Array, ""]]
Learned: TypeAlias = Literal["learned"]
LEARNED: Final[Learned] = "learned"
NAMES = ("never", "learned")
WAYS = (
    "name a function as 'module:function' that tells from (observation, action, next_observation) whether the episode "
    "ends, say 'learned' to let the model learn it, or say 'never' if no episode terminates"
)


@dataclass(frozen=True)
class UsersRule:
    """A rule that the user wrote; its answer is made an array."""

    name: str
    function: Callable

    def __call__(
        self, observation: Float[Array, "n"], action: Float[Array, "m"], next_observation: Float[Array, "n"]
    ) -> Bool[Array, ""]:
        return jnp.asarray(self.function(observation, action, next_observation))


def may_terminate(gym: gymnasium.Env) -> bool:
    """False where it is known that no episode terminates, however it goes; True otherwise."""
    return not isinstance(built_in_rule(gym), Never)


def resolve(environment: GymnasiumEnvironment, name: str | None) -> Rule | Learned:
    """The termination rule meant by `name` in `environment`, or `LEARNED`.

    None is the built-in rule of the task, made from this instance's own thresholds; `"never"` ends no episode;
    `"learned"` leaves it to a head of the model; `"module:function"` is the user's own rule, tried out on shapes here.
    Raises `InputError` when there is no such rule, none is built in, or the function is not a rule.
    """
    if name is None:
        rule = built_in_rule(environment.gym)
        if rule is None:
            raise InputError(f"{environment.id} may terminate and training needs to know when: {WAYS}")
        return rule
    if name == "never":
        return Never()
    if name == LEARNED:
        return LEARNED
    if not isinstance(name, str) or ":" not in name:
        tail = did_you_mean(name, NAMES) if isinstance(name, str) else f"expected one of {', '.join(NAMES)}"
        raise InputError(
            f"there is no termination rule {name!r}, {tail} (a function is named 'module:function')"
        )
    return _users_rule(name, environment.observation_size, environment.action_size)


def agreement(
    rule: Rule,
    observations: np.ndarray,
    actions: np.ndarray,
    next_observations: np.ndarray,
    terminals: np.ndarray,
) -> tuple[int, int]:
    """On how many of N real transitions `rule` contradicts `terminals` `[N]`, and the first of them (-1 if none)."""
    if not callable(rule):
        raise InputError(f"only a rule can be compared with real transitions, got {rule!r}")
    batch = [jnp.asarray(each, jnp.float32) for each in (observations, actions, next_observations)]
    told = np.asarray(_over_rows(rule)(*batch))
    wrong = np.flatnonzero(told != np.asarray(terminals, bool))
    return len(wrong), int(wrong[0]) if len(wrong) else -1


@functools.lru_cache(maxsize=8)
def _over_rows(rule: Rule) -> Callable[..., Array]:
    """`rule` on a batch, compiled once for each batch size."""
    return jax.jit(jax.vmap(rule))


def _users_rule(name: str, observation_size: int, action_size: int) -> Rule:
    module, _, attribute = name.rpartition(":")
    if not module or not attribute.isidentifier():
        raise InputError(f"the termination rule {name!r} is not of the form 'module:function'")
    loaded = imported(module, f"the termination rule {name!r}")
    if not hasattr(loaded, attribute):
        functions = [each for each, value in vars(loaded).items() if callable(value) and each[0] != "_"]
        tail = did_you_mean(attribute, functions) if functions else "the module defines no function"
        raise InputError(f"the module {module!r} has no function {attribute!r}, {tail}")
    rule = getattr(loaded, attribute)
    _check_signature(name, rule)
    shapes = [
        jax.ShapeDtypeStruct((size,), jnp.float32)
        for size in (observation_size, action_size, observation_size)
    ]
    try:
        told = jax.eval_shape(rule, *shapes)
    except Exception as error:
        raise InputError(_untraceable(name, error)) from None
    if getattr(told, "shape", None) != () or getattr(told, "dtype", None) != jnp.bool_:
        raise InputError(f"the termination rule {name!r} returned {_described(told)}, expected one boolean")
    return UsersRule(name, rule)


def _check_signature(name: str, rule: Any) -> None:
    if not callable(rule):
        raise InputError(f"the termination rule {name!r} is a {type(rule).__name__}, expected a function")
    try:
        inspect.signature(rule).bind(0, 0, 0)
    except TypeError:
        raise InputError(
            f"the termination rule {name!r} must take (observation, action, next_observation), but its parameters are "
            f"{inspect.signature(rule)}"
        ) from None
    except ValueError:
        pass  # a built-in function without a signature: tracing tells


def _untraceable(name: str, error: Exception) -> str:
    if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
        return (
            f"the termination rule {name!r} cannot be traced by JAX, expected jax.numpy functions and no Python if, "
            "and, or, not or chained comparison on its arguments (write (a < x) & (x < b))"
        )
    return f"the termination rule {name!r} raised {reason(error)} on one transition"


def _described(told: Any) -> str:
    if hasattr(told, "shape") and hasattr(told, "dtype"):
        return f"an array of shape {list(told.shape)} and dtype {told.dtype}"
    return "None" if told is None else f"a {type(told).__name__}"
