"""A run on a control task that takes seconds: small networks, few branches, a scalar system."""

from mbpo.presets import override, preset
from mbpo.runs.task_request import TaskRequest

TINY = [
    "warmup_steps=20", "updates_per_step=2", "batch_size=16", "refit_every=10", "branches=20", "agent_hidden=8,8",
    "model_hidden=8,8", "networks=3", "elites=2", "model_epochs=3", "evaluate_every=10", "evaluation_episodes=2",
    "length_last=3", "length_start=20", "length_end=50",
    "diagnose=false",
]  # fmt: skip
LINEAR_QUADRATIC = "mbpo/LinearQuadratic-v0"


def request(*changes: str, steps: int = 50, seed: int = 0, environment: str = LINEAR_QUADRATIC, **more):
    """A request with the tiny settings and `changes`."""
    options = {"system": "scalar", "episode_length": 15} if environment == LINEAR_QUADRATIC else {}
    settings = override(preset(more.get("preset", "default"), environment), [*TINY, *changes])
    return TaskRequest(
        environment,
        more.get("options", options),
        more.get("termination"),
        more.get("preset", "default"),
        settings,
        steps,
        seed,
    )
