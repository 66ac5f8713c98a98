"""Twenty kills at random moments of one run, against the same run left alone: the metrics must be the same bytes.

    .venv/bin/python benchmarks/kills.py > benchmarks/kills.json

Both runs are InvertedPendulum-v5, with preset paper or, by `--preset fast > benchmarks/kills_fast.json`, fast. SIGKILL
comes after a time drawn uniformly up to the longest pause, which counts from the start of the process and, every second
time, from its first checkpoint: starting takes much of a process's time, and training is what could go wrong.
"""

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "runs" / "benchmarks"
TASK = ["train", "InvertedPendulum-v5", "--json"]


def command(preset: str, steps: int, folder: Path) -> list[str]:
    """The command, the same every time."""
    words = [*TASK, "--preset", preset, "--steps", str(steps), "--out", str(folder)]
    return [sys.executable, "-m", "mbpo", *words]


def digest(folder: Path) -> str:
    """SHA-256 of the metrics."""
    return hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest()


def checkpoints(folder: Path) -> list[tuple[str, int]]:
    """Names of the checkpoints, oldest first, and when they were written: inside a round the step stays the same."""
    found = []
    for each in folder.glob("checkpoints/step-*"):
        with contextlib.suppress(FileNotFoundError):
            found.append((each.name, each.stat().st_mtime_ns))
    return sorted(found)


def main() -> None:
    """Print one JSON object; leave with status 1 when the bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--longest", type=float, default=15.0, help="seconds before a kill, at most")
    args = parser.parse_args()
    alone, killed = (FOLDER / f"kills-{args.preset}-{name}-{args.steps}" for name in ("alone", "killed"))
    for folder in (alone, killed):
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(command(args.preset, args.steps, alone), stdout=subprocess.DEVNULL, check=True)
    generator, pauses = random.Random(0), []
    while len(pauses) < args.kills:
        child = subprocess.Popen(
            command(args.preset, args.steps, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before, pause = checkpoints(killed), generator.uniform(0.0, args.longest)
        began = time.monotonic()
        while child.poll() is None and len(pauses) % 2 and checkpoints(killed) == before:
            time.sleep(0.01)
        waited = time.monotonic() - began
        while child.poll() is None and time.monotonic() - began < waited + pause:
            time.sleep(0.01)
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kept = checkpoints(killed)
        pauses.append({"seconds": round(waited + pause, 2), "checkpoint": kept[-1][0] if kept else None})
        print(pauses[-1], file=sys.stderr)
    subprocess.run(command(args.preset, args.steps, killed), stdout=subprocess.DEVNULL, check=True)
    same = len(pauses) == args.kills and digest(alone) == digest(killed)
    print(
        json.dumps(
            {
                "preset": args.preset,
                "steps": args.steps,
                "kills": len(pauses),
                "identical": same,
                "sha256": digest(alone),
                "each": pauses,
            },
            indent=1,
        )
    )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
