"""The command line: verbs only.

A verb is one file with `add_<verb>(verbs)`, which declares its options, and `run_<verb>(args)`, which imports
what it needs and does the work, so that `mbpo --help` imports neither JAX nor NumPy. Standard output carries
results, standard error everything else. Status 0: done; 2: bad input, one sentence; 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mbpo import __version__
from mbpo.cli.check_env import add_check_env
from mbpo.cli.compare import add_compare
from mbpo.cli.demo import add_demo
from mbpo.cli.diagnosis import add_diagnosis
from mbpo.cli.doctor import add_doctor
from mbpo.cli.evaluate import add_evaluate
from mbpo.cli.evaluate_gain import add_evaluate_gain
from mbpo.cli.finite_horizon import add_finite_horizon
from mbpo.cli.gradients import add_gradients
from mbpo.cli.parser import Parser, add_verbs, reject_unknown
from mbpo.cli.presets import add_presets
from mbpo.cli.report import add_report
from mbpo.cli.solve import add_solve
from mbpo.cli.study import add_study
from mbpo.cli.systems import add_systems
from mbpo.cli.train import add_train
from mbpo.cli.video import add_video
from mbpo.errors import InputError

VERBS = (
    add_solve,
    add_evaluate_gain,
    add_gradients,
    add_study,
    add_finite_horizon,
    add_diagnosis,
    add_train,
    add_compare,
    add_evaluate,
    add_report,
    add_video,
    add_presets,
    add_check_env,
    add_systems,
    add_demo,
    add_doctor,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `mbpo` with `arguments` (default: the process's own) and leave with its exit status."""
    sys.exit(execute(sys.argv[1:] if arguments is None else arguments))


def execute(arguments: Sequence[str]) -> int:
    """Run `mbpo` with `arguments` and return its exit status; `--help` and `--version` leave at once."""
    try:
        args, unknown = build_parser().parse_known_args(arguments)
        reject_unknown(args, unknown)
        _run(args)
        sys.stdout.flush()
    except InputError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mbpo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more to say
    return 0


def _run(args: argparse.Namespace) -> None:
    try:
        args.run(args)
    except InputError as error:
        raise InputError(f"{args.parser.prog}: {error}") from None


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(prog="mbpo", description="Model-Based Policy Optimisation, where everything is known.")
    parser.add_argument("--version", action="version", version=f"mbpo {__version__}")
    verbs = add_verbs(parser)
    for add_verb in VERBS:
        add_verb(verbs)
    return parser
