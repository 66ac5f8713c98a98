"""The page of the diagnosis, written whole or not at all: result.json, figures, diagnosis.html."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup, escape

from mbpo.errors import InputError
from mbpo.report import palette
from mbpo.report.diagnosis import estimator_figures as curves
from mbpo.report.diagnosis import estimator_text, setup_text
from mbpo.report.diagnosis import setup_figures as figures
from mbpo.report.diagnosis.section import Section
from mbpo.report.drawing import Picture
from mbpo.report.templates import environment
from mbpo.runs.folder import package_versions
from mbpo.studies.diagnosis.attribution import NAIVE, REPAIRS
from mbpo.studies.diagnosis.diagnose import Diagnosis

TITLE = "Why the Gaussian hack did not converge"
TEXTS = (
    setup_text.reference,
    setup_text.silence,
    setup_text.identification,
    setup_text.cost,
    estimator_text.noise,
    estimator_text.clipping,
    setup_text.ending,
    setup_text.landscape,
    estimator_text.recipe,
)
WHAT = (
    "A loop of model-based policy optimisation on a linear-quadratic system ran, and its gradient did not converge. "
    "Here the set-up is rebuilt, one defect at a time, on systems whose optimum, gradient and cost are known "
    "exactly; each section shows what its defect costs and what to do instead. The last one puts the repairs "
    "together."
)
CONVENTIONS = (
    "Conventions: x' = Ax + Bu + w with w ~ N(0, W), the policy is u = +Kx, costs x'Qx + u'Ru are minimised, and "
    "excess cost is J/J* − 1, exact. A gain that does not stabilise the system has infinite cost."
)


def sections(found: Diagnosis) -> list[Section]:
    """The text of every section with its pictures."""
    drawn = pictures(found)
    return [replace(section, pictures=drawn[section.name]) for section in (text(found) for text in TEXTS)]


def pictures(found: Diagnosis) -> dict[str, tuple[Picture, ...]]:
    """The pictures of each section."""
    algorithms, systems = found.effort.algorithms, found.effort.systems
    evidence = [
        curves.curve_figure(
            [found.curve(system, each) for each in (NAIVE, *algorithms)],
            f"evidence-{system}",
            f"Naive and repaired: {system.replace('_', ' ')}",
        )
        for system in systems
    ]
    credit = curves.curve_figure(
        [found.curve("laplacian3", each) for each in REPAIRS], "credit-curves", "The same, while learning"
    )
    chain = curves.attribution_figure(found.curves, systems, (*REPAIRS, *algorithms))
    return {
        "reference": (figures.reference_figure(found.references),),
        "silence": (figures.cosine_figure(found.silence), figures.stampede_figure(found.stampede)),
        "identification": (figures.identification_figure(*found.identifications[:2]),),
        "cost": (figures.cost_figure(found.cost_regressions[0]),),
        "noise": (curves.noise_figure(found.noises), credit),
        "clipping": (curves.clipping_figure(found.clippings),),
        "ending": (curves.ending_figure(found.endings),),
        "landscape": (figures.landscape_figure(found.landscapes),),
        "recipe": (chain, *evidence),
    }


def write_diagnosis(directory: str | os.PathLike[str], found: Diagnosis, command: Sequence[str]) -> Path:
    """Write `diagnosis.html`, `result.json` and `figures/*.svg` to `directory`; returns the page's path.

    `command` is the one that repeats everything. Raises `InputError` when the directory cannot be written.
    """
    folder, written = Path(directory), sections(found)
    files = {"result.json": json.dumps(found.to_json(), allow_nan=False) + "\n"}
    files |= {f"figures/{each.name}.svg": each.svg for section in written for each in section.pictures}
    files["diagnosis.html"] = render(written, command)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            _write(folder / name, text)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder / "diagnosis.html"


def render(written: Sequence[Section], command: Sequence[str]) -> str:
    """The page as HTML that loads nothing."""
    templates = environment()
    templates.filters["code"] = _code
    page = templates.get_template("diagnosis.html.j2").render(
        title=TITLE,
        opening=(WHAT, CONVENTIONS),
        sections=written,
        colours=list(palette.variables().values()),
        command=shlex.join(command),
        versions=package_versions(),
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _code(text: str) -> Markup:
    """The text with what stands between backticks set as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _write(path: Path, text: str) -> None:
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    hidden.write_bytes(text.encode())
    os.replace(hidden, path)
