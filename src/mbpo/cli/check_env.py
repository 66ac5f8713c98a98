"""`mbpo check-env`: what is wrong with an environment, and what to change."""

from __future__ import annotations

import argparse
import sys

from mbpo.cli.option_types import LARGEST_SEED, whole
from mbpo.cli.output import console, print_json, print_rows
from mbpo.cli.parser import Verbs, add_environment_options, add_json, add_verb
from mbpo.cli.train_task import environment_options


def add_check_env(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, "check-env", "What is wrong with a Gymnasium environment, and the cure.", run_check_env
    )
    parser.add_argument("environment", metavar="ENV_ID", help="such as Hopper-v5 or my_module:MyTask-v0")
    add_environment_options(parser)
    parser.add_argument("--steps", type=whole(1, 10**7), default=1000, help="random steps (default 1000)")
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, help="of the steps (default 0)")
    add_json(parser)


def run_check_env(args: argparse.Namespace) -> None:
    """Print every finding; leave with status 2 when the environment cannot be learned in."""
    from mbpo.environments.checking import check_environment

    options = environment_options(args.environment, args.variant, args.env_option or [])
    report = check_environment(args.environment, options, args.termination, args.steps, args.seed)
    if args.json:
        findings = [finding._asdict() for finding in report.findings]
        print_json({"environment": args.environment, "usable": report.usable, "findings": findings})
    else:
        rows = [(finding.severity, finding.what, finding.advice) for finding in report.findings]
        print_rows(console(), f"{args.environment}", ("", "found", "what to do"), rows)
    if not report.usable:
        sys.stdout.flush()
        sys.exit(2)
