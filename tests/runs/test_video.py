"""Films: every frame of the episode, written as it is drawn, and no file where drawing fails."""

from types import SimpleNamespace
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from mbpo.runs.video import film

LENGTH = 5


class Drawn:
    """An environment whose episode has `LENGTH` steps, one shade of grey each."""

    def __init__(self, draws: int = 100) -> None:
        self.gym = SimpleNamespace(metadata={"render_fps": 10})
        self.draws, self.count, self.closed = draws, 0, False

    def reset(self, seed):
        return np.zeros(1)

    def step(self, action):
        self.count += 1
        return SimpleNamespace(
            observation=np.zeros(1), reward=2.0, terminal=self.count == LENGTH, truncated=False
        )

    def render(self):
        if self.count >= self.draws:
            raise RuntimeError("no picture")
        return np.full((32, 32, 3), 40 * self.count, np.uint8)

    def close(self):
        self.closed = True


def policy_in(environment) -> Any:
    return SimpleNamespace(make=lambda mode: environment, act=lambda observation: np.zeros(1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the reader leaves pipes open
@pytest.mark.parametrize(("ending", "most", "steps"), [(".gif", 100, 5), (".mp4", 100, 5), (".gif", 3, 3)])
def test_a_film_has_a_frame_for_the_start_and_for_each_step(tmp_path, ending, most, steps):
    environment, target, told = Drawn(), tmp_path / f"film{ending}", []
    assert film(policy_in(environment), target, 0, most, lambda: told.append(1)) == (steps, 2.0 * steps)
    assert len(told) == steps
    assert environment.closed
    shades = [frame.mean() for frame in imageio.mimread(target)]
    np.testing.assert_allclose(shades, 40.0 * np.arange(steps + 1), atol=8)
    assert [each.name for each in tmp_path.iterdir()] == [target.name]


def test_where_drawing_fails_no_file_is_left(tmp_path):
    environment = Drawn(draws=2)
    with pytest.raises(RuntimeError, match="no picture"):
        film(policy_in(environment), tmp_path / "film.gif", 0, 100, lambda: None)
    assert environment.closed
    assert not list(tmp_path.iterdir())
