"""Studies are tested with the systems and independent formulas of the linear-quadratic tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "lqr"))
