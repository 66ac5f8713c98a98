"""`mbpo train`: learn a gain on a linear-quadratic system, many seeds at once, or a policy on a control task."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from mbpo.cli.option_types import LARGEST_SEED
from mbpo.cli.output import print_json
from mbpo.cli.parser import Verbs, add_environment_options, add_json, add_verb
from mbpo.cli.train_gain import print_gain_result, train_or_read
from mbpo.cli.train_task import environment_options, folder_for, print_task_result, train_with_display
from mbpo.errors import InputError

if TYPE_CHECKING:
    from mbpo.lqr.system import LinearQuadratic
    from mbpo.lqr.train import Settings
    from mbpo.runs.task_request import TaskRequest

LINEAR_QUADRATIC = "mbpo/LinearQuadratic-v0"
ONLY_SYSTEMS = (
    "algorithm", "transitions", "seeds", "real_ratio", "real_ratio_last", "rollout_length", "imagined_exploration",
    "improve", "step", "learn_cost",
)  # fmt: skip
INSTEAD = {
    "transitions": "--steps",
    "seeds": "--seed, one run each",
    "real_ratio": "--set real_ratio=SHARE",
    "real_ratio_last": "--set real_ratio_last=SHARE",
    "rollout_length": "--set length_first=K and length_last=K",
}  # what says the same of a task
ONLY_TASKS = ("preset", "steps", "set", "env_option", "variant", "termination")


def add_train(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "train", "Learn on a linear-quadratic system or on a Gymnasium task.", run_train)
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a system listed by `mbpo systems`, the path of a TOML file, or the id of a Gymnasium task",
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed everything derives from (default 0)")
    parser.add_argument("--out", metavar="DIR", help="keep the run here (a task: runs/... by default)")
    add_json(parser)
    systems = parser.add_argument_group("a linear-quadratic system, linear policies, many seeds at once")
    systems.add_argument(
        "--algorithm",
        help="mbpo (default), mbpo-simple, dyna, policy-gradient, plain-reinforce, plain-gpomdp, "
        "certainty-equivalence, or a gradient estimator on real data alone, such as dpg or mis",
    )
    systems.add_argument("--transitions", type=int, help="real transitions a seed, warm-up included")
    systems.add_argument("--seeds", type=int, help="independent repetitions (default 16)")
    systems.add_argument("--real-ratio", type=float, help="expected share of real rows in a batch, 0 to 1")
    systems.add_argument(
        "--real-ratio-last",
        type=float,
        help="the same at the last transition, linear in between (default: constant)",
    )
    systems.add_argument("--rollout-length", type=int, help="steps of an imagined branch")
    systems.add_argument(
        "--imagined-exploration",
        type=float,
        help="standard deviation of exploration inside the model, relative to the world's (default 4, which makes the "
        "gradient of a batch less noisy and asks the model about states farther away; 1: equal exploration)",
    )
    systems.add_argument(
        "--step",
        type=float,
        help="constant step of plain-reinforce and plain-gpomdp, in units of 1 / the largest curvature (default 0.02)",
    )
    systems.add_argument(
        "--improve",
        help="gradient estimator to step along, such as dpg (default of mbpo), value-baseline or mis",
    )
    systems.add_argument(
        "--learn-cost", action="store_true", default=None, help="the model learns Q and R too, from rewards"
    )
    _add_task_options(parser)


def _add_task_options(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_argument_group("a Gymnasium task (or a system as one), networks, one seed")
    tasks.add_argument("--steps", type=int, help="real steps, warm-up included")
    tasks.add_argument("--preset", help="fast, paper, default, repaired or sac; see `mbpo presets`")
    tasks.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        help="change one setting of the preset; may be repeated",
    )
    add_environment_options(tasks)


def run_train(args: argparse.Namespace) -> None:
    """Train, print the result and keep the run in a folder."""
    system = None if _is_id(args.target) else _system(args.target)
    if system is None or _is_task(args):
        _reject(args, ONLY_SYSTEMS, f"{args.target} is trained as a Gymnasium task")
        request = _task_request(args)
        folder = folder_for(request) if args.out is None else args.out
        result = train_with_display(request, folder, ["mbpo", *sys.argv[1:]])
        print_json(result) if args.json else print_task_result(result, folder)
        return
    _reject(args, ONLY_TASKS, f"{args.target} is trained as a linear-quadratic system")
    from mbpo.core.threads import use_all_cores

    use_all_cores()
    settings = _gain_settings(args)
    result = train_or_read(system, settings, args.out)
    print_json(result) if args.json else print_gain_result(result, args.out)


def _is_task(args: argparse.Namespace) -> bool:
    """Whether task options ask to learn a system with networks."""
    return args.steps is not None or args.preset is not None


def _is_id(target: str) -> bool:
    return re.search(r"-v\d+$", target) is not None


def _system(target: str) -> LinearQuadratic:
    """The system that is meant; raises InputError for what is none, with the task that it may stand for."""
    from mbpo.lqr import catalogue

    try:
        return catalogue.resolve(target)
    except InputError:
        from mbpo.environments.making import newest_version

        task = newest_version(target)
        if task is None:
            raise
        raise InputError(f"there is no system {target!r}, did you mean the task {task!r}?") from None


def _reject(args: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            tail = f"use {INSTEAD[name]}" if name in INSTEAD else "see mbpo train --help"
            raise InputError(f"--{name.replace('_', '-')} does not apply here: {why}; {tail}")


def _task_request(args: argparse.Namespace) -> TaskRequest:
    from mbpo.presets import override, preferred, preset
    from mbpo.runs.task_request import TaskRequest

    if args.steps is None:
        raise InputError("--steps is required for a Gymnasium task: real steps, warm-up included")
    if not 0 <= args.seed <= LARGEST_SEED:
        raise InputError(f"--seed: expected a whole number from 0 to {LARGEST_SEED}, got {args.seed}")
    environment = args.target if _is_id(args.target) else LINEAR_QUADRATIC
    options = environment_options(environment, args.variant, args.env_option or [])
    if environment != args.target:
        if "system" in options:
            raise InputError(f"--env-option system: the system is {args.target} already")
        options = {"system": args.target, **options}
    name = preferred(environment) if args.preset is None else args.preset
    settings = override(preset(name, environment), args.set or [])
    return TaskRequest(environment, options, args.termination, name, settings, args.steps, args.seed)


def _gain_settings(args: argparse.Namespace) -> Settings:
    from mbpo.lqr.train import Settings

    if args.transitions is None:
        raise InputError("--transitions is required for a linear-quadratic system")
    given: dict[str, Any] = {
        "algorithm": args.algorithm or "mbpo",
        "transitions": args.transitions,
        "seeds": 16 if args.seeds is None else args.seeds,
        "seed": args.seed,
        "real_ratio": args.real_ratio,
        "real_ratio_last": args.real_ratio_last,
        "imagined_exploration": args.imagined_exploration,
        "step": args.step,
        "rollout_length": args.rollout_length,
        "improve": args.improve,
        "learn_cost": bool(args.learn_cost),
    }
    return Settings(**given)
