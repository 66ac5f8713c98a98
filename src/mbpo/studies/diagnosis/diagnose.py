"""All experiments of the diagnosis: parts that can run in any order and in separate processes, and their sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mbpo.lqr import catalogue
from mbpo.runs.plain import plain
from mbpo.studies.diagnosis import attribution, ending, identification, reach, reference, silence, variance
from mbpo.studies.diagnosis.attribution import COURSE, EVIDENCE_SYSTEMS, WORKING, Curve
from mbpo.studies.diagnosis.ending import Ending
from mbpo.studies.diagnosis.identification import CostRegression, Identification
from mbpo.studies.diagnosis.learner import Course
from mbpo.studies.diagnosis.reach import Reach
from mbpo.studies.diagnosis.reference import Landscape, References
from mbpo.studies.diagnosis.silence import Silence, Stampede
from mbpo.studies.diagnosis.variance import Clipping, Noise


@dataclass(frozen=True)
class Effort:
    """How much is computed: repetitions of each experiment, and how long the learners learn."""

    directions: int = 400
    scores: int = 200
    loops: int = 32
    episodes: int = 80
    fits: int = 20
    sizes: tuple[int, ...] = identification.SIZES
    regressions: int = 50
    batches: int = 20
    batch: int = 10_000
    horizons: tuple[int, ...] = ending.HORIZONS
    runs: int = attribution.REPETITIONS
    course: Course = COURSE
    systems: tuple[str, ...] = EVIDENCE_SYSTEMS
    algorithms: tuple[str, ...] = WORKING


@dataclass(frozen=True)
class Diagnosis:
    """The results of all experiments."""

    seed: int
    effort: Effort
    references: References
    silence: Silence
    stampede: Stampede
    stampede_sampled: Stampede
    identifications: tuple[Identification, ...]
    cost_regressions: tuple[CostRegression, ...]
    noises: tuple[Noise, ...]
    reaches: tuple[Reach, ...]
    clippings: tuple[Clipping, ...]
    endings: tuple[Ending, ...]
    landscapes: tuple[Landscape, ...]
    curves: tuple[Curve, ...]

    def to_json(self) -> dict[str, Any]:
        """Every number; a mean is a pair [mean, half-width of its 95 % interval], what is not finite is None."""
        return plain(asdict(self))

    def curve(self, system: str, learner: str) -> Curve:
        """The curve of a learner on a system."""
        return next(each for each in self.curves if (each.system, each.learner) == (system, learner))


def part_names(effort: Effort) -> tuple[str, ...]:
    """The parts, the longest first; `working:ALGORITHM:SYSTEM,SYSTEM` trains on systems of one size, which share a
    compilation."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name in effort.systems:
        system = catalogue.get(name)
        groups.setdefault((system.state_dim, system.action_dim), []).append(name)
    trainings = [
        f"working:{algorithm}:{','.join(group)}"
        for algorithm in reversed(effort.algorithms)
        for group in groups.values()
    ]
    return (
        *trainings, "identifications", "repairs", "endings", "noises", "landscapes", "stampede", "stampede_sampled",
        "cost_regressions", "references", "silence", "clippings", "reaches",
    )  # fmt: skip


def run_part(name: str, seed: int, effort: Effort) -> Any:
    """The result of one part."""
    if name.startswith("working:"):
        _, algorithm, systems = name.split(":")
        chosen = tuple(systems.split(","))
        return attribution.working(algorithm, chosen, seed, effort.runs, effort.course.transitions)
    return {
        "references": lambda: reference.reference_gains(),
        "landscapes": lambda: reference.landscapes(seed, effort.directions),
        "silence": lambda: silence.silent_score(seed, effort.scores),
        "stampede": lambda: silence.stampede(seed, effort.loops, effort.episodes),
        "stampede_sampled": lambda: silence.stampede(seed, effort.loops, effort.episodes, sampled=True),
        "identifications": lambda: identification.identifications(seed, effort.fits, effort.sizes),
        "cost_regressions": lambda: identification.cost_regressions(seed, effort.regressions),
        "noises": lambda: variance.gradient_noises(seed, effort.batches, effort.batch),
        "clippings": lambda: variance.clippings(seed, effort.batches, effort.batch),
        "reaches": lambda: reach.reaches(),
        "endings": lambda: ending.endings(effort.horizons),
        "repairs": lambda: attribution.repairs(seed, effort.systems, effort.runs, effort.course),
    }[name]()


def collect(seed: int, effort: Effort, parts: Mapping[str, Any]) -> Diagnosis:
    """The diagnosis from the results of all `part_names`."""
    named = {name: part for name, part in parts.items() if name != "repairs" and ":" not in name}
    trained = tuple(curve for name, part in sorted(parts.items()) if ":" in name for curve in part)
    return Diagnosis(seed, effort, curves=(*parts["repairs"], *trained), **named)


def diagnose(seed: int, effort: Effort | None = None) -> Diagnosis:
    """All experiments, one after the other; `effort` defaults to that of the page."""
    chosen = effort or Effort()
    return collect(seed, chosen, {name: run_part(name, seed, chosen) for name in part_names(chosen)})
