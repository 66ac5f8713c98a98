"""The studies by name: what each asks, on which systems, and the module that answers it, imported when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from mbpo.errors import InputError, did_you_mean
from mbpo.studies.result import Progress, Request, StudyResult


class StudyModule(Protocol):
    """What the module of a study offers."""

    DEFAULT_SEEDS: int
    DEFAULT_TRANSITIONS: int

    def steps(self, systems: Sequence[Any], request: Request) -> int:
        """How often `run` calls `progress`."""
        ...

    def run(self, systems: Sequence[Any], request: Request, progress: Progress) -> StudyResult:
        """The study; raises `InputError` for what it cannot handle."""
        ...


@dataclass(frozen=True)
class NamedStudy:
    """An entry of the table.

    module: its name in `mbpo.studies`; kind: of its systems, `quadratic` (a name in the catalogue or a TOML file) or
    `hidden` (a name or file that `mbpo.lqr.hidden` knows); defaults: the systems when none are given, every one in
    the catalogue that can be learned where there are no defaults.
    """

    name: str
    summary: str
    module: str
    kind: Literal["quadratic", "hidden"]
    defaults: tuple[str, ...]


STUDIES = {
    each.name: each
    for each in (
        NamedStudy(
            "real-ratio",
            "how much of what an agent learns from should be real",
            "real_ratio",
            "quadratic",
            ("laplacian3",),
        ),
        NamedStudy(
            "rollout-length",
            "how long imagined rollouts should be",
            "rollout_length",
            "quadratic",
            ("laplacian3",),
        ),
        NamedStudy(
            "sample-efficiency",
            "how many real transitions each learner needs, beside the limit of sample efficiency",
            "sample_efficiency",
            "quadratic",
            (),
        ),
        NamedStudy(
            "bound",
            "how loose the published bounds on imagined returns are",
            "bound",
            "quadratic",
            ("laplacian3",),
        ),
        NamedStudy(
            "forgetting",
            "how much of the past a forecast of a hidden state needs",
            "forgetting",
            "hidden",
            ("kozdoba",),
        ),
    )
}


def named(name: str) -> NamedStudy:
    """The study of that name; raises `InputError` with the nearest name when there is none."""
    if name not in STUDIES:
        raise InputError(f"there is no study {name!r}, {did_you_mean(name, STUDIES)}")
    return STUDIES[name]


def load(study: NamedStudy) -> StudyModule:
    """The module that answers the study's question."""
    return cast(StudyModule, importlib.import_module(f"mbpo.studies.{study.module}"))


def systems_of(study: NamedStudy, given: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The systems that a user means, the study's own when none are given, and a note on each that is left out.

    Raises `InputError` for a system that is not found, not valid, or there twice.
    """
    words = list(given) or list(study.defaults)
    if not words:
        return _learnable()
    systems = [_resolved(study, word) for word in words]
    names = [system.name for system in systems]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"two systems are named {twice[0]!r}, expected each one once")
    return systems, []


def _resolved(study: NamedStudy, word: str) -> Any:
    if study.kind == "hidden":
        from mbpo.lqr.hidden import resolve_hidden

        return resolve_hidden(word)
    from mbpo.lqr import catalogue

    return catalogue.resolve(word)


def _learnable() -> tuple[list[Any], list[str]]:
    """What can be learned of the catalogue, and why the rest cannot."""
    from mbpo.lqr import catalogue
    from mbpo.lqr.train import learnable

    systems, notes = [], []
    for name in catalogue.names():
        system = catalogue.get(name)
        try:
            learnable(system)
        except InputError as error:
            notes.append(f"{name} is left out: {str(error).removeprefix(f'{name}: ')}.")
        else:
            systems.append(system)
    return systems, notes
