"""What the page says about the estimator, and the recipe: noise, clipping, the repairs together."""

from __future__ import annotations

from mbpo.report.diagnosis.section import Section, Table, median, percent, span, spread, within
from mbpo.studies.diagnosis.attribution import NAIVE, REPAIRS, STEPS
from mbpo.studies.diagnosis.diagnose import Diagnosis


def noise(found: Diagnosis) -> Section:
    """Defect 5."""
    by_name = {each.system: each for each in found.noises}
    rows = [
        (
            name, f"{each.deviation:g}", f"{each.half:.3f}", f"{each.infinite:.3f}", f"{each.needed:.2f}",
            percent(each.half / each.needed),
        )
        for name, each in ((each.system, each) for each in found.reaches)
    ]  # fmt: skip
    lap = by_name["laplacian3"].spread
    ends = {each: spread(found.curve("laplacian3", each).excess[:, -1]) for each in REPAIRS}
    names = list(REPAIRS)
    return Section(
        "noise",
        "Whole-trajectory ratio times whole-trajectory cost",
        f"One trajectory of 10 steps says the gradient with a noise of {lap['ratio × total cost'].value:.0f} times "
        f"its size; with cost-to-go and a value baseline {lap['cost-to-go − value'].value:.1f} times (laplacian3), "
        f"which is {(lap['ratio × total cost'].value / lap['cost-to-go − value'].value) ** 2:.0f} times fewer "
        "trajectories for the same precision.",
        "The sum of all costs of a trajectory multiplied the sum of all its scores and the product of all its "
        "ratios; the average went over everything stored.",
        "An action changes only later costs, and of those only what differs from the expected. Everything else is "
        "noise with mean zero. The ratio of T steps is a product of T factors; its second moment grows "
        "exponentially in the distance from the gain that acted and is infinite beyond a radius that follows from a "
        "Riccati recursion.",
        "∇J = E ρ Σ_t s_t Σ_u c_u = E ρ Σ_t s_t Σ_{u≥t} c_u = E ρ Σ_t s_t (Σ_{u≥t} c_u − V(x_t)),  s_t = "
        "S⁻¹(u_t − Kx_t)x_t'\n"
        "E_b ρ² = E_{2K−K_b} exp(Σ|S^−½ (K − K_b)x_t|²)",
        f"On laplacian3: ratio × total {within(lap['ratio × total cost'], 1)}, total {within(lap['total cost'], 1)}, "
        f"cost-to-go {within(lap['cost-to-go'], 1)}, minus value {within(lap['cost-to-go − value'], 1)}, exact "
        f"advantage {within(lap['advantage'], 1)}. Learning with the best of {len(STEPS)} constant steps each ends "
        f"at an excess of {ends[names[1]]} with ratios and total cost, {ends[names[2]]} on fresh data, "
        f"{ends[names[3]]} with cost-to-go and {ends[names[4]]} with a fitted value baseline.",
        "Causality and a baseline first; they cost nothing. Ratios only over a short window of recent gains, mixed "
        "as one (multiple importance sampling), or none: a critic fitted by LSTD-Q replays rows of any age.",
        table=Table(
            "How far back a gain may lie (20 steps, exact): its trajectories count half, or not at all",
            (
                "system",
                "σ of the actions",
                "half: E ρ² = 2 at",
                "infinite E ρ² at",
                "|K* − K₀|",
                "half / needed",
            ),
            rows,
        ),
    )


def clipping(found: Diagnosis) -> Section:
    """Defect 6."""
    first, second = found.clippings
    at = first.clips.index(1.0)
    rows = [
        (f"{c:g}", percent(each.share_clipped[i]), within(each.total[i]), within(each.baseline[i]))
        for each in (first,)
        for i, c in enumerate(each.clips)
    ]
    return Section(
        "clipping",
        "Clipping the ratios",
        f"With ratios clipped at 1 the mean gradient of the total cost is {within(first.total[at])} times as long as "
        f"it should be, measured along the true one, on {first.system} and {within(second.total[at])} times on "
        f"{second.system}. More data do not help.",
        "Large ratios were cut, to tame the noise of section 5.",
        "The score has mean zero under the ratio, not under the clipped ratio. What is left is multiplied by the "
        "mean cost, which is large and has nothing to do with the gradient. With a baseline the mean cost is gone, "
        "and clipping only shrinks the step.",
        "E min(ρ, c) s Σc  =  ∇J − E (ρ − c)₊ s Σc,        E (ρ − c)₊ s ≠ 0",
        f"{first.trajectories:,} trajectories of a gain with E ρ² = 2. With value baseline the component is "
        f"{within(first.baseline[at])} at c = 1 on {first.system}: too short, in the right direction.",
        "No clipping without a baseline. If ratios have to be bounded, bound them by the balance heuristic of "
        "multiple importance sampling, which keeps the mean.",
        table=Table(
            f"Mean along the exact gradient on {first.system}, 1 is right; ± 95 % interval",
            ("clipped at", "share clipped", "total cost", "cost-to-go − value"),
            rows,
        ),
    )


def recipe(found: Diagnosis) -> Section:
    """What works, and the evidence."""
    algorithms, systems = found.effort.algorithms, found.effort.systems
    learners = (*REPAIRS, *algorithms)
    rows = [(learner, *(_spread_lost(found, system, learner) for system in systems)) for learner in learners]
    first = found.curve(systems[0], NAIVE)
    used, runs = int(first.transitions[-1]), len(first.excess)
    best = algorithms[-1]
    ends = [median(found.curve(system, best).excess[:, -1]) for system in systems]
    starts = [median(found.curve(system, NAIVE).excess[:, -1]) for system in systems]
    ratios = [start / end for start, end in zip(starts, ends, strict=True)]
    return Section(
        "recipe",
        "The recipe that works",
        f"After {used:,} real transitions the last learner of the chain ends {span(ends, percent)} above the "
        f"optimum, the naive one {span(starts, percent)}: {span(ratios, lambda r: f'{r:,.0f}')} times as much.",
        "Each repair is added to those before it. All learners have the same first gain, exploration and number of "
        "real transitions.",
        "The order is that of need. Without the first repair there is no information, without the second the wrong "
        "target; the baseline makes the noise bearable; a decaying step averages what is left; replay and a model "
        "use old data.",
        "1  u ~ N(Kx, S): sample what is scored\n"
        "2  discrete Riccati equation, sign of u = +Kx; judge by J\n"
        "3  P*, a fitted value, a discount or the average cost: no wrong end\n"
        "4  cost-to-go minus value: causality and a baseline\n"
        "5  replay without ratios (DPG, LSTD-Q), or multiple importance sampling over a short window\n"
        "6  K ← K − a M⁻¹E with a = c/(c + t): curvature, and a step that decays\n"
        "7  no step out of the stabilising set: trust, and a guard by the model",
        f"Median of {runs} runs after {used:,} transitions, in the table and the figures. The constant steps of the "
        f"first five rows are the best of {len(STEPS)} for each system, chosen with knowledge of J; those below have "
        "no step to choose.",
        "`mbpo train SYSTEM --transitions N --algorithm mbpo`; without a model `--algorithm dpg`.",
        headings=("What was done", "Why in this order", "Measured", "To use it"),
        table=Table(
            f"Excess cost after {used:,} real transitions: median (10th to 90th percentile) of {runs} runs; lost: "
            "the last gain is unstable",
            ("learner, each with the repairs above it", *systems),
            rows,
        ),
    )


def _spread_lost(found: Diagnosis, system: str, learner: str) -> str:
    curve = found.curve(system, learner)
    lost = f", {curve.lost} lost" if curve.lost else ""
    return spread(curve.excess[:, -1]) + lost
