"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbpo.errors import InputError

_held: set[int] = set()


@contextmanager
def run_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold `folder` for this process, made if need be, until the block or the process ends, however it ends.

    The lock is the kernel's, on the file `.lock`, which stays; its content, the holder's number, is for people.
    Raises `InputError` when another process holds it, or this one already, or the folder cannot be written.
    """
    place = Path(folder) / ".lock"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InputError(f"{folder} cannot be locked: {error.strerror or error}") from None
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            number = f" (number {holder})" if holder.isdigit() else ""
            raise InputError(f"{folder} is in use by another process{number}, expected a free run") from None
        except OSError as error:
            raise InputError(f"{folder} cannot be locked: {error.strerror or error}") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        _release(handle)


def _release(handle: int) -> None:
    if handle in _held:
        _held.discard(handle)
        os.close(handle)


def _forget() -> None:
    """A forked child shares its parent's locks, and would hold them after the parent's death."""
    for handle in tuple(_held):
        _release(handle)


os.register_at_fork(after_in_child=_forget)
