"""Named arrays as a safetensors file, streamed and hashed in one pass, without a copy of any array.

`safetensors` itself serialises to memory first and cannot hash on the way; its file format is simple enough to write.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path

import ml_dtypes
import numpy as np

CHUNK = 1 << 23  # bytes
CODES = {
    np.dtype(kind): code
    for kind, code in (
        (np.bool_, "BOOL"),
        (np.int8, "I8"),
        (np.uint8, "U8"),
        (np.int16, "I16"),
        (np.uint16, "U16"),
        (np.float16, "F16"),
        (ml_dtypes.bfloat16, "BF16"),
        (np.int32, "I32"),
        (np.uint32, "U32"),
        (np.float32, "F32"),
        (np.int64, "I64"),
        (np.uint64, "U64"),
        (np.float64, "F64"),
        (np.complex64, "C64"),
    )
}
Layout = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def layout_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """The shape and dtype of each array; raises `ValueError` for one that the format cannot hold."""
    for name, array in arrays.items():
        if array.dtype not in CODES:
            raise ValueError(f"array {name!r} has dtype {array.dtype}, which a safetensors file cannot hold")
        if name == "__metadata__":
            raise ValueError("'__metadata__' cannot be the name of an array in a safetensors file")
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def is_finite(array: np.ndarray) -> bool:
    """Whether a contiguous array holds no NaN and no infinity, looked at in pieces."""
    if array.dtype.kind not in "fcV":
        return True
    flat, step = array.reshape(-1), CHUNK // array.dtype.itemsize
    return all(bool(np.isfinite(flat[i : i + step]).all()) for i in range(0, flat.size, step))


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, str]:
    """Write contiguous `arrays` to the new file `path`, onto the disk; its size in bytes and its sha256."""
    layout = layout_of(arrays)
    digest, header = hashlib.sha256(), _header(layout)
    with open(path, "xb") as file:
        for piece in (
            memoryview(header),
            *(each for name in _order(layout) for each in _pieces(arrays[name])),
        ):
            file.write(piece)
            digest.update(piece)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def read_tensors(path: Path, layout: Layout) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a file written with `layout`, each with memory of its own, and the file's sha256.

    Raises `ValueError` when the file has another layout or ends early.
    """
    digest, arrays = hashlib.sha256(), {}
    with open(path, "rb", buffering=0) as file:
        header = bytearray(len(expected := _header(layout)))
        _fill(file, memoryview(header), digest)
        if header != expected:
            raise ValueError("its header is not the one that was written")
        for name in _order(layout):
            shape, dtype = layout[name]
            arrays[name] = np.empty(shape, dtype)
            for piece in _pieces(arrays[name]):
                _fill(file, piece, digest)
        if file.read(1):
            raise ValueError("it goes on after its last array")
    return {name: arrays[name] for name in layout}, digest.hexdigest()


def _order(layout: Layout) -> list[str]:
    """Wide types first, as the format's own writer has it: every array is then aligned."""
    return sorted(layout, key=lambda name: (-layout[name][1].itemsize, name))


def _header(layout: Layout) -> bytes:
    entries, start = {}, 0
    for name in _order(layout):
        shape, dtype = layout[name]
        end = start + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    """The memory of a contiguous array, as views of at most `CHUNK` bytes."""
    flat = array.reshape(-1).view(np.uint8).data
    return (flat[i : i + CHUNK] for i in range(0, len(flat), CHUNK))


def _fill(file: FileIO, piece: memoryview, digest: hashlib._Hash) -> None:
    """Read exactly `len(piece)` bytes into `piece` and hash them."""
    done = 0
    while done < len(piece):
        got = file.readinto(piece[done:])
        if not got:
            raise ValueError("it ends early")
        done += got
    digest.update(piece)
