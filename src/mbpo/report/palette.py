"""Names, colours and line styles of the algorithms, readable in light and dark and with colour-blind eyes.

A family shares a hue: likelihood ratios on the policy's own trajectories are orange, importance sampling violet,
deterministic gradients amber, gradients through a model green, cost differences pink, what is told everything grey.
An algorithm with another estimator in it is named `algorithm:estimator` and looks like that estimator.
"""

from __future__ import annotations

LABELS = {
    "mbpo": "MBPO",
    "mbpo-simple": "MBPO, simple",
    "dyna": "Dyna",
    "policy-gradient": "policy gradient",
    "certainty-equivalence": "certainty equivalence",
    "plain-reinforce": "plain REINFORCE",
    "plain-gpomdp": "plain GPOMDP",
    "reinforce": "REINFORCE",
    "gpomdp": "GPOMDP",
    "time-baseline": "time baseline",
    "value-baseline": "value baseline",
    "exact-advantage": "exact advantage",
    "expected": "expected gradient",
    "dpg": "DPG",
    "off-pac": "Off-PAC",
    "importance-sampling": "importance sampling",
    "per-decision": "per-decision ratios",
    "self-normalised": "self-normalised",
    "truncated": "truncated ratios",
    "mis": "MIS",
    "marginalised": "marginalised ratios",
    "pathwise-true": "pathwise (true)",
    "pathwise": "pathwise (fitted)",
    "zeroth-order-1": "zeroth order (1)",
    "zeroth-order-2": "zeroth order (2)",
    "zeroth-order-2-common": "zeroth order (twins)",
    "known": "known parameters",
}
# (on white, on black); after Okabe and Ito, darkened or lightened until text in them can be read
COLOURS = {
    "mbpo": ("#0072b2", "#5cb8f0"),
    "mbpo-simple": ("#00855f", "#3fd0a2"),
    "dyna": ("#a6488a", "#e79fcd"),
    "dpg": ("#a87000", "#efb840"),
    "policy-gradient": ("#cc4e00", "#ff8f52"),
    "certainty-equivalence": ("#61676e", "#b3b9c0"),
    "plain-reinforce": ("#8a1c1c", "#ffb0ab"),
    "plain-gpomdp": ("#a52a2a", "#ff9d96"),
    "reinforce": ("#7a2b00", "#ffc6a6"),
    "gpomdp": ("#963600", "#ffb38a"),
    "time-baseline": ("#b04200", "#ffa06c"),
    "value-baseline": ("#c64c00", "#ff9157"),
    "exact-advantage": ("#c9402b", "#ff8a70"),
    "expected": ("#755000", "#ffd885"),
    "off-pac": ("#855ad0", "#b79bff"),
    "importance-sampling": ("#34228a", "#d6ceff"),
    "per-decision": ("#4632a4", "#c9bdff"),
    "self-normalised": ("#5845bf", "#bcafff"),
    "truncated": ("#6d5bd6", "#ac9dff"),
    "mis": ("#7a3fc4", "#cda6ff"),
    "marginalised": ("#5b2a9d", "#dcc0ff"),
    "pathwise-true": ("#0a5c44", "#8fe6c8"),
    "pathwise": ("#1d7f63", "#5fd8b4"),
    "zeroth-order-1": ("#7d2a63", "#f3bfe0"),
    "zeroth-order-2": ("#97397a", "#ecabd6"),
    "zeroth-order-2-common": ("#b34a93", "#e594c8"),
    "known": ("#3c434b", "#d2d8de"),
}
SOLID, DASHED, DOTTED, MIXED = (
    "solid",
    (0, (5.0, 1.6)),
    (0, (1.4, 1.2)),
    (0, (5.0, 1.4, 1.4, 1.4)),
)
Dash = str | tuple[float, tuple[float, ...]]
DASHES: dict[str, Dash] = {
    "plain-reinforce": DOTTED,
    "plain-gpomdp": MIXED,
    "reinforce": DOTTED,
    "gpomdp": MIXED,
    "time-baseline": DASHED,
    "exact-advantage": DOTTED,
    "expected": DASHED,
    "off-pac": MIXED,
    "importance-sampling": DOTTED,
    "per-decision": DASHED,
    "self-normalised": MIXED,
    "truncated": DOTTED,
    "marginalised": DASHED,
    "pathwise-true": DASHED,
    "zeroth-order-1": DOTTED,
    "zeroth-order-2": DASHED,
    "known": DASHED,
}
INSIDE: Dash = (0, (9.0, 1.4))  # an estimator inside another algorithm
MARKS = {
    "s": ("off-pac", "importance-sampling", "per-decision", "self-normalised", "truncated", "mis", "marginalised"),
    "D": ("expected", "dpg"),
    "^": ("pathwise-true", "pathwise"),
    "v": ("zeroth-order-1", "zeroth-order-2", "zeroth-order-2-common"),
}  # fmt: skip
OTHER = ("#6a4fc0", "#b09cf5")
PAPER = ("#ffffff", "#1a1f25")
INK = ("#1f2328", "#e9ecef")
MUTED = ("#5b626a", "#a8b0b8")
GRID = ("#e1e4e8", "#343b43")
SHADE = ("#f3f1ee", "#23282e")


def label(algorithm: str) -> str:
    """The algorithm's name in a sentence or beside a line; "mbpo:mis" is "MBPO, mis"."""
    outer, _, inner = algorithm.partition(":")
    name = LABELS.get(outer, outer)
    return f"{name}, {inner}" if inner else name


def colour(algorithm: str) -> str:
    """The algorithm's colour on white."""
    return COLOURS.get(_looks_like(algorithm), OTHER)[0]


def dash(algorithm: str) -> Dash:
    """The algorithm's line style, where lines need telling apart by more than colour."""
    return INSIDE if ":" in algorithm else DASHES.get(algorithm, SOLID)


def mark(algorithm: str) -> str:
    """The marker of the algorithm's family."""
    return next((each for each, names in MARKS.items() if _looks_like(algorithm) in names), "o")


def variable(algorithm: str) -> str:
    """The CSS variable that holds the algorithm's colour."""
    name = _looks_like(algorithm)
    return f"--{name if name in COLOURS else 'other'}"


def _looks_like(algorithm: str) -> str:
    return algorithm.rpartition(":")[2]


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
