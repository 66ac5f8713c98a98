"""Model-Based Policy Optimisation, where everything is known and where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbpo.runs.trained import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` on first use: importing the package alone imports neither JAX nor Gymnasium."""
    if name == "load":
        from mbpo.runs.trained import load

        return load
    raise AttributeError(f"module 'mbpo' has no attribute {name!r}")
