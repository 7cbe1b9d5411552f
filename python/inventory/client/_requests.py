# SPDX-License-Identifier: Apache-2.0
"""What each method of a client asks: its arguments, checked and spelled as requests.

One function for each operation, of the signature of the library's method. It returns a request, or
a plan: a generator that yields requests, takes their answers, and returns the result. Types are
checked here, as the library does; values are judged by the node, so that both say the same.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from operator import index
from typing import Any, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from inventory.errors import BadRequest, InventoryError, LimitExceeded
from inventory.models import Line

from . import _wire
from ._wire import Flag, Op, Request

__all__ = ["OPERATIONS", "Plan", "hello"]

Plan: TypeAlias = Generator[Request, Any, Any]
_Lines: TypeAlias = Iterable[Line | tuple[str, str | None, int]]

_QTY_MAX = 2_147_483_647
_TTL_MS_MAX = 2_592_000_000
_LINES_MAX = 4_096
_TEXT_BYTES_MAX = {"sku": 128, "reference": 128}  # others 64
_TEXT_LONG = 1_024  # characters beyond which a text is refused here: no message need carry it
_NAMES_MAX = 4_096  # of a request
_PIECE_BYTES = _wire.MESSAGE_BYTES_SURE - 2_048  # of a piece of a batch; the rest is its texts
_BUSY = 51
_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.I | re.A
)
_LATER: dict[str, Any] = {  # options of later releases, and what they may be
    "mode": "all_or_nothing",
    "min_qty": None,
    "backorder": False,
    "split": True,
    "backorder_ttl_ms": None,
    "soft_ttl_ms": None,
    "priority": 0,
    "promised_unix_ms": None,
    "locations": None,
    "strategy": "priority",
    "region": None,
    "max_splits": None,
    "replaces": (),
    "wait_ms": 0,
}


# ---- arguments ----------------------------------------------------------------------------------


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{field} must be str, not {type(value).__name__}")
    if len(value) > _TEXT_LONG:
        size = len(value.encode("utf-8", "replace"))
        raise BadRequest(field=field, figure=size, limit=_bytes_max(field))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{field}: not text that UTF-8 can carry", field=field) from None
    return value


def _bytes_max(field: str) -> int:
    return _TEXT_BYTES_MAX.get(field.rpartition(".")[2], 64)


def _place(value: Any, field: str) -> str | None:
    return None if value is None else _text(value, field)


def _whole(value: Any, field: str, limit: int) -> int:
    """A whole number of 64 bits; ``limit`` is for the message of one that is not."""
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{field} must be int, not {type(value).__name__}")
        value = index(value)
    if not -(1 << 63) <= value < 1 << 63:
        raise BadRequest(field=field, figure=value, limit=limit)
    return cast(int, value)


def _flag(value: Any, field: str, bit: int) -> int:
    if not isinstance(value, bool):
        raise TypeError(f"{field} must be bool, not {type(value).__name__}")
    return bit if value else 0


def _ttl(value: Any) -> int | None:
    if value is None:
        return None
    ttl_ms = _whole(value, "ttl_ms", _TTL_MS_MAX)
    if ttl_ms < 1:
        raise BadRequest(field="ttl_ms", figure=ttl_ms, limit=1)
    return ttl_ms


def _given(value: Any, field: str, default: str = "") -> str | None:
    """A text that has a default: None stands for that, and takes one byte."""
    text = _text(value, field)
    return None if text == default else text


def _seller(value: Any) -> str | None:
    return _given(value, "seller", "default")


def _refuse_option(field: str) -> NoReturn:
    raise BadRequest(f"{field}: not supported by this release; leave the option out", field=field)


def _refuse_later(options: dict[str, Any]) -> None:
    """Refuse options of later releases; their defaults, spelled out, are fine."""
    for name, value in options.items():
        default = _LATER[name]
        if name == "replaces":
            refused = isinstance(value, str) or len(value) != 0
        elif isinstance(default, bool):
            refused = value is not default
        else:
            refused = value != default and not (name == "strategy" and value is None)
        if refused:
            _refuse_option(name)


def _lines(lines: _Lines) -> tuple[list[list[Any]], list[tuple[str, str | None]]]:
    """Lines as they go over the wire, and what they name."""
    spelled: list[list[Any]] = []
    names: list[tuple[str, str | None]] = []
    for i, item in enumerate(list(lines)):
        if isinstance(item, Line):
            sku, location, qty = item.sku, item.location, item.qty
            if item.min_qty is not None:
                _refuse_option(f"lines[{i}].min_qty")
            if item.split is not True:
                _refuse_option(f"lines[{i}].split")
        elif isinstance(item, (tuple, list)) and len(item) == 3:
            sku, location, qty = item
        else:
            raise TypeError(
                f"lines[{i}] must be (sku, location, qty) or inventory.Line, "
                f"not {type(item).__name__}"
            )
        sku = _text(sku, f"lines[{i}].sku")
        location = _place(location, f"lines[{i}].location")
        spelled.append([sku, location, _whole(qty, f"lines[{i}].qty", _QTY_MAX)])
        names.append((sku, location))
    if len(spelled) > _LINES_MAX:
        raise LimitExceeded(field="lines", figure=len(spelled), limit=_LINES_MAX)
    return spelled, names


# ---- ids ----------------------------------------------------------------------------------------


def new_uuid() -> bytes:
    """A version 7 UUID (RFC 9562): 48 bits of milliseconds, 74 random bits."""
    unix_ms = time.time_ns() // 1_000_000
    chance = bytearray(os.urandom(10))
    chance[0] = chance[0] & 0x0F | 0x70
    chance[2] = chance[2] & 0x3F | 0x80
    return unix_ms.to_bytes(6, "big") + bytes(chance)


def new_uuids(count: int) -> NDArray[np.uint8]:
    """As many of them, uint8[count, 16]."""
    ids: NDArray[np.uint8] = (
        np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16).copy()
    )
    unix_ms = time.time_ns() // 1_000_000
    ids[:, :6] = np.frombuffer(unix_ms.to_bytes(6, "big"), np.uint8)
    ids[:, 6] = ids[:, 6] & 0x0F | 0x70
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return ids


def _uuid_text(uuid: bytes) -> str:
    digits = uuid.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _id(value: Any, field: str) -> tuple[str | bytes, str]:
    """An id as it goes over the wire and as the library shows it; None: a new one."""
    if value is None:
        uuid = new_uuid()
        return uuid, _uuid_text(uuid)
    text = _text(value, field)
    if len(text) == 36 and _UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", "")), str(text).lower()
    return text, value


def _request(operation: str, op: int, fields: list[Any], read: Any, **more: Any) -> Request:
    tail, item_count = _wire.tail_bytes(fields)
    return Request(operation, op, tail, item_count, read, **more)


# ---- reservations -------------------------------------------------------------------------------


def reserve(
    sku: str,
    qty: int,
    *,
    location: str | None = None,
    ttl_ms: int | None = None,
    reservation_id: str | None = None,
    account: str = "",
    seller: str = "default",
    mode: str = "all_or_nothing",
    min_qty: int | None = None,
    backorder: bool = False,
    split: bool = True,
    backorder_ttl_ms: int | None = None,
    soft_ttl_ms: int | None = None,
    priority: int = 0,
    promised_unix_ms: int | None = None,
    locations: Iterable[str] | None = None,
    strategy: str | None = None,
    region: str | None = None,
    max_splits: int | None = None,
    replaces: Iterable[str] = (),
    use_safety_stock: bool = False,
    wait_ms: int = 0,
    reason: str = "",
    reference: str = "",
) -> Request:
    _refuse_later(
        {
            "mode": mode,
            "min_qty": min_qty,
            "backorder": backorder,
            "split": split,
            "backorder_ttl_ms": backorder_ttl_ms,
            "soft_ttl_ms": soft_ttl_ms,
            "priority": priority,
            "promised_unix_ms": promised_unix_ms,
            "locations": locations,
            "strategy": strategy,
            "region": region,
            "max_splits": max_splits,
            "replaces": replaces,
            "wait_ms": wait_ms,
        }
    )
    name = (_text(sku, "sku"), _place(location, "location"))
    spelled, shown = _id(reservation_id, "reservation_id")
    owner = _seller(seller)
    fields = [
        spelled,
        *name,
        _whole(qty, "qty", _QTY_MAX),
        _ttl(ttl_ms),
        _given(account, "account"),
        owner,
        _flag(use_safety_stock, "use_safety_stock", Flag.USE_SAFETY_STOCK) or None,
        _given(reason, "reason"),
        _given(reference, "reference"),
    ]
    return _request(
        "reserve",
        Op.RESERVE,
        fields,
        _wire.read_reservation,
        names=(name,),
        reservation_id=shown,
        seller=owner,
    )


def reserve_lines(
    lines: _Lines,
    *,
    ttl_ms: int | None = None,
    reservation_id: str | None = None,
    account: str = "",
    seller: str = "default",
    mode: str = "all_or_nothing",
    min_qty: int | None = None,
    backorder: bool = False,
    split: bool = True,
    backorder_ttl_ms: int | None = None,
    soft_ttl_ms: int | None = None,
    priority: int = 0,
    promised_unix_ms: int | None = None,
    locations: Iterable[str] | None = None,
    strategy: str | None = None,
    region: str | None = None,
    max_splits: int | None = None,
    replaces: Iterable[str] = (),
    use_safety_stock: bool = False,
    wait_ms: int = 0,
    reason: str = "",
    reference: str = "",
) -> Request:
    _refuse_later(
        {
            "mode": mode,
            "min_qty": min_qty,
            "backorder": backorder,
            "split": split,
            "backorder_ttl_ms": backorder_ttl_ms,
            "soft_ttl_ms": soft_ttl_ms,
            "priority": priority,
            "promised_unix_ms": promised_unix_ms,
            "locations": locations,
            "strategy": strategy,
            "region": region,
            "max_splits": max_splits,
            "replaces": replaces,
            "wait_ms": wait_ms,
        }
    )
    asked, names = _lines(lines)
    spelled, shown = _id(reservation_id, "reservation_id")
    owner = _seller(seller)
    fields = [
        spelled,
        asked,
        _ttl(ttl_ms),
        _given(account, "account"),
        owner,
        _flag(use_safety_stock, "use_safety_stock", Flag.USE_SAFETY_STOCK) or None,
        _given(reason, "reason"),
        _given(reference, "reference"),
    ]
    return _request(
        "reserve_lines",
        Op.RESERVE_LINES,
        fields,
        _wire.read_reservation,
        names=names,
        line_count=max(1, len(names)),
        reservation_id=shown,
        seller=owner,
    )


def _by_id(
    operation: str,
    op: int,
    reservation_id: Any,
    flags: int,
    lines: _Lines | None,
    op_id: str | None,
    *,
    account: str,
    seller: str,
    reason: str,
    reference: str,
) -> Request:
    """Commit, ship, release, cancel. A part gets an op_id, so that it is done once."""
    spelled, shown = _id(_text(reservation_id, "reservation_id"), "reservation_id")
    asked, names = (None, []) if lines is None else _lines(lines)
    key, shown_key = (None, None) if op_id is None else _id(op_id, "op_id")
    texts = [
        _given(account, "account"),
        _seller(seller),
        _given(reason, "reason"),
        _given(reference, "reference"),
    ]

    def request(key: str | bytes | None, **more: Any) -> Request:
        return _request(
            operation,
            op,
            [spelled, flags or None, asked, key, *texts],
            _wire.read_reservation,
            names=names,
            line_count=max(1, len(names)),
            reservation_id=shown,
            seller=texts[1],
            **more,
        )

    if asked is None or op_id is not None:
        return request(key, op_id=shown_key)
    key, shown_key = _id(None, "op_id")
    plain = request(None, op_id=shown_key)
    return request(key, op_id=shown_key, plain=plain)


def commit(
    reservation_id: str,
    *,
    lines: _Lines | None = None,
    final: bool = True,
    op_id: str | None = None,
    if_expired: str | None = None,
    account: str = "",
    seller: str = "default",
    reason: str = "",
    reference: str = "",
) -> Request:
    flags = Flag.KEEP_REST - _flag(final, "final", Flag.KEEP_REST)
    if if_expired is not None:
        if if_expired != "rehold":
            raise BadRequest("if_expired: None or 'rehold'", field="if_expired")
        flags |= Flag.REHOLD
    return _by_id(
        "commit",
        Op.COMMIT,
        reservation_id,
        flags,
        lines,
        op_id,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def ship(
    reservation_id: str,
    *,
    lines: _Lines | None = None,
    op_id: str | None = None,
    account: str = "",
    seller: str = "default",
    reason: str = "",
    reference: str = "",
) -> Request:
    return _by_id(
        "ship",
        Op.SHIP,
        reservation_id,
        0,
        lines,
        op_id,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def release(
    reservation_id: str,
    *,
    lines: _Lines | None = None,
    op_id: str | None = None,
    tombstone: bool = False,
    account: str = "",
    seller: str = "default",
    reason: str = "",
    reference: str = "",
) -> Request:
    return _by_id(
        "release",
        Op.RELEASE,
        reservation_id,
        _flag(tombstone, "tombstone", Flag.TOMBSTONE),
        lines,
        op_id,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def cancel(
    reservation_id: str,
    *,
    lines: _Lines | None = None,
    op_id: str | None = None,
    account: str = "",
    seller: str = "default",
    reason: str = "",
    reference: str = "",
) -> Request:
    return _by_id(
        "cancel",
        Op.CANCEL,
        reservation_id,
        0,
        lines,
        op_id,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def extend(
    reservation_id: str,
    *,
    ttl_ms: int,
    shorten: bool = False,
    account: str = "",
    seller: str = "default",
    reason: str = "",
    reference: str = "",
) -> Request:
    spelled, shown = _id(_text(reservation_id, "reservation_id"), "reservation_id")
    owner = _seller(seller)
    fields = [
        spelled,
        _flag(shorten, "shorten", Flag.SHORTEN) or None,
        _ttl(_whole(ttl_ms, "ttl_ms", _TTL_MS_MAX)),
        _given(account, "account"),
        owner,
        _given(reason, "reason"),
        _given(reference, "reference"),
    ]
    return _request(
        "extend",
        Op.EXTEND,
        fields,
        _wire.read_reservation,
        reservation_id=shown,
        seller=owner,
    )


def reservation(reservation_id: str, *, seller: str = "default") -> Request:
    spelled, shown = _id(_text(reservation_id, "reservation_id"), "reservation_id")
    return _request(
        "reservation",
        Op.RESERVATION,
        [spelled, _seller(seller)],
        _wire.read_reservation,
        changes=False,
        reservation_id=shown,
    )


# ---- stock --------------------------------------------------------------------------------------


def _stock(
    operation: str,
    op: int,
    sku: str,
    location: str | None,
    figures: list[int],
    op_id: str | None,
    flags: int,
    read: Any,
    *,
    account: str,
    seller: str,
    reason: str,
    reference: str,
) -> Request:
    """A change of stock; without an op_id it gets one, so that it is done once."""
    name = (_text(sku, "sku"), _place(location, "location"))
    key, shown_key = _id(op_id, "op_id")
    fields = [
        *name,
        *figures,
        key,
        flags or None,
        _given(account, "account"),
        _seller(seller),
        _given(reason, "reason"),
        _given(reference, "reference"),
    ]
    return _request(operation, op, fields, read, names=(name,), op_id=shown_key)


def _required(location: Any) -> str:
    if location is None:
        raise TypeError("location must be str, not NoneType")
    return cast(str, location)


def receive(
    sku: str,
    location: str,
    qty: int,
    *,
    op_id: str | None = None,
    reason: str = "",
    reference: str = "",
    account: str = "",
    seller: str = "default",
) -> Request:
    return _stock(
        "receive",
        Op.RECEIVE,
        sku,
        _required(location),
        [_whole(qty, "qty", _QTY_MAX)],
        op_id,
        0,
        _wire.read_change,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def issue(
    sku: str,
    location: str,
    qty: int,
    *,
    op_id: str | None = None,
    reason: str = "",
    reference: str = "",
    account: str = "",
    seller: str = "default",
) -> Request:
    return _stock(
        "issue",
        Op.ISSUE,
        sku,
        _required(location),
        [_whole(qty, "qty", _QTY_MAX)],
        op_id,
        0,
        _wire.read_change,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def adjust(
    sku: str,
    location: str,
    delta: int,
    *,
    reason: str = "",
    strict: bool = False,
    op_id: str | None = None,
    reference: str = "",
    account: str = "",
    seller: str = "default",
) -> Request:
    return _stock(
        "adjust",
        Op.ADJUST,
        sku,
        _required(location),
        [_whole(delta, "delta", _QTY_MAX)],
        op_id,
        _flag(strict, "strict", Flag.STRICT),
        _wire.read_change,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def set_on_hand(
    sku: str,
    location: str,
    qty: int,
    *,
    if_on_hand: int | None = None,
    as_of: int | None = None,
    reason: str = "",
    op_id: str | None = None,
    reference: str = "",
    account: str = "",
    seller: str = "default",
) -> Request:
    if as_of is not None:
        _refuse_option("as_of")
    if if_on_hand is None:
        raise BadRequest(
            "if_on_hand: required; give the on_hand that was read before the count",
            field="if_on_hand",
        )
    return _stock(
        "set_on_hand",
        Op.SET_ON_HAND,
        sku,
        _required(location),
        [_whole(qty, "qty", _QTY_MAX), _whole(if_on_hand, "if_on_hand", _QTY_MAX)],
        op_id,
        0,
        _wire.read_change,
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


def set_policy(
    sku: str,
    location: str | None = None,
    *,
    safety_stock: int,
    op_id: str | None = None,
    reason: str = "",
    reference: str = "",
    account: str = "",
    seller: str = "default",
) -> Request:
    units = _whole(safety_stock, "safety_stock", _QTY_MAX)
    return _stock(
        "set_policy",
        Op.SET_POLICY,
        sku,
        location,
        [units],
        op_id,
        0,
        _wire.read_policy(units),
        account=account,
        seller=seller,
        reason=reason,
        reference=reference,
    )


# ---- reads --------------------------------------------------------------------------------------


def availability(
    sku: str, location: str | None = None, *, seller: str = "default", relaxed: bool = False
) -> Request:
    flags = _flag(relaxed, "relaxed", Flag.RELAXED) or None
    name = (_text(sku, "sku"), _place(location, "location"))
    owner = _seller(seller)
    if location is None:
        op, fields, read = Op.AVAILABILITY_SKU, [name[0], flags, owner], _wire.read_sku
        return _request("availability", op, fields, read, changes=False, names=(name,))
    op, fields, level = Op.AVAILABILITY, [*name, flags, owner], _wire.read_level
    return _request("availability", op, fields, level, changes=False, names=(name,))


def barrier() -> Request:
    return _request("barrier", Op.BARRIER, [], _wire.read_lsn, changes=False)


def hello(client: str) -> Request:
    """Who answers, and its limits."""
    return _request("node", Op.HELLO, [client], _wire.read_hello, changes=False)


# ---- names and numbers --------------------------------------------------------------------------


def _names(names: Any) -> list[str]:
    if isinstance(names, (str, bytes)):
        raise TypeError(f"names must be a sequence of str, not {type(names).__name__}")
    if hasattr(names, "__arrow_c_array__"):
        return _arrow_names(names)
    found = names.tolist() if hasattr(names, "tolist") else list(names)
    for i, name in enumerate(found):
        if type(name) is not str:
            raise TypeError(f"names[{i}] must be str, not {type(name).__name__}")
    return cast("list[str]", found)


def _arrow_names(names: Any) -> list[str]:
    import pyarrow as pa

    array = names if isinstance(names, pa.Array) else pa.array(names)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise TypeError(
            "names must be an Arrow array of type string or large_string; cast it first"
        )
    if array.null_count:
        raise BadRequest("names: has nulls", field="names")
    return cast("list[str]", array.to_pylist())


def _name_pieces(names: list[str], limit: int) -> Generator[tuple[int, list[str]], None, None]:
    """Pieces that fit a message, each with the index of its first name."""
    begin, size = 0, 0
    for i, name in enumerate(names):
        if len(name) > _TEXT_LONG:
            size_found = len(name.encode("utf-8", "replace"))
            raise BadRequest(field=f"names[{i}]", figure=size_found, limit=limit)
        try:
            length = len(name.encode()) + 5
        except UnicodeEncodeError:
            field = f"names[{i}]"
            raise BadRequest(f"{field}: not text that UTF-8 can carry", field=field) from None
        if i - begin == _NAMES_MAX or size + length > _PIECE_BYTES:
            yield begin, names[begin:i]
            begin, size = i, 0
        size += length
    if begin < len(names):
        yield begin, names[begin:]


def _numbers(
    operation: str,
    op: int,
    names: Any,
    create: Any,
    dtype: str,
    owner: list[str | None],
    limit: int,
) -> Plan:
    if not isinstance(create, bool):
        raise TypeError(f"create must be bool, not {type(create).__name__}")
    flags = Flag.CREATE if create else None
    found = np.empty(0, dtype)
    texts = _names(names)
    pieces = [found]
    for begin, piece in list(_name_pieces(texts, limit)):
        read = _wire.read_column(len(piece) * found.itemsize)
        request = _request(
            operation,
            op,
            [piece, flags, *owner],
            read,
            changes=create,
            names=[("", name) for name in piece] if op == Op.LOCATION_IDS else (),
        )
        try:
            data = yield request
        except InventoryError as error:
            raise _moved(error, begin, texts) from None
        pieces.append(np.frombuffer(data, found.dtype.newbyteorder("<")))
    return np.concatenate(pieces).astype(dtype, copy=False)


_INDEX = re.compile(r"\[(\d{1,9})\]")


def _moved(error: InventoryError, begin: int, names: list[str]) -> InventoryError:
    """An error of a piece, as one of the whole call."""
    field = getattr(error, "field", None)
    if isinstance(field, str) and begin:
        error.field = _INDEX.sub(lambda found: f"[{int(found[1]) + begin}]", field)  # type: ignore[attr-defined]
    return error


def sku_ids(names: Any, *, seller: str = "default", create: bool = False) -> Plan:
    return _numbers("sku_ids", Op.SKU_IDS, names, create, "uint32", [_seller(seller)], 128)


def location_ids(names: Any, *, create: bool = False) -> Plan:
    return _numbers("location_ids", Op.LOCATION_IDS, names, create, "uint16", [], 64)


def _texts_of(operation: str, op: int, numbers: Any, field: str, dtype: str) -> Plan:
    column = _column(numbers, field, dtype)
    found: list[str] = []
    for begin in range(0, len(column), _NAMES_MAX):
        piece = column[begin : begin + _NAMES_MAX]
        try:
            found += yield _request(
                operation, op, [_bytes_of(piece)], _wire.read_texts(len(piece)), changes=False
            )
        except BadRequest as error:
            at = _INDEX.search(error.field)
            row = begin + int(at[1]) if at is not None else begin
            if at is None or row >= len(column):
                raise
            raise BadRequest(
                f"{field}[{row}]: there is no number {column[row]}",
                field=f"{field}[{row}]",
                figure=int(column[row]),
            ) from None
    return found


def sku_names(sku_ids: NDArray[np.uint32]) -> Plan:
    return _texts_of("sku_names", Op.SKU_NAMES, sku_ids, "sku_ids", "uint32")


def location_names(location_ids: NDArray[np.uint16]) -> Plan:
    return _texts_of("location_names", Op.LOCATION_NAMES, location_ids, "location_ids", "uint16")


# ---- batches ------------------------------------------------------------------------------------

_LEVEL = np.dtype(
    {
        "names": ["on_hand", "held", "allocated", "available_to_promise", "safety_stock", "known"],
        "formats": ["<i8", "<i8", "<i8", "<i8", "<i8", "?"],
        "offsets": [0, 8, 16, 24, 32, 40],
        "itemsize": 48,
    }
)


def _column(value: Any, field: str, dtype: str, count: int = -1) -> NDArray[Any]:
    """The value as a contiguous array of that dtype; ``count`` rows, or any number if negative."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise BadRequest(f"{field}: has masked values", field=field)
    array = np.asarray(value)
    is_ids = field.endswith("_ids") and dtype == "uint8"
    shape = f"{dtype}[n, 16]" if is_ids else f"{dtype}[n]"
    if array.dtype != dtype:
        raise TypeError(f"{field} must be {shape}, not of dtype {array.dtype}")
    if array.ndim != (2 if is_ids else 1) or (array.ndim == 2 and array.shape[1] != 16):
        raise BadRequest(f"{field}: must be {shape}, not of shape {array.shape}", field=field)
    if count >= 0 and len(array) != count:
        raise BadRequest(
            f"{field}: {len(array)} rows, and {count} in the first column",
            field=field,
            figure=len(array),
            limit=count,
        )
    return np.ascontiguousarray(array)


def _bytes_of(column: NDArray[Any]) -> bytes:
    return column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()


def _ttls(value: Any, count: int) -> int | NDArray[Any]:
    if value is None:
        raise TypeError("ttl_ms must be int or uint32[n], not NoneType")
    if isinstance(value, bool) or not (isinstance(value, int) or hasattr(value, "dtype")):
        raise TypeError(f"ttl_ms must be int or uint32[n], not {type(value).__name__}")
    if not isinstance(value, int):
        return _column(value, "ttl_ms", "uint32", count)
    if not 1 <= value <= _TTL_MS_MAX:
        raise BadRequest(field="ttl_ms", figure=value, limit=1 if value < 1 else _TTL_MS_MAX)
    return value


def _batch(
    operation: str,
    op: int,
    columns: Sequence[NDArray[Any] | int],
    texts: list[str | None],
    op_ids: NDArray[np.uint8] | None = None,
) -> Plan:
    """uint8[n] codes. Pieces go one after the other, so that rows are judged in their order; rows
    that the node had no room for are asked again before the next piece."""
    arrays = [column for column in columns if not isinstance(column, int)]
    count = len(arrays[0])
    row_bytes = sum(array.itemsize * (array.size // max(1, count)) for array in arrays)
    piece_rows = _PIECE_BYTES // max(1, row_bytes)
    codes = np.empty(count, np.uint8)

    def ask(rows: NDArray[np.intp]) -> Request:
        fields = [
            column if isinstance(column, int) else _bytes_of(column[rows]) for column in columns
        ]

        def read(reply: _wire.Reply, request: Request) -> _wire.Again | None:
            data = _wire.column_of(reply, len(rows))
            codes[rows] = np.frombuffer(data, np.uint8)
            busy = rows[codes[rows] == _BUSY]
            return _wire.Again(ask(busy), pause=True) if len(busy) else None

        more: dict[str, Any] = {"line_count": max(1, len(rows)), "op_ids": op_ids}
        return _request(operation, op, [*fields, *texts], read, **more)

    for begin in range(0, max(count, 1), piece_rows):
        yield ask(np.arange(begin, min(begin + piece_rows, count)))
    return codes


def _lines_batch(
    operation: str,
    op: int,
    sku_ids: Any,
    location_ids: Any,
    qty: Any,
    qty_field: str,
    op_ids: Any,
    *,
    account: str,
    reason: str,
    seller: str,
) -> Plan:
    skus = _column(sku_ids, "sku_ids", "uint32")
    count = len(skus)
    places = _column(location_ids, "location_ids", "uint16", count)
    units = _column(qty, qty_field, "int64", count)
    ids = new_uuids(count) if op_ids is None else _column(op_ids, "op_ids", "uint8", count)
    texts = [_given(account, "account"), _seller(seller), _given(reason, "reason")]
    return _batch(operation, op, [ids, skus, places, units], texts, ids)


def reserve_batch(
    sku_ids: NDArray[np.uint32],
    location_ids: NDArray[np.uint16],
    qty: NDArray[np.int64],
    reservation_ids: NDArray[np.uint8],
    *,
    ttl_ms: int | NDArray[np.uint32],
    account: str = "",
    seller: str = "default",
) -> Plan:
    if ttl_ms is None:
        raise TypeError("ttl_ms must be int or uint32[n], not NoneType")
    if reservation_ids is None:
        raise TypeError("reservation_ids must be uint8[n, 16], not NoneType")
    skus = _column(sku_ids, "sku_ids", "uint32")
    count = len(skus)
    places = _column(location_ids, "location_ids", "uint16", count)
    units = _column(qty, "qty", "int64", count)
    ids = _column(reservation_ids, "reservation_ids", "uint8", count)
    ttls = _ttls(ttl_ms, count)
    texts = [_given(account, "account"), _seller(seller)]
    return _batch("reserve_batch", Op.RESERVE_BATCH, [ids, skus, places, units, ttls], texts)


def receive_batch(
    sku_ids: NDArray[np.uint32],
    location_ids: NDArray[np.uint16],
    qty: NDArray[np.int64],
    *,
    op_ids: NDArray[np.uint8] | None = None,
    account: str = "",
    reason: str = "",
    seller: str = "default",
) -> Plan:
    return _lines_batch(
        "receive_batch",
        Op.RECEIVE_BATCH,
        sku_ids,
        location_ids,
        qty,
        "qty",
        op_ids,
        account=account,
        reason=reason,
        seller=seller,
    )


def issue_batch(
    sku_ids: NDArray[np.uint32],
    location_ids: NDArray[np.uint16],
    qty: NDArray[np.int64],
    *,
    op_ids: NDArray[np.uint8] | None = None,
    account: str = "",
    reason: str = "",
    seller: str = "default",
) -> Plan:
    return _lines_batch(
        "issue_batch",
        Op.ISSUE_BATCH,
        sku_ids,
        location_ids,
        qty,
        "qty",
        op_ids,
        account=account,
        reason=reason,
        seller=seller,
    )


def adjust_batch(
    sku_ids: NDArray[np.uint32],
    location_ids: NDArray[np.uint16],
    delta: NDArray[np.int64],
    *,
    op_ids: NDArray[np.uint8] | None = None,
    account: str = "",
    reason: str = "",
    seller: str = "default",
) -> Plan:
    return _lines_batch(
        "adjust_batch",
        Op.ADJUST_BATCH,
        sku_ids,
        location_ids,
        delta,
        "delta",
        op_ids,
        account=account,
        reason=reason,
        seller=seller,
    )


def _ids_batch(operation: str, op: int, reservation_ids: Any, seller: str) -> Plan:
    ids = _column(reservation_ids, "reservation_ids", "uint8")
    return _batch(operation, op, [ids], [None, _seller(seller)])


def commit_batch(reservation_ids: NDArray[np.uint8], *, seller: str = "default") -> Plan:
    return _ids_batch("commit_batch", Op.COMMIT_BATCH, reservation_ids, seller)


def ship_batch(reservation_ids: NDArray[np.uint8], *, seller: str = "default") -> Plan:
    return _ids_batch("ship_batch", Op.SHIP_BATCH, reservation_ids, seller)


def release_batch(reservation_ids: NDArray[np.uint8], *, seller: str = "default") -> Plan:
    return _ids_batch("release_batch", Op.RELEASE_BATCH, reservation_ids, seller)


def cancel_batch(reservation_ids: NDArray[np.uint8], *, seller: str = "default") -> Plan:
    return _ids_batch("cancel_batch", Op.CANCEL_BATCH, reservation_ids, seller)


def extend_batch(
    reservation_ids: NDArray[np.uint8],
    *,
    ttl_ms: int | NDArray[np.uint32],
    seller: str = "default",
) -> Plan:
    if ttl_ms is None:
        raise TypeError("ttl_ms must be int or uint32[n], not NoneType")
    ids = _column(reservation_ids, "reservation_ids", "uint8")
    texts = [None, _seller(seller)]
    return _batch("extend_batch", Op.EXTEND_BATCH, [ids, _ttls(ttl_ms, len(ids))], texts)


def availability_batch(sku_ids: NDArray[np.uint32], location_ids: NDArray[np.uint16]) -> Plan:
    skus = _column(sku_ids, "sku_ids", "uint32")
    places = _column(location_ids, "location_ids", "uint16", len(skus))
    found = np.empty(len(skus), _LEVEL)
    piece_rows = _PIECE_BYTES // 6
    for begin in range(0, len(skus), piece_rows):
        end = min(begin + piece_rows, len(skus))
        fields = [_bytes_of(skus[begin:end]), _bytes_of(places[begin:end])]
        read = _wire.read_column((end - begin) * _LEVEL.itemsize)
        data = yield _request(
            "availability_batch", Op.AVAILABILITY_BATCH, fields, read, changes=False
        )
        found[begin:end] = np.frombuffer(data, _LEVEL)
    return found


OPERATIONS: dict[str, Callable[..., Request | Plan]] = {
    function.__name__: function
    for function in (
        reserve,
        reserve_lines,
        commit,
        ship,
        release,
        cancel,
        extend,
        reservation,
        receive,
        issue,
        adjust,
        set_on_hand,
        set_policy,
        availability,
        barrier,
        sku_ids,
        location_ids,
        sku_names,
        location_names,
        reserve_batch,
        receive_batch,
        issue_batch,
        adjust_batch,
        commit_batch,
        ship_batch,
        release_batch,
        cancel_batch,
        extend_batch,
        availability_batch,
    )
}
