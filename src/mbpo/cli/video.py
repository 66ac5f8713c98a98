"""`mbpo video`: watch a trained policy."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mbpo.cli.option_types import LARGEST_SEED, whole
from mbpo.cli.output import progress_bar
from mbpo.cli.parser import Verbs, add_verb


def add_video(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "video", "Film one episode of a trained policy.", run_video)
    parser.add_argument("folder", metavar="RUN", help="the folder of a run on a control task")
    parser.add_argument("--out", metavar="FILE", help="an .mp4 or .gif file (default RUN/video.mp4)")
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=0, help="decides the start (default 0)"
    )
    parser.add_argument("--steps", type=whole(1, 10**6), default=1000, help="most steps (default 1000)")


def run_video(args: argparse.Namespace) -> None:
    """Write the film."""
    from mbpo.core.threads import prefer_threads

    prefer_threads("1")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    from mbpo.runs.trained import load
    from mbpo.runs.video import film

    target = Path(args.out) if args.out else Path(args.folder) / "video.mp4"
    with progress_bar("filming", args.steps) as advance:
        length, total = film(load(args.folder), target, args.seed, args.steps, lambda: advance(""))
    print(f"{target}: {length} steps, return {total:.1f}")
