"""The pages of the studies: one template for all, and the figures of each in a module of its name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbpo.report.drawing import Picture


def pictures_of(result: Mapping[str, Any]) -> list[Picture]:
    """The figures of a study, from its JSON object alone."""
    name = "task_sweep" if "task" in result["settings"] else result["study"].replace("-", "_")
    module = importlib.import_module(f"mbpo.report.studies.{name}")
    return module.pictures(result)
