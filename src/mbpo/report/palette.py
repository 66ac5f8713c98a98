"""Names and colours of the algorithms, readable in light and dark and with colour-blind eyes."""

from __future__ import annotations

LABELS = {
    "mbpo": "MBPO",
    "mbpo-simple": "MBPO, simple",
    "dyna": "Dyna",
    "dpg": "DPG",
    "policy-gradient": "policy gradient",
    "certainty-equivalence": "certainty equivalence",
}
# (on white, on black); after Okabe and Ito, darkened or lightened until text in them can be read
COLOURS = {
    "mbpo": ("#0072b2", "#5cb8f0"),
    "mbpo-simple": ("#00855f", "#3fd0a2"),
    "dyna": ("#a6488a", "#e79fcd"),
    "dpg": ("#a87000", "#efb840"),
    "policy-gradient": ("#cc4e00", "#ff8f52"),
    "certainty-equivalence": ("#61676e", "#b3b9c0"),
}
OTHER = ("#6a4fc0", "#b09cf5")
PAPER = ("#ffffff", "#1a1f25")
INK = ("#1f2328", "#e9ecef")
MUTED = ("#5b626a", "#a8b0b8")
GRID = ("#e1e4e8", "#343b43")
SHADE = ("#f3f1ee", "#23282e")


def label(algorithm: str) -> str:
    """The algorithm's name in a sentence or beside a line."""
    return LABELS.get(algorithm, algorithm)


def colour(algorithm: str) -> str:
    """The algorithm's colour on white."""
    return COLOURS.get(algorithm, OTHER)[0]


def variables() -> dict[str, tuple[str, str, str]]:
    """CSS variable -> (colour on white, colour on black), keyed by the colour on white."""
    named = {
        "card": PAPER,
        "ink": INK,
        "muted": MUTED,
        "grid": GRID,
        "shade": SHADE,
        "other": OTHER,
        **COLOURS,
    }
    return {light: (f"--{name}", light, dark) for name, (light, dark) in named.items()}
