"""Training on a control task, into a folder from which the same request goes on after any interruption."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mbpo.core.host_loop import HostRound, HostWorld, example_of, mbpo_on_host
from mbpo.core.loop import RunState, start_from
from mbpo.core.parts import FittedModel
from mbpo.core.plan import Replay
from mbpo.deep.diagnostics import diagnose
from mbpo.deep.ensemble import Ensemble
from mbpo.environments import GymnasiumEnvironment, make
from mbpo.environments.faults import EnvironmentFault
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.termination import agreement
from mbpo.errors import InputError
from mbpo.runs.checkpoint import flatten, read_checkpoint, write_checkpoint
from mbpo.runs.evaluation import evaluate
from mbpo.runs.events import EventsWriter
from mbpo.runs.exact_truth import ROWS, critic_error, exact_excess, one_step_error
from mbpo.runs.lock import run_lock
from mbpo.runs.metrics import MetricsFile
from mbpo.runs.task_folder import (
    check_free,
    note_resumption,
    open_folder,
    read_result,
    write_policy,
    write_result,
)
from mbpo.runs.task_parts import assemble
from mbpo.runs.task_request import TaskRequest
from mbpo.runs.task_state import packed, unpacked

LEAST_PAUSE = 3.0  # seconds from one checkpoint to the next
SHARE = 0.05  # of the time that checkpoints may take
WRONG = 0.05  # share of the endings on which a termination rule may be at odds with the task
MAY_BE_INFINITE = (".model.holdout_error", ".model.steps.before", ".model.steps.after")


class Progress(NamedTuple):
    """What a watcher is told before each stage that is not the same as the last, and after every piece of a round: real
    steps done and wanted, what the run is doing in words, at an evaluation the record just written, and agent updates
    done and wanted."""

    done: int
    total: int
    doing: str
    record: dict[str, Any] | None
    updates: int = 0
    all_updates: int = 0


@dataclass
class Tally:
    """Sums since the last record, and of the running episode; plain numbers, so that a checkpoint can hold them."""

    episode_return: float = 0.0
    finished_returns: tuple[float, ...] = ()
    episodes: int = 0
    ratio_sum: float = 0.0
    rounds: int = 0

    def count(self, done: HostRound) -> None:
        """Take one round in."""
        rows = done.transitions
        if rows is not None:
            for reward, over in zip(rows.reward, rows.terminal | rows.truncated, strict=True):
                self.episode_return += float(reward)
                if over:
                    self.finished_returns = (*self.finished_returns, self.episode_return)
                    self.episode_return, self.episodes = 0.0, self.episodes + 1
        if done.realised_ratio is not None:
            self.ratio_sum += float(done.realised_ratio)
            self.rounds += 1

    def clear(self) -> None:
        """Begin anew after a record."""
        self.finished_returns, self.ratio_sum, self.rounds = (), 0.0, 0


def train_task(
    request: TaskRequest, folder: Path, watch: Callable[[Progress], None], command: list[str]
) -> dict[str, Any]:
    """The result of `request`, trained in `folder` from where it stands; a run that is complete is only read.

    Raises InputError when the task cannot be trained on, when `folder` holds anything else, and when training has to
    stop; the last good checkpoint then stays.
    """
    run = _Run(request, folder, watch)  # refuses what cannot be trained before anything is written
    check_free(folder, request)
    with run_lock(folder):
        sizes = {"observation": run.environment.observation_size, "action": run.environment.action_size}
        open_folder(folder, request, command, sizes)
        found = read_result(folder)
        return run.finish() if found is None else found


def logged(info: Any) -> dict[str, float]:
    """The numbers of what an agent's update says, by name; `info` is a named tuple, a mapping, or nothing."""
    named = info._asdict() if hasattr(info, "_asdict") else info if isinstance(info, Mapping) else {}
    return {name: float(value) for name, value in named.items() if np.ndim(value) == 0}


class _Run:
    """A run in progress."""

    def __init__(self, request: TaskRequest, folder: Path, watch: Callable[[Progress], None]) -> None:
        self.request, self.folder, self.watch = request, folder, watch
        self.environment = self._make()
        self.judge = self._make()
        self.judge.reset(0)
        self.parts, self.plan = assemble(request.settings, self.environment, request.steps)
        self.mean_action = jax.jit(self.parts.agent.mean_action)
        self.doing = "starting"
        self.tally = Tally()
        self.seconds: dict[str, float] = {}
        self.core_seconds, self._processed = 0.0, time.process_time()
        self.state: RunState
        self._last_write, self._pause = time.monotonic(), LEAST_PAUSE
        self.checkpointed: int | None = None

    def _make(self) -> GymnasiumEnvironment:
        return make(self.request.environment, self.request.options, self.request.termination)

    def _open(self) -> None:
        """From the newest checkpoint, or from the start."""
        key = jax.random.key(self.request.seed)
        checkpoint = read_checkpoint(self.folder)

        def start() -> RunState:
            return start_from(self.parts, self.plan, None, example_of(self.environment), key)

        episode, position, timings, step = None, 0, 0, None
        if checkpoint is not None:
            facts, step = checkpoint.facts, checkpoint.step
            position, timings = facts["metrics_bytes"], facts["timings_bytes"]
            tally = facts["tally"]
            self.tally = Tally(**{**tally, "finished_returns": tuple(tally["finished_returns"])})
            self.seconds, self.core_seconds = facts["seconds"], facts.get("core_seconds", 0.0)
            self.state, episode = unpacked(jax.eval_shape(start), dict(checkpoint.arrays), facts["episode"])
            note_resumption(self.folder, step)
        else:
            self.state = start()
        self.world = HostWorld(self.environment, self.request.seed, episode)
        self.metrics = MetricsFile.resume(self.folder / "metrics.jsonl", position)
        self.timings = MetricsFile.resume(self.folder / "timings.jsonl", timings)
        self.events = EventsWriter(self.folder / "events", 0 if step is None else step + 1)
        self.checkpointed = step

    def finish(self) -> dict[str, Any]:
        """Train to the end; returns the result."""
        self._open()
        try:
            for done in self._rounds():
                self._after(done)
        except EnvironmentFault as error:
            raise InputError(f"{error}; {self._stopped()}") from None
        finally:
            self.metrics.close()
            self.timings.close()
            self.events.close()
        write_policy(self.folder, flatten(self.parts.agent.policy(self.state.policy)))
        return write_result(self.folder, self.request)

    def _rounds(self) -> Iterator[HostRound]:
        key = jax.random.key(self.request.seed)
        return mbpo_on_host(self.parts, self.plan, self.world, key, self.state, self._announce)

    def _tell(self, record: dict[str, Any] | None) -> None:
        clock = self.state.clock
        wanted = self.request.steps, self.plan.updates_after(self.plan.rounds)
        done = int(clock.env_steps), int(clock.updates)
        self.watch(Progress(done[0], wanted[0], self.doing, record, done[1], wanted[1]))

    def _announce(self, doing: str) -> None:
        """Tell the watcher what comes next, where that is something new."""
        if doing != self.doing:
            self.doing = doing
            self._tell(None)

    def _after(self, done: HostRound) -> None:
        """Check, count, record, report and checkpoint one round."""
        self.state = done.state
        step, settings = int(done.state.clock.env_steps), self.request.settings
        self._check_finite(step, done)
        self.tally.count(done)
        for stage, seconds in done.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if done.transitions is not None and step == self.plan.warmup_steps:
            self._check_rule(step)
        last = done.complete and step == self.request.steps
        passed = (
            step // settings.evaluate_every > (step - settings.steps_per_round) // settings.evaluate_every
        )
        record = self._record(done) if done.complete and (passed or last) else None
        self._tell(record)
        if last or time.monotonic() - self._last_write >= self._pause:
            self._checkpoint(step)

    def _check_finite(self, step: int, done: HostRound) -> None:
        if done.update is None:
            return
        cure = f"expected a finite number: lower agent_learning_rate or reward_scale; {self._stopped()}"
        for name, value in logged(done.update).items():
            if not np.isfinite(value):
                raise InputError(f"{name.replace('_', ' ')} is {value} after step {step}, {cure}")
        error = getattr(done.state.model, "holdout_error", None)
        if error is not None and not np.isfinite(error).all():
            raise InputError(
                f"the model cannot be fitted at step {step}: its error is not finite, expected smaller numbers in "
                f"observations and rewards; {self._stopped()}"
            )

    def _stopped(self) -> str:
        if self.checkpointed is None:
            return "the run stopped before its first checkpoint"
        return f"the run stopped, its checkpoint of step {self.checkpointed} is kept"

    def _check_rule(self, newest: int) -> None:
        """The rule by which the model ends episodes must agree with what the task did in the newest real steps."""
        rule: Any = getattr(self.parts.model, "termination", None)
        if rule is None:
            return
        end = int(self.state.real.size)
        rows = jax.tree.map(lambda leaf: np.asarray(leaf[end - newest : end]), self.state.real.data)
        wrong, first = agreement(rule, rows.observation, rows.action, rows.next_observation, rows.terminal)
        endings = max(int(rows.terminal.sum()), wrong)
        if wrong > 1 + WRONG * endings:
            raise InputError(
                f"the termination rule is at odds with {self.request.environment} on {wrong} of {newest} real "
                f"transitions (first: step {end - newest + first + 1}), expected agreement; give the right rule with "
                f"--termination; {self._stopped()}"
            )

    def _record(self, done: HostRound) -> dict[str, Any]:
        """Evaluate, and write what is worth knowing."""
        settings, state = self.request.settings, done.state
        self._check_rule(min(settings.evaluate_every, int(state.real.size)))
        began = time.perf_counter()
        found = evaluate(self.judge, self._mean_policy(), settings.evaluation_episodes, self.request.seed)
        self.seconds["evaluate"] = time.perf_counter() - began
        tally, batches = self.tally, self.plan.batches
        assert isinstance(batches, Replay)
        record: dict[str, Any] = {
            "env_steps": int(state.clock.env_steps),
            "updates": int(state.clock.updates),
            **found.to_json(),
            "training_returns": list(tally.finished_returns),
            "episodes": tally.episodes,
            "realised_ratio": tally.ratio_sum / max(tally.rounds, 1),
            "agent": logged(done.update),
        }
        if batches.branches is not None:
            record["rollout_length"] = int(batches.branches.length(state.clock.env_steps))
            record["imagined"] = int(state.imagined.size)
        if hasattr(state.model, "holdout_error"):
            record["model"] = {
                "holdout_error": [float(each) for each in state.model.holdout_error],
                "elites": [int(each) for each in state.model.elites],
                "epochs": int(state.model.epochs),
            }
            steps = state.model.steps
            if steps is not None:
                record["model"]["holdout_loss_before"] = [float(each) for each in steps.before]
                record["model"]["holdout_loss"] = [float(each) for each in steps.after]
        if settings.diagnose:
            began = time.perf_counter()
            record["diagnostics"] = self._diagnostics(record["env_steps"])
            self.seconds["diagnose"] = time.perf_counter() - began
        task = self.judge.gym.unwrapped
        if isinstance(task, LinearQuadraticTask):
            record["exact"] = self._exact(task)
        self.metrics.append(record)
        self._count_core_seconds()
        timing = {
            "env_steps": record["env_steps"],
            "seconds": self.seconds,
            "core_seconds": self.core_seconds,
        }
        self.timings.append(timing)
        self.events.write(record["env_steps"], {**record, "seconds": self.seconds})
        self.seconds, self.core_seconds = {}, 0.0
        tally.clear()
        return record

    def _count_core_seconds(self) -> None:
        """Add what all cores of this process have worked since it was last asked."""
        now = time.process_time()
        self.core_seconds += now - self._processed
        self._processed = now

    def _diagnostics(self, step: int) -> dict[str, Any]:
        """What only the simulator can tell, from episodes that the step and the seed decide."""
        state, agent = self.state, self.parts.agent
        model = None if self.parts.model is None else FittedModel(self.parts.model, state.model)
        imagined = None if model is None else state.imagined
        seed = int(np.random.SeedSequence([self.request.seed, step]).generate_state(1)[0] >> 1)
        return diagnose(self.judge, model, agent, state.policy, imagined, seed)

    def _exact(self, task: LinearQuadraticTask) -> dict[str, Any]:
        """The policy against the optimum; critic and ensemble against the truth on the newest real rows."""
        state = self.state
        agent = self.parts.agent
        found = exact_excess(task, agent, agent.policy(state.policy), self.request.seed)
        size = int(state.real.size)
        newest = slice(size - min(ROWS, self.request.settings.warmup_steps), size)  # always as many
        rows, actions = (np.asarray(each[newest]) for each in state.real.data[:2])
        found["critic_error"] = critic_error(task, agent, state.policy, rows, actions)
        if isinstance(self.parts.model, Ensemble):
            found["one_step_error"] = one_step_error(task, self.parts.model, state.model, rows, actions)
        return found

    def _mean_policy(self) -> Callable[[np.ndarray], np.ndarray]:
        policy = self.parts.agent.policy(self.state.policy)
        on_host = self.parts.agent.on_host(policy)
        if on_host is not None:
            return lambda observation: on_host(observation, None)
        return lambda observation: np.asarray(self.mean_action(policy, observation[None]))[0]

    def _checkpoint(self, step: int) -> None:
        began = time.monotonic()
        self._count_core_seconds()
        facts = {
            "core_seconds": self.core_seconds,
            "metrics_bytes": self.metrics.sync(),
            "timings_bytes": self.timings.sync(),
            "episode": self.world.episode.number,
            "seconds": self.seconds,
            "tally": {
                **dataclasses.asdict(self.tally),
                "finished_returns": list(self.tally.finished_returns),
            },
        }
        arrays = packed(self.state, self.world.episode)
        try:
            write_checkpoint(self.folder, step, arrays, facts, allow_nonfinite=MAY_BE_INFINITE)
        except ValueError as error:
            raise InputError(f"{error}; {self._stopped()}") from None
        self.checkpointed = step
        self._last_write = time.monotonic()
        self._pause = max(LEAST_PAUSE, (self._last_write - began) / SHARE)
