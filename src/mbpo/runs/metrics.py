"""Metrics as JSON Lines that a resumed run continues byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mbpo.errors import InputError
from mbpo.runs.plain import plain


class MetricsFile:
    """An append-only file with one JSON object a line; NaN and infinities become null.

    A checkpoint's facts take `sync()`, and `MetricsFile.resume` continues from there.
    """

    def __init__(self, path: str | os.PathLike[str], position: int = 0) -> None:
        """Open `path`, which holds exactly `position` bytes; raises `InputError` when it does not."""
        self.path, self.position = Path(path), position
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (held until close)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
        if (size := os.fstat(self._file.fileno()).st_size) != position:
            self._file.close()
            raise InputError(f"{path} already holds {size} bytes of metrics, expected {position}")

    @classmethod
    def resume(cls, path: str | os.PathLike[str], position: int) -> MetricsFile:
        """Cut `path` to its first `position` bytes and open it.

        Raises `InputError` when the file is shorter or `position` is not at the end of a line.
        """
        try:
            if position or Path(path).exists():
                _cut(Path(path), position)
        except OSError as error:
            raise InputError(f"{path} cannot be continued: {error.strerror or error}") from None
        return cls(path, position)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line, handed to the operating system before this returns."""
        line = json.dumps(plain(record), allow_nan=False).encode() + b"\n"
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self.position)  # part of a line would spoil the next one
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from None
        self.position += len(line)

    def sync(self) -> int:
        """Put every line onto the disk and return `position`, the bytes so far."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from None
        return self.position

    def close(self) -> None:
        """Close the file; no line is pending."""
        self._file.close()

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every record of `path`, without a last line that was cut off; raises `InputError` for any other damage."""
    try:
        lines = Path(path).read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}, is not a JSON object")
        records.append(record)
    return records


def _cut(path: Path, position: int) -> None:
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 <= position <= size:
            raise InputError(f"{path} has {size} bytes, expected at least the {position} of the checkpoint")
        file.seek(max(position - 1, 0))
        if position and file.read(1) != b"\n":
            raise InputError(f"{path} has no end of a line at byte {position}, where the checkpoint has one")
        file.truncate(position)
        os.fsync(file.fileno())
