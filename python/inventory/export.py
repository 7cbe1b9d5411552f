# SPDX-License-Identifier: Apache-2.0
"""Everything in an open store, piece by piece: numpy columns, and Arrow record batches.

The work behind :meth:`Inventory.rows`, :meth:`Inventory.reservations` and
:meth:`Inventory.to_arrow`. Each piece is made when it is asked for: memory is bounded by
``chunk_rows``, whatever the size of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._walk import Walk, reservation_ids
from .errors import BadRequest
from .models import State

if TYPE_CHECKING:
    import pyarrow as pa

    from .store import Inventory

__all__ = ["CHUNK_ROWS_MAX", "ReservationChunk", "RowChunk", "What"]

CHUNK_ROWS_MAX = 1 << 20

What: TypeAlias = Literal["rows", "reservations"]
_Progress: TypeAlias = Callable[[float], None]

_SKU, _LOCATION, _SELLER, _ACCOUNT = 1, 2, 3, 4  # inv_name_kind
_NO_SKU, _NO_LOCATION = 0xFFFFFFFF, 0xFFFF
_ROW_FIGURES = (
    "on_hand", "held", "allocated", "reserved", "available", "available_to_promise",
    "safety_stock", "short",
)  # fmt: skip
_LINE_FIGURES = ("units", "qty", "held", "allocated", "shipped")
_STATES = ("", *(state.value for state in State))  # by inv_state


class RowChunk(msgspec.Struct, frozen=True, eq=False):
    """Stock rows as columns of one length: the figures of :class:`StockLevel`, in units.

    ``seller``, ``sku`` and ``location`` are object arrays of str, ``sku_ids`` uint32 and
    ``location_ids`` uint16 their numbers, all else is int64. Rows of one SKU stand together, sorted
    by location number, and are of one moment: ``lsn`` says which.
    """

    seller: NDArray[np.object_]
    sku: NDArray[np.object_]
    location: NDArray[np.object_]
    sku_ids: NDArray[np.uint32]
    location_ids: NDArray[np.uint16]
    on_hand: NDArray[np.int64]
    held: NDArray[np.int64]
    allocated: NDArray[np.int64]
    reserved: NDArray[np.int64]
    available: NDArray[np.int64]
    available_to_promise: NDArray[np.int64]
    safety_stock: NDArray[np.int64]
    short: NDArray[np.int64]
    lsn: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lsn)


class ReservationChunk(msgspec.Struct, frozen=True, eq=False):
    """Lines of reservations as columns of one length; lines of one stand together.

    ``seller``, ``reservation_id``, ``account``, ``state``, ``sku`` and ``location`` are object
    arrays of str, ``line`` and ``line_count`` uint16, all else is int64. ``expires_at_unix_ms`` is
    0 unless something is held, ``ended_at_unix_ms`` is 0 while it lives, ``lsn`` is that of the
    last change, ``units`` the sum of ``qty`` over all lines. An ended reservation of which the
    lines are no longer known takes one place: ``line_count`` is 0, ``sku`` and ``location`` are
    ``None``.
    """

    seller: NDArray[np.object_]
    reservation_id: NDArray[np.object_]
    account: NDArray[np.object_]
    state: NDArray[np.object_]
    expires_at_unix_ms: NDArray[np.int64]
    ended_at_unix_ms: NDArray[np.int64]
    lsn: NDArray[np.int64]
    units: NDArray[np.int64]
    line: NDArray[np.uint16]
    line_count: NDArray[np.uint16]
    sku: NDArray[np.object_]
    location: NDArray[np.object_]
    qty: NDArray[np.int64]
    held: NDArray[np.int64]
    allocated: NDArray[np.int64]
    shipped: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lsn)


class _Texts:
    """A column of texts as numbers into a short list of them; nobody may be `none`."""

    def __init__(
        self, walk: Walk, kind: int, numbers: NDArray[Any], none: int | None = None
    ) -> None:
        known, self.places = np.unique(numbers, return_inverse=True)
        self.has_none = none is not None and len(known) > 0 and int(known[-1]) == none
        if self.has_none:
            known = known[:-1]
        self.texts = walk.names(kind, known.astype(np.uint32))

    def as_objects(self) -> NDArray[np.object_]:
        return np.array([*self.texts, None], dtype=object)[self.places]

    def as_arrow(self, pa: Any) -> Any:
        places = pa.array(self.places, pa.int32(), from_pandas=False)
        texts = pa.array([*self.texts, None] if self.has_none else self.texts, pa.string())
        return texts.take(places)


class _Rows:
    """One piece of a walk over stock rows, as the core filled it in."""

    def __init__(self, walk: Walk, chunk_rows: int) -> None:
        self.sku = np.empty(chunk_rows, np.uint32)
        self.location = np.empty(chunk_rows, np.uint16)
        self.seller = np.empty(chunk_rows, np.uint16)
        self.figures = np.empty((len(_ROW_FIGURES), chunk_rows), np.int64)
        self.lsn = np.empty(chunk_rows, np.uint64)
        self.walk = walk
        self.count = walk.rows(self.sku, self.location, self.seller, self.figures, self.lsn)

    def as_chunk(self) -> RowChunk:
        n = self.count
        seller, sku, location = (texts.as_objects() for texts in self.texts())
        figures = {name: self.figures[i, :n] for i, name in enumerate(_ROW_FIGURES)}
        return RowChunk(
            seller=seller,
            sku=sku,
            location=location,
            sku_ids=self.sku[:n],
            location_ids=self.location[:n],
            lsn=self.lsn[:n].view(np.int64),
            **figures,
        )

    def texts(self) -> Iterator[_Texts]:
        yield _Texts(self.walk, _SELLER, self.seller[: self.count])
        yield _Texts(self.walk, _SKU, self.sku[: self.count])
        yield _Texts(self.walk, _LOCATION, self.location[: self.count])

    @staticmethod
    def schema(pa: Any) -> pa.Schema:
        names = [(name, pa.string()) for name in ("seller", "sku", "location")]
        figures = [(name, pa.int64()) for name in (*_ROW_FIGURES, "lsn")]
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in names + figures])

    def as_arrow(self, pa: Any) -> list[Any]:
        n = self.count
        figures = [pa.array(self.figures[i, :n]) for i in range(len(_ROW_FIGURES))]
        texts = [texts.as_arrow(pa) for texts in self.texts()]
        return [*texts, *figures, pa.array(self.lsn[:n].view(np.int64))]


class _Reservations:
    """One piece of a walk over reservations, as the core filled it in."""

    def __init__(self, walk: Walk, chunk_rows: int, ended: bool) -> None:
        self.reservation_id = np.empty((chunk_rows, 64), np.uint8)
        self.small = np.empty((3, chunk_rows), np.uint8)
        self.short = np.empty((4, chunk_rows), np.uint16)
        self.numbers = np.empty((2, chunk_rows), np.uint32)
        self.times = np.empty((3, chunk_rows), np.uint64)
        self.figures = np.empty((len(_LINE_FIGURES), chunk_rows), np.int64)
        self.walk = walk
        self.count = walk.reservations(
            ended,
            self.reservation_id,
            self.small,
            self.short,
            self.numbers,
            self.times,
            self.figures,
        )

    def ids(self) -> list[str]:
        return reservation_ids(self.reservation_id, self.small, self.count)

    def texts(self) -> Iterator[_Texts]:
        n = self.count
        yield _Texts(self.walk, _SELLER, self.short[0, :n])
        yield _Texts(self.walk, _ACCOUNT, self.numbers[0, :n])
        yield _Texts(self.walk, _SKU, self.numbers[1, :n], _NO_SKU)
        yield _Texts(self.walk, _LOCATION, self.short[3, :n], _NO_LOCATION)

    def as_chunk(self) -> ReservationChunk:
        n = self.count
        seller, account, sku, location = (texts.as_objects() for texts in self.texts())
        times = self.times.view(np.int64)
        figures = {name: self.figures[i, :n] for i, name in enumerate(_LINE_FIGURES)}
        return ReservationChunk(
            seller=seller,
            reservation_id=np.array(self.ids(), dtype=object),
            account=account,
            state=np.array(_STATES, dtype=object)[self.small[2, :n]],
            expires_at_unix_ms=times[0, :n],
            ended_at_unix_ms=times[1, :n],
            lsn=times[2, :n],
            line=self.short[1, :n],
            line_count=self.short[2, :n],
            sku=sku,
            location=location,
            **figures,
        )

    @staticmethod
    def schema(pa: Any) -> pa.Schema:
        text, figure = pa.string(), pa.int64()
        return pa.schema(
            [
                pa.field("seller", text, nullable=False),
                pa.field("reservation_id", text, nullable=False),
                pa.field("account", text, nullable=False),
                pa.field("state", text, nullable=False),
                pa.field("expires_at_unix_ms", figure),
                pa.field("ended_at_unix_ms", figure),
                pa.field("lsn", figure, nullable=False),
                pa.field("units", figure, nullable=False),
                pa.field("line", figure),
                pa.field("sku", text),
                pa.field("location", text),
                *(pa.field(name, figure) for name in _LINE_FIGURES[1:]),
            ]
        )

    def as_arrow(self, pa: Any) -> list[Any]:
        n = self.count
        seller, account, sku, location = (texts.as_arrow(pa) for texts in self.texts())
        times = self.times.view(np.int64)
        without_lines = self.short[2, :n] == 0
        states = pa.array(_STATES, pa.string()).take(pa.array(self.small[2, :n]))
        return [
            seller,
            pa.array(self.ids(), pa.string()),
            account,
            states,
            *(pa.array(times[i, :n], mask=times[i, :n] == 0) for i in (0, 1)),
            pa.array(times[2, :n]),
            pa.array(self.figures[0, :n]),
            pa.array(self.short[1, :n].astype(np.int64), mask=without_lines),
            sku,
            location,
            *(
                pa.array(self.figures[i, :n], mask=without_lines)
                for i in range(1, len(_LINE_FIGURES))
            ),
        ]


# ---- walks --------------------------------------------------------------------------------------


def _rows(inv: Inventory, chunk_rows: int, progress: _Progress | None) -> Iterator[_Rows]:
    walk = Walk(inv)
    while not walk.done:
        piece = _Rows(walk, chunk_rows)
        if piece.count > 0:
            yield piece
        if progress is not None:
            progress(walk.progress)


def _reservations(
    inv: Inventory, chunk_rows: int, ended: bool, progress: _Progress | None
) -> Iterator[_Reservations]:
    walk = Walk(inv)
    while not walk.done:
        piece = _Reservations(walk, chunk_rows, ended)
        if piece.count > 0:
            yield piece
        if progress is not None:
            progress(walk.progress)


def _check_chunk_rows(chunk_rows: int) -> None:
    if not isinstance(chunk_rows, int) or isinstance(chunk_rows, bool):
        raise TypeError(f"chunk_rows must be int, not {type(chunk_rows).__name__}")
    if not 1 <= chunk_rows <= CHUNK_ROWS_MAX:
        limit = CHUNK_ROWS_MAX if chunk_rows > 0 else 1
        raise BadRequest(field="chunk_rows", figure=chunk_rows, limit=limit)


def _check_ended(ended: bool) -> None:
    if not isinstance(ended, bool):
        raise TypeError(f"ended must be bool, not {type(ended).__name__}")


def rows(inv: Inventory, chunk_rows: int) -> Iterator[RowChunk]:
    """See :meth:`Inventory.rows`."""
    _check_chunk_rows(chunk_rows)
    return (piece.as_chunk() for piece in _rows(inv, chunk_rows, None))


def reservations(inv: Inventory, chunk_rows: int, ended: bool) -> Iterator[ReservationChunk]:
    """See :meth:`Inventory.reservations`."""
    _check_chunk_rows(chunk_rows)
    _check_ended(ended)
    return (piece.as_chunk() for piece in _reservations(inv, chunk_rows, ended, None))


def to_arrow(
    inv: Inventory,
    what: What,
    chunk_rows: int,
    ended: bool,
    progress: _Progress | None = None,
) -> pa.RecordBatchReader:
    """See :meth:`Inventory.to_arrow`; `progress` is called with 0.0 to 1.0 after each piece."""
    _check_chunk_rows(chunk_rows)
    _check_ended(ended)
    if what not in ("rows", "reservations"):
        raise BadRequest("what: 'rows' or 'reservations'", field="what")
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError(
            "to_arrow needs pyarrow; install it with: pip install 'inventory-engine[arrow]'",
            name="pyarrow",
        ) from error
    schema = _Rows.schema(pa) if what == "rows" else _Reservations.schema(pa)
    pieces: Iterator[_Rows | _Reservations] = (
        _rows(inv, chunk_rows, progress)
        if what == "rows"
        else _reservations(inv, chunk_rows, ended, progress)
    )
    batches = (pa.RecordBatch.from_arrays(piece.as_arrow(pa), schema=schema) for piece in pieces)
    return pa.RecordBatchReader.from_batches(schema, batches)
