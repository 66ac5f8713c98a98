"""The bench on which every gradient estimator is held against the exact gradient."""

from mbpo.studies.gradients.bench import bench, check_episodes
from mbpo.studies.gradients.degradation import Sweep, degradation, points, ratio_path
from mbpo.studies.gradients.measured import Bench, Measured
from mbpo.studies.gradients.setting import BenchSetting, bench_setting

__all__ = [
    "Bench",
    "BenchSetting",
    "Measured",
    "Sweep",
    "bench",
    "bench_setting",
    "check_episodes",
    "degradation",
    "points",
    "ratio_path",
]
