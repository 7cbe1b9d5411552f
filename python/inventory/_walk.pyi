# SPDX-License-Identifier: Apache-2.0
# Stub of the compiled module. The documentation is in the docstrings of _walk.pyx.

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from ._core import Store
from .models import FsckReport, LogRecord, LogTail

@disjoint_base
class Walk:
    def __init__(self, store: Store) -> None: ...
    @property
    def done(self) -> bool: ...
    @property
    def progress(self) -> float: ...
    def rows(
        self,
        sku: NDArray[np.uint32],
        location: NDArray[np.uint16],
        seller: NDArray[np.uint16],
        figures: NDArray[np.int64],
        lsn: NDArray[np.uint64],
    ) -> int: ...
    def reservations(
        self,
        ended: bool,
        reservation_id: NDArray[np.uint8],
        small: NDArray[np.uint8],
        short: NDArray[np.uint16],
        numbers: NDArray[np.uint32],
        times: NDArray[np.uint64],
        figures: NDArray[np.int64],
    ) -> int: ...
    def names(self, kind: int, numbers: NDArray[np.uint32]) -> list[str]: ...

def reservation_ids(
    reservation_id: NDArray[np.uint8], small: NDArray[np.uint8], count: int
) -> list[str]: ...

@disjoint_base
class LogReader:
    def __init__(self, path: bytes) -> None: ...
    def close(self) -> None: ...
    @property
    def tail(self) -> LogTail | None: ...
    def next(self, after_lsn: int) -> LogRecord | None: ...

def fsck_files(path: bytes) -> FsckReport: ...
