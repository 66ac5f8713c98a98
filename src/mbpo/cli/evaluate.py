"""`mbpo evaluate`: whole episodes of a trained policy."""

from __future__ import annotations

import argparse

from mbpo.cli.option_types import LARGEST_SEED, whole
from mbpo.cli.output import console, print_facts, print_json, progress_bar
from mbpo.cli.parser import Verbs, add_json, add_verb
from mbpo.cli.train_task import excess_text

MOST_EPISODES = 100_000


def add_evaluate(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "evaluate", "Episodes of a trained policy on its task.", run_evaluate)
    parser.add_argument("folder", metavar="RUN", help="the folder of a run on a control task")
    parser.add_argument("--episodes", type=whole(1, MOST_EPISODES), default=10, help="how many (default 10)")
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=1_000_000, help="decides the starts (default 1000000)"
    )
    parser.add_argument("--stochastic", action="store_true", help="draw actions instead of taking their mean")
    add_json(parser)


def run_evaluate(args: argparse.Namespace) -> None:
    """Print returns and lengths; on a linear-quadratic task also the exact excess cost."""
    from mbpo.core.threads import prefer_threads

    prefer_threads("1")
    import numpy as np

    from mbpo.environments.linear_quadratic import LinearQuadraticTask
    from mbpo.runs.evaluation import evaluate
    from mbpo.runs.exact_truth import exact_excess
    from mbpo.runs.trained import load

    trained = load(args.folder)
    environment = trained.make()
    policy = trained.policy(not args.stochastic, args.seed)
    with progress_bar("evaluating", args.episodes) as advance:
        found = evaluate(
            environment, policy, args.episodes, args.seed, lambda total: advance(f"return {total:.1f}")
        )
    returns, lengths = found.returns, found.lengths
    result = {
        "run": args.folder,
        "environment": trained.environment,
        "step": trained.step,
        "seed": args.seed,
        "deterministic": not args.stochastic,
        **found.to_json(),
        "standard_deviation": float(np.std(returns, ddof=1)) if len(returns) > 1 else None,
    }
    task = environment.gym.unwrapped
    if isinstance(task, LinearQuadraticTask):
        result["exact"] = exact_excess(task, trained.agent, trained.learned, args.seed)
    if args.json:
        print_json(result)
        return
    facts = [
        ("policy of step", str(trained.step)),
        ("mean return", f"{found.mean_return:.1f} over {args.episodes} episodes"),
        ("least to greatest", f"{min(returns):.1f} to {max(returns):.1f}"),
        ("mean length", f"{np.mean(lengths):.1f}"),
    ]
    if "exact" in result:
        facts.append(("excess cost J/J* - 1", excess_text(result["exact"])))
    print_facts(console(), f"{args.folder} on {trained.environment}", facts)
