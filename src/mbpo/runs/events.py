"""Scalars for TensorBoard, with `tensorboardX`'s protocol buffers and checksums."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from mbpo.errors import InputError


class EventsWriter:
    """A new event file in `folder`; what it shows from step `purge_step` on replaces what earlier files hold.

    A run resumed from a checkpoint of step s passes `purge_step=s + 1`. Values are float32, as TensorBoard has them.
    """

    def __init__(self, folder: str | os.PathLike[str], purge_step: int | None = None) -> None:
        """Raises `InputError` when `tensorboardX` is not installed or `folder` cannot be written."""
        try:
            event: Any = import_module("tensorboardX.proto.event_pb2")
            self._summary = import_module("tensorboardX.proto.summary_pb2").Summary
            self._crc = import_module("tensorboardX.record_writer").masked_crc32c
        except ImportError:
            raise InputError(
                "TensorBoard events need tensorboardX, which is not installed: pip install tensorboardX"
            ) from None
        self._event = event.Event
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            earlier = sorted(path.name for path in Path(folder).glob("events.out.tfevents.*"))
            self.path = Path(folder) / _name_after(earlier)
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 (held until close)
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None
        self._put(file_version="brain.Event:2", step=purge_step or 0)
        if purge_step is not None or not earlier:
            # TensorBoard takes a run's first START for its beginning, and only later ones for restarts
            # https://github.com/tensorflow/tensorboard/pull/4763
            start = event.SessionLog(status=event.SessionLog.START)
            self._put(session_log=start, step=purge_step or 0)

    def write(self, step: int, record: Mapping[str, Any]) -> None:
        """One event with every number of `record`; nested names are joined by "/", anything else is left out."""
        values = [self._summary.Value(tag=tag, simple_value=number) for tag, number in _scalars(record)]
        if values:
            self._put(step=int(step), summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file; no event is pending."""
        self._file.close()

    def __enter__(self) -> EventsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, **fields: Any) -> None:
        """One record: length, its checksum, the event, its checksum; in one write, so that a kill tears little."""
        data = self._event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(data))
        framed = length + self._checksum(length) + data + self._checksum(data)
        try:
            if self._file.write(framed) != len(framed):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def _checksum(self, data: bytes) -> bytes:
        return struct.pack("<I", self._crc(data))


def _name_after(earlier: list[str]) -> str:
    """A name that sorts after the `earlier` ones: TensorBoard reads the files of a folder in that order."""
    seconds = int(time.time())
    for name in earlier:
        stamp = name.split(".")[3]
        seconds = max(seconds, int(stamp) + 1 if stamp.isdigit() else 0)
    return f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0"


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
            continue
        if getattr(value, "ndim", None) == 0:
            value = value.item()
        if isinstance(value, (bool, int, float)):
            yield f"{prefix}{name}", float(value)
