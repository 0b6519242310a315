# SPDX-License-Identifier: Apache-2.0
"""A ``.npy`` file that grows row by row, so that a run of any length packs in little memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_HEADER_BYTES = 1024  # room for any shape and for records of two dozen fields
_MAGIC = b"\x93NUMPY\x01\x00"


class NpyWriter:
    """Writes an array ``[N, *row]`` whose N is known only in the end. Single-threaded.

    ``np.load(path, mmap_mode="r")`` reads the file once it is closed.

    Args:
        path: is overwritten.
        dtype: of the elements; may be a record.
        row: shape of one row.
    """

    def __init__(self, path: Path, dtype: DTypeLike, row: tuple[int, ...] = ()) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self.num_rows = 0
        self._file = path.open("wb")
        self._file.write(bytes(_HEADER_BYTES))

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, shape ``[n, *row]``.

        Raises:
            ValueError: if they have another shape.
        """
        if rows.shape[1:] != self._row:
            raise ValueError(f"rows of {self._file.name} are {self._row}, got {rows.shape[1:]}")
        np.ascontiguousarray(rows, dtype=self._dtype).tofile(self._file)
        self.num_rows += len(rows)

    def close(self) -> None:
        """Write the header and close."""
        header = repr(
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.num_rows, *self._row),
            }
        )
        length = _HEADER_BYTES - len(_MAGIC) - 2
        if len(header) >= length:
            raise ValueError(f"the header of {self._file.name} has no room for {header}")
        self._file.seek(0)
        self._file.write(_MAGIC + length.to_bytes(2, "little"))
        self._file.write(header.ljust(length - 1).encode("latin1") + b"\n")
        self._file.close()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
