"""What the page says about the set-up: reference, actions, model, cost, horizon, system."""

from __future__ import annotations

import numpy as np

from mbpo.core.quantiles import quantiles
from mbpo.report.diagnosis.section import MIDDLE, Section, Table, median, percent, spread, within
from mbpo.studies.diagnosis.diagnose import Diagnosis
from mbpo.studies.diagnosis.world import FAILED


def reference(found: Diagnosis) -> Section:
    """Defect 1."""
    failed, other = found.references.of(FAILED), found.references.of("double_integrator")
    rows = [
        (
            row.system, f"{row.optimal_cost:.5g}", *(f"{cost:.5g}" if np.isfinite(cost) else "unstable" for cost in
             row.costs.values()), "" if row.continuous_own is None else f"{row.continuous_own:.5g}",
        )
        for row in found.references.rows
    ]  # fmt: skip
    return Section(
        "reference",
        "The gain it was compared with is not optimal",
        f"The learner was judged by its distance from a gain that costs {failed.continuous_plus:.3g}, where the "
        f"optimum costs {failed.optimal_cost:.5g} and doing nothing {failed.zero:.5g}.",
        "K* was taken from a continuous-time Riccati solver, for u = −Kx. The system is discrete and the policy u = "
        "+Kx.",
        "Two equations and two signs were mixed. The gain of the left equation minimises the cost of dx/dt = Ax + "
        "Bu; x' = Ax + Bu has the right one. With python-control: lqr is the left, dlqr the right, both for u = −Kx.",
        "continuous:  A'X + XA − XBR⁻¹B'X + Q = 0,        K = R⁻¹B'X         (u = −Kx)\n"
        "discrete:    P = Q + A'PA − A'PB(R + B'PB)⁻¹B'PA,  K = −(R + B'PB)⁻¹B'PA  (u = +Kx)",
        f"On the system that failed the continuous gain, diag({failed.continuous_gain[0, 0]:.3f}, "
        f"{failed.continuous_gain[1, 1]:.3f}, {failed.continuous_gain[2, 2]:.3f}), costs "
        f"{failed.continuous_plus:.3f} as +K and {failed.continuous_minus:.3f} as −K; the true one is "
        f"diag({failed.optimal_gain[0, 0]:.5f}, {failed.optimal_gain[1, 1]:.5f}, {failed.optimal_gain[2, 2]:.5f}). "
        "On the four others neither sign stabilises. The formula is not to blame: given the continuous matrices of "
        f"the double integrator it costs {other.continuous_own:.4f} as −K, against J* = {other.optimal_cost:.4f}.",
        "Use `mbpo solve`, which certifies the gain of the discrete system with the sign of u = +Kx, and judge a "
        "gain by its exact cost, not by its distance from another gain.",
        table=Table(
            "What each gain costs",
            ("system", "J*", "K = 0", "continuous, +K", "continuous, −K", "discrete, wrong sign",
             "continuous, its own matrices, −K"),
            rows,
        ),
    )  # fmt: skip


def silence(found: Diagnosis) -> Section:
    """Defect 2."""
    silent, loop, sampled = found.silence, found.stampede, found.stampede_sampled
    moved = _plain(loop.moved[:, -1])
    cost = median(loop.cost[:, 0]), median(loop.cost[:, -1])
    return Section(
        "silence",
        "Actions executed exactly, scored as Gaussian",
        "On its own data the gradient is identically zero. On old data the step points away from the old gain "
        f"(cosine {within(silent.exact_means['with_old'], 4)}) and not downhill "
        f"({within(silent.exact_means['with_descent'])}).",
        "The actions were u = Kx, without noise; gradient and ratios were those of N(Kx, 0.1 I). Noise was added to "
        "the first gradients, which would else have been zero.",
        "The score is what was tried minus what was meant. Nothing was tried. On the data of an older gain the "
        "difference is that of the two gains, and the cost only sets the length of a step away from it. The ratio "
        "is at most 1 and vanishes with the square of the distance, so the gain jumps and then stands still.",
        "on its own data:  S⁻¹(u − Kx)x' = 0\n"
        "on data of K_b:   S⁻¹(K_b − K)xx',  ρ = exp(−½ Σ|S^−½ (K − K_b)x_t|²)\n"
        "step = −η g = η · mean of ρ (Σc) S⁻¹(K − K_b) Σ xx'",
        f"In {silent.repetitions} repetitions the largest entry of the gradient on the gain's own data is "
        f"{silent.exact['on_policy'].max():.1g} when executed exactly and "
        f"{within(silent.sampled_means['on_policy'], 0)} when sampled. In the whole loop ({loop.repetitions} runs of "
        f"{loop.episodes} episodes) the median distance from the start grows to {moved}, the median cost from "
        f"{cost[0]:.2f} J* to {cost[1]:.2f} J*, and {loop.overflowed} runs overflow; {percent(loop.jump)} of the way "
        f"after an episode's data is made by the first 10 of {loop.updates_each} updates. Sampling the actions is "
        f"needed but does not suffice: with all else as it was {sampled.overflowed} of {sampled.repetitions} runs "
        "overflow, because now the gradient has noise (sections 5 and 6) and the step does not shrink.",
        "Draw u from the distribution that the score belongs to. Or give up the score: the deterministic policy "
        "gradient needs exploration in the data, not in the policy.",
    )


def _plain(values: np.ndarray) -> str:
    low, middle, high = quantiles(values, MIDDLE)
    largest = f"{high:.1f}" if np.isfinite(high) else "overflow"
    return f"{middle:.1f} (10th to 90th percentile {low:.1f} to {largest})"


def identification(found: Diagnosis) -> Section:
    """Defect 3."""
    silent, explored, silent_other, explored_other = found.identifications
    rows = [
        (
            each.system, "none" if not each.exploration else f"σ = {each.exploration}",
            *(spread(values[:, -1]) for values in (each.A, each.B, each.closed_loop)),
            "infinite" if not np.isfinite(median(each.condition[:, -1])) else
            f"{median(each.condition[:, -1]):.1f}", spread(each.excess[:, -1]),
        )
        for each in found.identifications
    ]  # fmt: skip
    last = int(silent.sizes[-1])
    lost = int(np.sum(~np.isfinite(silent_other.excess)))
    return Section(
        "identification",
        "A and B cannot be told apart",
        f"From u = Kx exactly, {last:,} transitions leave A wrong by {percent(median(silent.A[:, -1]))} and B by "
        f"{percent(median(silent.B[:, -1]))}; only A + BK is learned.",
        "The model was fitted by least squares to states and actions of the policy u = Kx.",
        "u is a linear function of x, so the regressors z = [x; u] lie in an n-dimensional space and the normal "
        "equations have no unique solution. All (A + XK, B − X) fit equally well; a ridge picks one, more data do "
        "not. Such a model predicts this policy and is blind to any other, which is what improving it needs.",
        "x' = Ax + Bu + w = (A + BK)x + w,     rank Σ zz' = n < n + m",
        f"With exploration of σ = {explored.exploration} the errors of A and B fall to "
        f"{percent(median(explored.A[:, -1]))} and {percent(median(explored.B[:, -1]))} and go on falling like 1/√N. "
        f"What it costs shows where the gain matters: on {silent_other.system} the gain that is optimal for the "
        f"unexplored model is unstable in {lost} of {silent_other.excess.size} fits, for the explored one its excess "
        f"cost is {percent(median(explored_other.excess[:, -1]))} at the end.",
        "Explore. And look at the condition number of the regressors: `mbpo.lqr.model.least_squares` returns it, "
        "and `LinearModel.identified` says whether A and B are known.",
        table=Table(
            f"Errors after {last:,} transitions: median (10th to 90th percentile) of {silent.repetitions} repetitions",
            ("system", "exploration", "error of A", "of B", "of A + BK", "condition", "excess of the model's optimum"),
            rows,
        ),
    )  # fmt: skip


def cost(found: Diagnosis) -> Section:
    """Defect 4."""
    failed, other = found.cost_regressions
    n = len(failed.truth) // 2
    wrong = ", ".join(f"{value:.2f}" for value in quantiles(failed.wrong, (0.5,))[0][:n])
    truth = ", ".join(f"{value:g}" for value in failed.truth[:n])
    off = max(float(np.abs(each.right - each.truth).max()) for each in found.cost_regressions)
    return Section(
        "cost",
        "The cost regressed on the wrong state",
        f"The diagonal of Q came out as ({wrong}) where it is ({truth}); on the right state it is exact.",
        "The system charged the state after the step, x' Q x' + u'Ru; the regression explained it by the squares of "
        "the state before the step.",
        "The expected cost given [x; u] is another quadratic form, with the noise's tr(QW) as a constant that the "
        "regression had no place for; it spreads over the entries of Q, whatever their size.",
        "E[c | x, u] = (Ax + Bu)'Q(Ax + Bu) + tr(QW) + u'Ru",
        f"Median of {failed.repetitions} repetitions of {failed.rows:,} rows; from the state after the step the "
        f"largest error of any entry is {off:.0e}. The gain that is optimal for the recovered cost has an excess of "
        f"{spread(other.wrong_excess)} on {other.system}. On the system that failed it is "
        f"{percent(median(failed.wrong_excess))}, because there no gain matters (section 8), and in "
        f"{int(np.sum(~np.isfinite(failed.wrong_excess)))} of {failed.repetitions} repetitions an entry of R came "
        "out as 0.",
        "Regress the cost on the variables it is computed from. `mbpo train --learn-cost` does, and projects on Q ≥ "
        "0, R > 0; better still, tell the learner a cost that is known.",
    )


def ending(found: Diagnosis) -> Section:
    """Defect 7."""
    rows = [(each.system, *(percent(float(value)) for value in each.with_Q)) for each in found.endings]
    by_name = {each.system: each for each in found.endings}
    double, shortest = by_name["double_integrator"], int(found.endings[0].horizons[0])
    exactly = max(float(each.with_P.max()) for each in found.endings)
    return Section(
        "ending",
        "A short horizon that ends in the wrong cost",
        f"The best gain for {shortest} steps with terminal cost Q is {percent(float(double.with_Q[0]))} above the "
        "optimal average cost on the double integrator, and does not stabilise the pendulum.",
        "Trajectories of 10 steps were charged x'Qx + u'Ru to the end, and the result was compared with the Riccati "
        "gain.",
        "The end of a trajectory is not the end of the problem. What follows the last state is worth x'P*x, not "
        "x'Qx; a learner that finds the optimum of the short problem must miss that of the long one, the more so "
        "the slower the system.",
        "J_T(K) = E[Σ_{t<T} c_t + x_T'Q_T x_T];   argmin over one gain = K* for every T and start if Q_T = P*",
        "Minimised by BFGS with exact cost and gradient, beginning at the gain that learning starts from. First states "
        "are drawn from the stationary law of K*. With Q_T = P* the excess is at most "
        f"{exactly:.0e} at every T, on every system.",
        "Close a trajectory with a value: P* where it is known, a fitted V where it is not. Or minimise the average "
        "or a discounted cost.",
        table=Table(
            "Excess average cost of the best gain for T steps with terminal cost Q",
            ("system", *(f"T = {T}" for T in found.endings[0].horizons)),
            rows,
        ),
    )


def landscape(found: Diagnosis) -> Section:
    """Defect 8."""
    flat, other = found.landscapes
    at = int(np.argmin(np.abs(flat.distances - 0.1)))
    return Section(
        "landscape",
        "A system on which the gain does not matter",
        f"Doing nothing costs {100 * flat.zero:.4f} % more than the optimum. Even certainty equivalence, which "
        f"nothing beats in the long run, needs {_thousands(flat.transitions_to_beat_zero)} transitions to do better "
        "than K = 0.",
        "A and B were diagonal with entries of about 0.05. Convergence was judged by |K − K*|.",
        "A state forgets itself in one step whatever is done, so that J* is nearly tr(QW), a constant. What is left "
        "of J is quadratic with a Hessian of condition 100, because R has condition 100: distance does not rank "
        "gains.",
        "J(K) − J* = tr Σ_K (K − K*)'(R + B'P*B)(K − K*)",
        f"At a distance of {flat.distances[at]:.2g} the excess lies between {percent(float(flat.lowest[at]))} and "
        f"{percent(float(flat.highest[at]))}, depending on the direction: near the optimum the ends are the least and "
        f"the greatest eigenvalue of the Hessian, along its eigenvectors. Its condition is {flat.condition:.0f}, on "
        f"{other.system} {other.condition:.2f}. So |K − K*| can grow while J falls, and fall while J grows.",
        "Test on a system where the first gain is far from optimal and doing nothing is ruinous, and plot J/J* − 1.",
    )


def _thousands(value: float) -> str:
    return f"{round(value, -3):,.0f}"
