"""From an id and options to a Gymnasium environment, or one sentence saying why not."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator, registry

from mbpo.environments import mujoco_messages
from mbpo.environments.faults import EnvironmentFault, reason
from mbpo.errors import InputError, did_you_mean

RESERVED = ("id", "render_mode", "disable_env_checker", "vectorization_mode")
RENDER_MODES = ("rgb_array", "human")
# warnings about what is meant: an old version is a choice, and Box may round its bounds
HARMLESS = ("is out of date", "precision lowered by casting")


def made(environment_id: str, options: Mapping[str, Any], render_mode: str | None) -> gymnasium.Env:
    """The environment that `environment_id` (`Name-v0`, `namespace/Name-v0` or `module:Name-v0`) registers.

    Raises `InputError` for an unknown id, a package that is missing, or options it does not take.
    """
    name = registered_name(environment_id)
    settings = checked_options(environment_id, options)
    if render_mode not in (None, *RENDER_MODES):
        raise InputError(f"render_mode must be one of {', '.join(RENDER_MODES)} or None, got {render_mode!r}")
    if render_mode is not None:
        settings["render_mode"] = render_mode
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", f".*{message}")
        try:
            _creator(name)
            mujoco_messages.as_warnings()
            return gymnasium.make(name, disable_env_checker=True, **settings)
        except Exception as error:
            raise _refusal(environment_id, name, error) from None


def registered_name(environment_id: str) -> str:
    """The id without its `module:`, after importing that module; raises `InputError` when it is not registered."""
    if not isinstance(environment_id, str) or not environment_id.strip():
        raise InputError(f"the environment must be an id such as 'Hopper-v5', got {environment_id!r}")
    module, colon, name = environment_id.rpartition(":")
    if colon:
        imported(module, f"the environment {environment_id!r}")
    if name in registry and not _abandoned(name):
        return name
    newer = [each for each in registry if not _abandoned(each)]
    near = difflib.get_close_matches(name, newer, n=1, cutoff=0.6)
    tail = f"did you mean {near[0]!r}?" if near else "import what registers it by writing 'module:Name-v0'"
    raise InputError(f"there is no environment {name!r}, {tail}")


def newest_version(name: str) -> str | None:
    """The registered id of a task named without its version, in any case: `Hopper-v5` for `hopper`."""
    found = [
        (int(version), each)
        for each in registry
        for stem, dash, version in [each.rpartition("-v")]
        if dash and version.isdecimal() and stem.lower() == name.lower() and not _abandoned(each)
    ]
    return max(found)[1] if found else None


def checked_options(environment_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `options` with string keys, none of which are decided elsewhere."""
    if not isinstance(options, Mapping):
        raise InputError(f"the options of {environment_id} must be a mapping, got {type(options).__name__}")
    for key in options:
        if not isinstance(key, str):
            raise InputError(f"the options of {environment_id} must be named by strings, got {key!r}")
        if key in RESERVED:
            raise InputError(f"{key!r} is not an option of {environment_id}: it is decided elsewhere")
    limit = options.get("max_episode_steps", 1)
    if isinstance(limit, bool) or not isinstance(limit, int) or not (limit == -1 or limit >= 1):
        raise InputError(
            f"max_episode_steps of {environment_id} must be a whole number of at least 1, or -1 for no limit, got "
            f"{limit!r}"
        )
    return dict(options)


def imported(module: str, purpose: str) -> ModuleType:
    """The module of that name, looked for in the current folder too; raises `InputError` when it fails."""
    here, root = os.getcwd(), module.partition(".")[0]
    beside = root.isidentifier() and (Path(here, f"{root}.py").is_file() or Path(here, root).is_dir())
    if beside and here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{purpose} needs the module {error.name or module!r}, which is not installed nor in this folder"
        ) from None
    except Exception as error:
        raise InputError(
            f"{purpose} needs the module {module!r}, whose import fails with {reason(error)}"
        ) from None


def _refusal(environment_id: str, name: str, error: Exception) -> InputError:
    said = reason(error).partition(" was raised from the environment creator")[0]
    unknown = re.search(r"unexpected keyword argument '(\w+)'", said)
    missing = re.search(r"__init__\(\) missing .* required .*arguments?: (.*)", said)
    if isinstance(error, TypeError) and missing:
        return InputError(f"{environment_id} cannot be made without the option {missing[1]}")
    if isinstance(error, TypeError) and unknown:
        known = _parameters(name)
        tail = did_you_mean(unknown[1], known) if known else "it takes none"
        return InputError(f"{environment_id} has no option {unknown[1]!r}, {tail}")
    if isinstance(error, (ImportError, gymnasium.error.DependencyNotInstalled)):
        return InputError(f"{environment_id} cannot be made with the packages installed: {said}")
    if isinstance(error, InputError):
        return InputError(f"{environment_id}: {error}")
    return EnvironmentFault(f"{environment_id} cannot be made: {said}")


def _parameters(name: str) -> list[str]:
    """The options that the constructor names, those of its parents included where it hands them on."""
    creator = _creator(name)
    found = {"max_episode_steps"}
    for each in inspect.getmro(creator) if inspect.isclass(creator) else (creator,):
        function: Callable = each.__init__ if inspect.isclass(each) else each
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            break
        found |= {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            break
    return sorted(found - {"self", *RESERVED, "env", "model_path", "observation_space"})


def _creator(name: str) -> Any:
    entry = registry[name].entry_point
    return load_env_creator(entry) if isinstance(entry, str) else entry


def _abandoned(name: str) -> bool:
    """Whether the id is kept only to say that it is gone, such as Hopper-v2."""
    entry = registry[name].entry_point
    return callable(entry) and getattr(entry, "__name__", "").startswith("_raise")
