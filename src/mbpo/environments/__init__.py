"""Doors to Gymnasium: any task as a world of the loop, and any linear-quadratic system as a task.

Importing this registers `mbpo/LinearQuadratic-v0`.
"""

import gymnasium

from mbpo.environments.faults import EnvironmentFault
from mbpo.environments.gymnasium_environment import GymnasiumEnvironment, make

__all__ = ["EnvironmentFault", "GymnasiumEnvironment", "make"]

LINEAR_QUADRATIC = "mbpo/LinearQuadratic-v0"

if LINEAR_QUADRATIC not in gymnasium.registry:
    gymnasium.register(
        id=LINEAR_QUADRATIC, entry_point="mbpo.environments.linear_quadratic:LinearQuadraticTask"
    )
