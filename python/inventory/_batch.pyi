# SPDX-License-Identifier: Apache-2.0
# Stub of the compiled module. The documentation is in the docstrings of _batch.pyx.

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._core import Store

_Codes: TypeAlias = NDArray[np.uint8]
_Names: TypeAlias = Any  # a sequence of str, a numpy array of them, an Arrow string array
_Ids: TypeAlias = NDArray[np.uint8]  # [n, 16]

class BatchStore(Store):
    def sku_ids(
        self, names: _Names, *, seller: str = "default", create: bool = False
    ) -> NDArray[np.uint32]: ...
    def location_ids(self, names: _Names, *, create: bool = False) -> NDArray[np.uint16]: ...
    def sku_names(self, sku_ids: NDArray[np.uint32]) -> list[str]: ...
    def location_names(self, location_ids: NDArray[np.uint16]) -> list[str]: ...
    def reserve_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        qty: NDArray[np.int64],
        reservation_ids: _Ids,
        *,
        ttl_ms: int | NDArray[np.uint32],
        account: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    def receive_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        qty: NDArray[np.int64],
        *,
        op_ids: _Ids | None = None,
        account: str = "",
        reason: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    def issue_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        qty: NDArray[np.int64],
        *,
        op_ids: _Ids | None = None,
        account: str = "",
        reason: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    def adjust_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        delta: NDArray[np.int64],
        *,
        op_ids: _Ids | None = None,
        account: str = "",
        reason: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    def commit_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def ship_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def release_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def cancel_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def extend_batch(
        self, reservation_ids: _Ids, *, ttl_ms: int | NDArray[np.uint32], seller: str = "default"
    ) -> _Codes: ...
    def availability_batch(
        self, sku_ids: NDArray[np.uint32], location_ids: NDArray[np.uint16]
    ) -> NDArray[np.void]: ...
