# SPDX-License-Identifier: Apache-2.0
"""One set of codes: the C header, its Cython mirror and the Python table say the same."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from inventory import errors
from inventory.models import RemainingLine, ReservationLine, ShortLine, State

CORE = Path(__file__).parents[2] / "src" / "invcore"


def block(text: str, start: str, end: str) -> str:
    return text[text.index(start) : text.index(end)]


def codes_of_header() -> dict[str, int]:
    header = block((CORE / "invcore.h").read_text(), "typedef enum inv_result", "} inv_result;")
    return {name: int(no) for name, no in re.findall(r"INV_(\w+) = (\d+)", header)}


def test_header_and_table_agree() -> None:
    assert codes_of_header() == {code.name: code.number for code in errors.CODES.values()}


def test_header_and_pxd_agree() -> None:
    pxd = block((CORE / "invcore.pxd").read_text(), "enum inv_result:", "inv_result_name")
    assert re.findall(r"^ +INV_(\w+)$", pxd, re.MULTILINE) == list(codes_of_header())


def test_pxd_declares_every_function_of_the_header() -> None:
    header = re.sub(r"/\*.*?\*/", "", (CORE / "invcore.h").read_text(), flags=re.DOTALL)
    declared = re.findall(r"\b(inv_\w+)\(", header)
    pxd = (CORE / "invcore.pxd").read_text()
    assert re.findall(r"\b(inv_\w+)\(", pxd) == declared
    callbacks = len(re.findall(r"ctypedef \w+ \(\*", pxd))
    assert pxd.count(") noexcept") == len(declared) + callbacks


def test_pxd_lists_the_fields_of_every_struct_in_order() -> None:
    header = re.sub(r"/\*.*?\*/", "", (CORE / "invcore.h").read_text(), flags=re.DOTALL)
    pxd = (CORE / "invcore.pxd").read_text()
    structs = re.findall(r"typedef struct (inv_\w+) \{(.*?)\}", header, re.DOTALL)
    assert structs
    for name, body in structs:
        fields = [
            re.sub(r"\[.*", "", part).split()[-1].lstrip("*")
            for declaration in body.split(";")
            for part in declaration.split(",")
            if part.strip()
        ]
        mirrored = re.search(rf"ctypedef struct {name}:\n((?: {{8}}.*\n)+)", pxd)
        assert mirrored is not None, name
        names = [re.sub(r"\[.*", "", line).split()[-1] for line in mirrored[1].splitlines()]
        assert [field.lstrip("*") for field in names] == fields, name


def test_states_are_in_the_order_of_the_core() -> None:
    header = block((CORE / "invcore.h").read_text(), "typedef enum inv_state", "} inv_state;")
    names = re.findall(r"INV_STATE_(\w+) = \d+", header)
    assert names == ["NONE", *(state.value for state in State)]


def test_every_class_has_one_code_and_is_drawn_in_the_tree() -> None:
    drawn = dict(re.findall(r"-- (\w+)[^|\n]*?\s(\d\d)\b", errors.__doc__ or ""))
    for code in errors.CODES.values():
        if code.error is None:
            assert code.number in (0, 1)
            continue
        assert (code.error.code, code.error.code_name) == (code.number, code.name)
        assert code.error.http_status == code.http_status
        assert drawn.pop(code.error.__name__) == str(code.number)
    assert not drawn


def test_details_drawn_are_details_carried() -> None:
    for code in errors.CODES.values():
        if code.error is None:
            continue
        line = re.search(rf"-- {code.error.__name__} .*", errors.__doc__ or "")
        assert line is not None
        for name in re.findall(r"[a-z_]{3,}", line[0].partition(str(code.number))[2]):
            assert name in code.error.detail_names
        for name in code.error.detail_names:
            assert hasattr(code.error, name)


def test_builtin_bases() -> None:
    assert issubclass(errors.BadRequest, ValueError)
    assert issubclass(errors.NoMemory, MemoryError)
    assert issubclass(errors.IoError, OSError)
    assert issubclass(errors.UnknownSku, LookupError)


def test_error_for_leaves_out_what_a_class_does_not_carry() -> None:
    error = errors.error_for(17, actual=12, sku="TEE")
    assert isinstance(error, errors.CasFailed)
    assert error.actual == 12
    assert not hasattr(error, "sku")


@pytest.mark.parametrize("number", [0, 1, 2, 99, -1])
def test_error_for_refuses_what_is_no_error(number: int) -> None:
    with pytest.raises(LookupError):
        errors.error_for(number)


def test_a_detail_that_does_not_exist_is_a_bug() -> None:
    with pytest.raises(TypeError, match="no detail 'actuall'"):
        errors.CasFailed(actuall=1)


SAMPLES = [
    errors.InsufficientStock(
        short=(ShortLine("TEE", "LON", 5, 3, False, ("PAR",)),), retry_after_ms=1_200
    ),
    errors.LocationClosed(short=(ShortLine("TEE", "LON", 5, 0, True, ()),)),
    errors.Expired(reservation_id="cart-1", expired_at_unix_ms=1_000, now_unix_ms=3_500),
    errors.AlreadyCommitted(
        reservation_id="cart-1",
        state=State.ALLOCATED,
        lines=(ReservationLine("TEE", "LON", 2, 0, 2, 0, 0),),
        units=2,
        lsn=77,
    ),
    errors.OverCommit(remaining=(RemainingLine("TEE", "LON", 3, 2),)),
    errors.IdempotencyMismatch(fields=("lines", "ttl_ms")),
    errors.CasFailed(actual=12),
    errors.QtyOutOfRange(field="on_hand", figure=2_147_483_648, limit=2_147_483_647),
    errors.BadRequest(field="qty", figure=0, limit=1),
    errors.LogCorrupt(segment=3, offset=4_096, lsn=70_000, lsn_end=70_040),
    errors.IoError("no such directory", os_errno=2),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: errors.InventoryError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name in error.detail_names:
        assert getattr(again, name) == getattr(error, name)


def test_messages_give_the_figures_and_the_next_step() -> None:
    said = {type(error).__name__: str(error) for error in SAMPLES}
    assert said["InsufficientStock"] == (
        "'TEE' at 'LON': 5 units asked for, 3 available to promise, could be served from 'PAR'. "
        "Nothing changed; try again in 1,200 ms"
    )
    assert "2,500 ms ago" in said["Expired"]
    assert "rehold" in said["Expired"]
    assert "ALLOCATED (2 units)" in said["AlreadyCommitted"]
    assert "cancel()" in said["AlreadyCommitted"]
    assert "3 units named, 2 left" in said["OverCommit"]
    assert "lines, ttl_ms" in said["IdempotencyMismatch"]
    assert "on_hand is 12" in said["CasFailed"]
    assert "2147483648" in said["QtyOutOfRange"]
    assert "segment 3, offset 4096, lsn 70000 to 70040" in said["LogCorrupt"]


def test_io_error_is_an_os_error_with_its_errno() -> None:
    error = errors.IoError(os_errno=13)
    assert error.errno == 13
    assert str(error) == "Permission denied"


@pytest.mark.parametrize(
    "error", [code.error for code in errors.CODES.values() if code.error is not None]
)
def test_every_class_explains_itself_without_details(error: type[errors.InventoryError]) -> None:
    assert str(error())
