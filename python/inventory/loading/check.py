# SPDX-License-Identifier: Apache-2.0
"""Which rows of a chunk can be used, and what is wrong with the others.

Columns are checked whole; only a row that is bad is looked at by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute

if TYPE_CHECKING:
    from inventory.loading.source import Chunk

__all__ = ["BadRow", "Rows", "checked", "is_utf8"]

SKU_BYTES_MAX = 128
LOCATION_BYTES_MAX = 64
ON_HAND_MAX = 2_147_483_647
_DIGITS_MAX = 18  # of text that surely fits 64 bits

_Mask = npt.NDArray[np.bool_]
compute: Any = pyarrow.compute  # its functions are made at import: no type checker knows them


class BadRow(msgspec.Struct, frozen=True):
    """A row that can't be used: its line, why, and its fields as far as they could be read (bytes
    that are no UTF-8 as surrogates, as Python's `surrogateescape` does)."""

    line: int
    reason: str
    sku: str = ""
    location: str = ""
    on_hand: str = ""


class Rows(msgspec.Struct):
    """Good rows in the order of the file: names as Arrow text, figures as int64."""

    sku: Any
    location: Any
    on_hand: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]


def checked(chunk: Chunk) -> tuple[Rows, list[BadRow]]:
    """Sort a chunk into good rows and bad ones, the latter by line."""
    sku, sku_faults = _names(chunk.sku, SKU_BYTES_MAX)
    location, location_faults = _names(chunk.location, LOCATION_BYTES_MAX)
    on_hand, on_hand_faults = _figures(chunk.on_hand)
    faults = [
        *(("sku", reason, mask) for reason, mask in sku_faults),
        *(("location", reason, mask) for reason, mask in location_faults),
        *(("on_hand", reason, mask) for reason, mask in on_hand_faults),
    ]
    good = np.ones(len(chunk.lines), bool)
    bad = list(chunk.bad)
    for field, reason, mask in faults:
        for index in np.flatnonzero(mask & good):  # the first fault of a row is the one it gets
            bad.append(
                BadRow(
                    int(chunk.lines[index]),
                    f"{field}: {reason}",
                    _shown(chunk.sku[index]),
                    _shown(chunk.location[index]),
                    _shown(chunk.on_hand[index]),
                )
            )
        good &= ~mask
    lines = chunk.lines
    if not good.all():
        keep = pyarrow.array(good)
        sku, location = sku.filter(keep), location.filter(keep)
        on_hand, lines = on_hand[good], lines[good]
    bad.sort(key=lambda row: row.line)
    return Rows(_as_text(sku), _as_text(location), on_hand, lines), bad


def _as_text(names: Any) -> Any:
    return names.cast(pyarrow.string())


def _shown(value: Any) -> str:
    found = value.as_py()
    if isinstance(found, bytes):
        return found.decode("utf-8", "surrogateescape")
    return "" if found is None else str(found)


def _mask(values: Any) -> _Mask:
    """An Arrow array of booleans as numpy's; null is False."""
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), bool)


def _missing(values: Any) -> list[tuple[str, _Mask]]:
    return [("missing", _mask(values.is_null()))] if values.null_count else []


def _names(values: Any, bytes_max: int) -> tuple[Any, list[tuple[str, _Mask]]]:
    """The names as bytes, and which are none."""
    faults = _missing(values)
    if pyarrow.types.is_integer(values.type):
        return values.cast(pyarrow.string()), faults
    lengths = compute.binary_length(values)
    range_bytes = compute.min_max(lengths).as_py()
    if range_bytes["min"] == 0:
        faults.append(("empty", _mask(compute.equal(lengths, 0))))
    if (range_bytes["max"] or 0) > bytes_max:
        reason = f"longer than {bytes_max} bytes"
        faults.append((reason, _mask(compute.greater(lengths, bytes_max))))
    try:
        values.cast(pyarrow.string())
    except pyarrow.ArrowInvalid:
        is_bad = [not is_utf8(value or b"") for value in values.to_pylist()]
        faults.append(("not UTF-8", np.array(is_bad, bool)))
    return values, faults


def is_utf8(value: bytes) -> bool:
    """Whether bytes are text."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _figures(values: Any) -> tuple[npt.NDArray[np.int64], list[tuple[str, _Mask]]]:
    """The figures, 0 in place of one that is none, and which are none."""
    faults = _missing(values)
    if pyarrow.types.is_binary(values.type):
        numbers, more = _figures_of_text(values)
        faults += more
    elif pyarrow.types.is_floating(values.type):
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
        faults.append(("not a whole number", ~(np.floor(numbers) == numbers)))
    elif pyarrow.types.is_uint64(values.type):
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    else:
        numbers = values.cast(pyarrow.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    too_large = numbers > ON_HAND_MAX
    negative = numbers < 0
    if negative.any():
        faults.append(("negative", negative))
    if too_large.any():
        faults.append((f"above {ON_HAND_MAX:,}", too_large))
    usable = np.where(np.isfinite(numbers) & ~too_large & ~negative, numbers, 0)
    return usable.astype(np.int64), faults


def _figures_of_text(values: Any) -> tuple[npt.NDArray[np.int64], list[tuple[str, _Mask]]]:
    """Decimal digits, spaces around them allowed."""
    faults: list[tuple[str, _Mask]] = []
    try:
        text = values.cast(pyarrow.string())
    except pyarrow.ArrowInvalid:
        readable = [value and value.decode("utf-8", "replace") for value in values.to_pylist()]
        text = pyarrow.array(readable, pyarrow.string())
    is_number = compute.ascii_is_decimal(text)
    if not compute.all(is_number, skip_nulls=True, min_count=0).as_py():
        text = compute.ascii_trim_whitespace(text)
        is_number = compute.ascii_is_decimal(text)
        faults.append(("empty", _mask(compute.equal(compute.binary_length(text), 0))))
        negative = compute.match_substring_regex(text, r"^-[0-9]+$")
        faults.append(("negative", _mask(negative)))
        faults.append(("not a whole number", _mask(compute.invert(is_number))))
    if (compute.max(compute.binary_length(text)).as_py() or 0) > _DIGITS_MAX:
        is_long = compute.greater(compute.binary_length(text), _DIGITS_MAX)
        faults.append((f"above {ON_HAND_MAX:,}", _mask(compute.and_(is_long, is_number))))
        is_number = compute.and_not(is_number, is_long)
    usable = compute.if_else(is_number.fill_null(False), text, "0")
    return usable.cast(pyarrow.int64()).to_numpy(zero_copy_only=False), faults
