import os
import subprocess
import sys

import pytest

from mbpo.errors import InputError
from mbpo.runs.lock import run_lock

HOLDER = """
import os, sys, time
from mbpo.runs.lock import run_lock
def say(word):
    os.write(1, f"{word}\\n".encode())  # in one piece: parent and child write to the same pipe
with run_lock(sys.argv[1]):
    if "fork" in sys.argv:
        child = os.fork()
        if not child:
            say(os.getpid())
            time.sleep(60)
    if "spawn" in sys.argv:
        import subprocess
        say(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid)
    say("held")
    time.sleep(60)
"""


def hold(folder, *options):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), *options], stdout=subprocess.PIPE, text=True
    )


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    child = hold(tmp_path)
    try:
        assert child.stdout.readline() == "held\n"
        expected = rf"{tmp_path} is in use by another process \(number {child.pid}\), expected a free run"
        for _ in range(2):
            with pytest.raises(InputError, match=expected), run_lock(tmp_path):
                pass
    finally:
        child.kill()
        child.communicate()
    with run_lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("option", ["fork", "spawn"])
def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(tmp_path, option):
    holder = hold(tmp_path, option)
    lines = {holder.stdout.readline().strip(), holder.stdout.readline().strip()}
    orphan = int((lines - {"held"}).pop())
    try:
        with pytest.raises(InputError, match="in use"), run_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        os.kill(orphan, 0)  # it lives
        with run_lock(tmp_path):
            pass
    finally:
        os.kill(orphan, 9)
        holder.stdout.close()
        holder.kill()
        holder.wait()


def test_the_same_process_holds_it_once_and_again_when_released(tmp_path):
    folder = tmp_path / "new/run"
    with run_lock(folder):
        with pytest.raises(InputError, match="in use"), run_lock(folder):
            pass
        with run_lock(tmp_path / "other"):
            pass
        with pytest.raises(InputError, match="in use"), run_lock(folder):
            pass
    with pytest.raises(KeyError), run_lock(folder):
        raise KeyError
    with run_lock(folder):
        pass


def test_a_place_that_cannot_be_locked_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be locked: File exists"), run_lock(tmp_path / "file"):
        pass
    (tmp_path / "run/.lock").mkdir(parents=True)
    with pytest.raises(InputError, match="run cannot be locked: Is a directory"), run_lock(tmp_path / "run"):
        pass
