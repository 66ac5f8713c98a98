"""The templates of the pages: strict about names, careful with text."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Templates beside this file; a name that is not given is an error, and text is escaped."""
    return Environment(
        loader=PackageLoader("mbpo.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
