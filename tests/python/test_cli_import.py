# SPDX-License-Identifier: Apache-2.0
"""`inventory import`: figures of files into stores, bad rows, and going on after a crash."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import scale
from pyarrow import parquet

import inventory
from inventory.cli import main
from inventory.errors import DiskFull
from inventory.loading import PROGRESS_NAME, Columns, open_source, progress, run
from inventory.loading import source as source_module
from inventory.loading.check import checked
from inventory.loading.source import CsvSource

SEGMENT_BYTES = 4 << 20
HEADER = b"sku,location,on_hand\n"


@pytest.fixture(autouse=True)
def small_log_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stores of these tests are small: so are their log files."""
    monkeypatch.setattr("inventory.store._SEGMENT_BYTES", SEGMENT_BYTES)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop"
    inventory.open(path, segment_bytes=SEGMENT_BYTES).close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stock.csv"


def load(shop: Path, file: Path, *options: str, **more: Any) -> click.testing.Result:
    arguments = ["import", str(shop), str(file), *options]
    return click.testing.CliRunner().invoke(main, arguments, **more)


def summary(shop: Path, file: Path, *options: str, status: int = 0) -> Any:
    result = load(shop, file, *options, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def on_hand(shop: Path, *rows: tuple[str, str]) -> list[int]:
    with inventory.open(shop, read_only=True) as inv:
        return [inv.availability(sku, location).on_hand for sku, location in rows]


def wrong_lines(stderr: str) -> dict[int, str]:
    """Line number -> reason, of what was reported."""
    lines = [line for line in stderr.splitlines() if line.startswith("line ")]
    parts = [line.removeprefix("line ").split(": ", 1) for line in lines]
    return {int(number): reason for number, reason in parts}


# ---- what it means ------------------------------------------------------------------------------


def test_figures_are_absolute(shop: Path, file: Path) -> None:
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("LESS", "LON", 10)
        inv.receive("MORE", "LON", 10)
        inv.receive("SAME", "LON", 10)
        inv.receive("UNLISTED", "LON", 10)
        inv.reserve("LESS", 8, location="LON", reservation_id="r")
    file.write_bytes(HEADER + b"LESS,LON,4\nMORE,LON,12\nSAME,LON,10\nNEW,PAR,3\nZERO,PAR,0\n")
    found = summary(shop, file)
    assert (found["rows"], found["bad"], found["skus"], found["locations"]) == (5, 0, 5, 2)
    rows = [("LESS", "LON"), ("MORE", "LON"), ("SAME", "LON"), ("UNLISTED", "LON"), ("NEW", "PAR")]
    assert on_hand(shop, *rows) == [4, 12, 10, 10, 3]
    with inventory.open(shop, read_only=True) as inv:
        assert inv.availability("LESS", "LON").short == 4
        assert [level.on_hand for level in inv.availability("ZERO").levels] == [0]
    lsn = inventory.verify(shop).lsn
    again = summary(shop, file)
    assert (again["rows"], inventory.verify(shop).lsn - lsn < 1_000) == (5, True)
    assert not (shop / PROGRESS_NAME).exists()


def test_the_later_line_of_a_row_counts(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER + b"A,L,1\nA,M,5\nA,L,2\nB,L,0\nA,L,7\nB,L,3\n")
    summary(shop, file)
    assert on_hand(shop, ("A", "L"), ("A", "M"), ("B", "L")) == [7, 5, 3]


def test_names_of_columns_delimiter_and_seller(shop: Path, file: Path) -> None:
    file.write_bytes(b"note;Menge;Artikel;Lager\nx;5;A;L\n")
    options = ["--sku-column", "Artikel", "--location-column", "Lager", "--on-hand-column",
               "Menge", "--delimiter", ";", "--seller", "acme"]  # fmt: skip
    assert summary(shop, file, *options)["rows"] == 1
    with inventory.open(shop, read_only=True) as inv:
        assert inv.availability("A", "L", seller="acme").on_hand == 5


def test_from_a_pipe(shop: Path) -> None:
    result = load(shop, Path("-"), input=HEADER + b"A,L,5\n")
    assert result.exit_code == 0
    assert on_hand(shop, ("A", "L")) == [5]


@pytest.mark.parametrize(
    "text",
    [
        HEADER + b"A,L,5\nB,L,6\n",
        HEADER + b"A,L,5\nB,L,6",
        b"\xef\xbb\xbf" + HEADER + b"A,L,5\nB,L,6\n",
        b"sku,location,on_hand\r\nA,L,5\r\nB,L,6\r\n",
        b"sku,location,on_hand\r\n\r\nA,L,5\r\n\n\r\nB,L,6\r\n\r\n",
        b'"sku","location","on_hand"\n"A","L","5"\n"B","L","6"\n',
        b"on_hand,x,sku,location\n5,,A,L\n 6 ,\xff,B,L\n",
        b'x\xff,"a\nb",sku,location,on_hand\n1,"two\r\n\nlines, ""quoted""",A,L,5\n,,B,L,0006\n',
    ],
    ids=["plain", "no-end", "bom", "crlf", "empty-lines", "quoted", "order", "newlines"],
)
def test_dialects(shop: Path, file: Path, text: bytes) -> None:
    file.write_bytes(text)
    assert summary(shop, file)["rows"] == 2
    assert on_hand(shop, ("A", "L"), ("B", "L")) == [5, 6]


def test_names_at_their_limits(shop: Path, file: Path) -> None:
    sku, location = "é" * 64, "x" * 64
    file.write_text(
        f"sku,location,on_hand\n{sku},{location},2147483647\n{sku}x,L,1\nA,{location}x,1\n"
        "A,L,2147483648\nA,L,99999999999999999999\n",
        encoding="utf-8",
    )
    result = load(shop, file)
    assert result.exit_code == 1
    assert wrong_lines(result.stderr) == {
        3: "sku: longer than 128 bytes",
        4: "location: longer than 64 bytes",
        5: "on_hand: above 2,147,483,647",
        6: "on_hand: above 2,147,483,647",
    }
    assert on_hand(shop, (sku, location)) == [2147483647]


# ---- bad rows -----------------------------------------------------------------------------------

BAD = (
    HEADER + b"A,L,1\n"
    b",L,1\n"  # 3
    b"A,,1\n"
    b"A,L,\n"
    b"A,L,1.5\n"
    b"A,L,-2\n"
    b"A,L,x\n"
    b"A,L,0x1F\n"
    b"A\xff,L,1\n"
    b"A,L\xff,1\n"
    b"A,L,\xff\n"
    b"A,L\n"  # 13
    b"A,L,1,2\n"
    b"\n"
    b"A,L,+3\n"  # 16
    b"B,L,4\n"
)
REASONS = {
    3: "sku: empty",
    4: "location: empty",
    5: "on_hand: empty",
    6: "on_hand: not a whole number",
    7: "on_hand: negative",
    8: "on_hand: not a whole number",
    9: "on_hand: not a whole number",
    10: "sku: not UTF-8",
    11: "location: not UTF-8",
    12: "on_hand: not a whole number",
    13: "2 fields, the header has 3",
    14: "4 fields, the header has 3",
    16: "on_hand: not a whole number",
}


def test_bad_rows_are_named_by_line(shop: Path, file: Path, tmp_path: Path) -> None:
    file.write_bytes(BAD)
    bad = tmp_path / "bad.csv"
    result = load(shop, file, "--bad-rows", str(bad), "--json")
    assert result.exit_code == 1
    assert wrong_lines(result.stderr) == REASONS
    found = json.loads(result.stdout)
    assert (found["rows"], found["bad"]) == (2, len(REASONS))
    assert on_hand(shop, ("A", "L"), ("B", "L")) == [1, 4]
    with bad.open(encoding="utf-8", errors="surrogateescape", newline="") as written:
        rows = list(csv.DictReader(written))
    assert {int(row["line"]): row["reason"] for row in rows} == REASONS
    assert (rows[4]["sku"], rows[4]["location"], rows[4]["on_hand"]) == ("A", "L", "-2")
    assert rows[7]["sku"] == "A\udcff", "bytes stay as they are"
    assert summary(shop, bad, status=1)["bad"] == len(REASONS), "it can be imported itself"


def test_quotes_out_of_place(shop: Path, file: Path) -> None:
    """A block that is read row by row; line numbers count newlines inside of quotes."""
    file.write_bytes(
        HEADER + b'"A\n\n2",L,1\n'  # lines 2 to 4
        b'"B"x,L,2\n'  # 5
        b'5" C,L,3\n'
        b"short\n"  # 7
        b"D,L,-1\n"  # 8
        b'"E,L,4\n'  # 9: never closed
        b"\nF\xff,L,1\n"  # 11
        b"G,L,5\n"
    )
    result = load(shop, file)
    assert result.exit_code == 1
    found = wrong_lines(result.stderr)
    assert sorted(found) == [5, 7, 8, 9, 11]
    assert found[5].startswith("no CSV")
    assert found[9].startswith("no CSV")
    assert on_hand(shop, ("A\n\n2", "L"), ('5" C', "L"), ("G", "L")) == [1, 3, 5]


def test_both_ways_to_read_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyarrow makes of well-formed blocks is what the csv module makes of them."""
    random = np.random.default_rng(7)
    pieces = ["A", "é", "x y", "", "\n", '"', ",", "7", "-1", "\r\n", "'"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["sku", "location", "other", "on_hand"])
    for _ in range(3_000):
        writer.writerow(
            ["".join(random.choice(pieces, size=random.integers(1, 5))) for _ in range(4)][
                : 4 - int(random.integers(40) == 0)
            ]
        )
    content = text.getvalue().encode()
    monkeypatch.setattr(source_module, "BLOCK_BYTES", 10_000)

    def everything() -> tuple[list[Any], list[Any]]:
        source = CsvSource(io.BytesIO(content), None, Columns(), ",")
        rows, bad = [], []
        for chunk in source.chunks(None):
            columns = (chunk.lines, chunk.sku, chunk.location, chunk.on_hand)
            rows += list(zip(*(column.tolist() for column in columns), strict=True))
            bad += chunk.bad
        return rows, bad

    fast = everything()
    ways: list[object] = []
    odd = CsvSource._odd_chunk

    def counted(self: CsvSource) -> Any:
        ways.append(self)
        return odd(self)

    monkeypatch.setattr(CsvSource, "_odd_chunk", counted)
    assert (everything(), ways) == (fast, []), "the writer puts every quote in its place"
    monkeypatch.setattr(CsvSource, "_well_formed_chunk", lambda self: None)
    assert everything() == fast
    assert ways
    expected = list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]
    assert [row[1] for row in fast[0]] == [r[0].encode() for r in expected if len(r) == 4]


def test_nul_is_no_text(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER + b"A,L,1\nB\0,L,1\nC,L,3\n")
    result = load(shop, file)
    assert wrong_lines(result.stderr) == {3: "no CSV: line contains NUL"}
    assert on_hand(shop, ("A", "L"), ("C", "L")) == [1, 3]


def test_a_misshapen_line_that_is_no_utf8(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER + b"A,L,1\nB,L\xff\nC,L,3,\xe4\nD,L,4\n")
    result = load(shop, file)
    assert sorted(wrong_lines(result.stderr)) == [3, 4]
    assert on_hand(shop, ("A", "L"), ("D", "L")) == [1, 4]


@pytest.mark.parametrize("bad_max", [0, 1, 2])
def test_max_bad(shop: Path, file: Path, bad_max: int) -> None:
    file.write_bytes(HEADER + b"A,L,1\nA,L,x\nA,L,y\nA,L,2\n")
    result = load(shop, file, "--max-bad", str(bad_max))
    assert result.exit_code == (1 if bad_max == 2 else 3)
    assert sorted(wrong_lines(result.stderr)) == [3, 4][: bad_max + 1]
    if bad_max < 2:
        assert f"TOO_MANY_BAD: more than {bad_max} bad rows, the last one in line" in result.stderr
        with inventory.open(shop, read_only=True) as inv, pytest.raises(inventory.UnknownSku):
            inv.availability("A", "L")
    else:
        assert on_hand(shop, ("A", "L")) == [2]


def test_many_bad_rows_are_not_all_shown(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER + b"A,L,x\n" * 100)
    result = load(shop, file)
    assert result.exit_code == 1
    assert len(wrong_lines(result.stderr)) == 20
    assert "--bad-rows" in result.stderr
    file.write_bytes(HEADER + b"A,L,x\n" * 101)
    assert load(shop, file).exit_code == 3


# ---- files that can't be used -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"sku,location\nA,L\n", "column 'on_hand' is not there"),
        (b"sku,sku,location,on_hand\n", "column 'sku' is there more than once"),
        (b'"sku,location,on_hand\n', "the header line is no CSV"),
        (b"\n", "column 'sku' is not there"),
        (b"\x00\xff\x10" * 200, "no CSV: line contains NUL"),
        ("sku,location,on_hand\nA,L,1\n".encode("utf-16"), "UTF-16"),
        (b"PAR1xxxx", "no Parquet"),
        (b"x" * (2 << 20), "longer than 1,048,576 bytes"),
    ],
)
def test_unusable_files(shop: Path, file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    result = load(shop, file)
    assert result.exit_code == 2
    assert said in result.stderr
    assert inventory.verify(shop).rows == 0


def test_header_only(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER)
    assert summary(shop, file)["rows"] == 0
    file.write_bytes(HEADER.rstrip())
    assert summary(shop, file)["rows"] == 0


def test_a_line_without_end(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER + b"A,L,1\n" + b"x" * (3 << 20))
    result = load(shop, file)
    assert result.exit_code == 3
    assert "line 3 is longer than 1,048,576 bytes" in result.stderr


def test_usage(shop: Path, file: Path, tmp_path: Path) -> None:
    assert load(shop, tmp_path / "absent.csv").exit_code == 2
    file.write_bytes(HEADER)
    for options in (["--delimiter", "::"], ["--max-bad", "-1"], ["--sku-column", "location"]):
        assert load(shop, file, *options).exit_code == 2
    (tmp_path / "no-store").mkdir()
    assert load(tmp_path / "no-store", file).exit_code == 3
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES):
        assert "STORE_LOCKED" in load(shop, file).stderr
    result = load(shop, file, "--bad-rows", str(tmp_path / "no" / "such.csv"))
    assert (result.exit_code, "IO_ERROR" in result.stderr) == (3, True)


# ---- Parquet ------------------------------------------------------------------------------------


def test_parquet(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "stock.parquet"
    table = pa.table(
        {
            "sku": pa.array(["A", "B", None, "C", "D", "E"]).dictionary_encode(),
            "location": pa.array([1, 2, 1, 1, None, 1], pa.int32()),
            "on_hand": pa.array([5.0, 6.0, 1.0, 1.5, 1.0, None]),
            "other": pa.array([None] * 6, pa.string()),
        }
    )
    parquet.write_table(table, file, row_group_size=2)
    result = load(shop, file)
    assert result.exit_code == 1
    assert wrong_lines(result.stderr) == {
        3: "sku: missing",
        4: "on_hand: not a whole number",
        5: "location: missing",
        6: "on_hand: missing",
    }
    assert on_hand(shop, ("A", "1"), ("B", "2")) == [5, 6]


@pytest.mark.parametrize(
    ("values", "kind", "reasons"),
    [
        ([-1, 2**40, 3, None], pa.int64(), ["negative", "above 2,147,483,647", "missing"]),
        ([2**64 - 1, 3], pa.uint64(), ["above 2,147,483,647"]),
        ([float("nan"), float("inf"), -0.5], pa.float32(),
         ["not a whole number", "above 2,147,483,647", "not a whole number"]),
        (["3", "x", None, b"\xff"], pa.binary(), ["not a whole number", "missing",
                                                  "not a whole number"]),
    ],
    ids=["int64", "uint64", "float", "text"],
)  # fmt: skip
def test_parquet_figures(tmp_path: Path, values: list[Any], kind: Any, reasons: list[str]) -> None:
    file = tmp_path / "stock.parquet"
    names = pa.array(["A"] * len(values))
    table = pa.table({"sku": names, "location": names, "on_hand": pa.array(values, kind)})
    parquet.write_table(table, file)
    source = open_source(str(file), Columns())
    (chunk,) = source.chunks(None)
    source.close()
    rows, bad = checked(chunk)
    assert [row.reason for row in bad] == [f"on_hand: {reason}" for reason in reasons]
    assert len(rows.lines) == len(values) - len(bad)


def test_parquet_of_other_types(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "stock.parquet"
    names = pa.array(["A"])
    parquet.write_table(pa.table({"sku": names, "location": names}), file)
    assert "'on_hand' is not there" in load(shop, file).stderr
    dates = pa.array([0], pa.date32())
    parquet.write_table(pa.table({"sku": names, "location": names, "on_hand": dates}), file)
    result = load(shop, file)
    assert (result.exit_code, "is of type date32" in result.stderr) == (2, True)


# ---- going on -----------------------------------------------------------------------------------


class Stopped(Exception):
    """What ends an import in the middle, in these tests."""


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "BLOCK_BYTES", 64)
    monkeypatch.setattr(source_module, "BATCH_ROWS", 4)


def stop_after(monkeypatch: pytest.MonkeyPatch, chunk_count: int, error: BaseException) -> None:
    """Let the store refuse all after so many chunks."""
    usual = inventory.Inventory.availability_batch
    left = [chunk_count]

    def availability_batch(self: Any, *arguments: Any) -> Any:
        if left[0] == 0:
            raise error
        left[0] -= 1
        return usual(self, *arguments)

    monkeypatch.setattr(inventory.Inventory, "availability_batch", availability_batch)


def lines(count: int) -> bytes:
    return HEADER + b"".join(b"SKU-%d,L%d,%d\n" % (n // 3, n % 3, n % 7) for n in range(count))


def stock_of(shop: Path) -> dict[tuple[str, str], int]:
    found = {}
    with inventory.open(shop, read_only=True) as inv:
        number = 0
        while True:
            try:
                levels = inv.availability(f"SKU-{number}").levels
            except inventory.UnknownSku:
                return found
            found |= {(level.sku, level.location): level.on_hand for level in levels}
            number += 1


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("error", [DiskFull(), KeyboardInterrupt()], ids=["disk-full", "ctrl-c"])
def test_goes_on_where_it_was(
    shop: Path, tmp_path: Path, kind: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"stock.{kind}"
    file.write_bytes(lines(50))
    if kind == "parquet":
        table = pyarrow.csv.read_csv(io.BytesIO(lines(50)))
        parquet.write_table(table, file, row_group_size=6)
    with monkeypatch.context() as patch:
        stop_after(patch, 3, error)
        result = load(shop, file)
    assert result.exit_code == (3 if isinstance(error, DiskFull) else 130)
    kept = progress.load(shop)
    assert kept is not None
    assert 0 < kept.rows < 50
    assert len(stock_of(shop)) == kept.rows
    result = load(shop, file, "--json")
    assert f"going on after {kept.rows} rows" in result.stderr
    found = json.loads(result.stdout)
    assert (found["rows"], found["rows_before"]) == (50, kept.rows)
    assert stock_of(shop) == {(f"SKU-{n // 3}", f"L{n % 3}"): n % 7 for n in range(50)}
    assert not (shop / PROGRESS_NAME).exists()


@pytest.mark.usefixtures("small_chunks")
def test_too_many_bad_rows_keep_the_progress(shop: Path, file: Path, tmp_path: Path) -> None:
    """Nothing of the chunk is applied; a larger --max-bad goes on, a corrected file begins anew."""
    bad = tmp_path / "bad.csv"
    content = lines(12) + b"SKU-0,L0,99\nSKU-0,L1,x\nSKU-0,L2,y\n"
    file.write_bytes(content)
    assert load(shop, file, "--max-bad", "1", "--bad-rows", str(bad)).exit_code == 3
    kept = progress.load(shop)
    assert kept is not None
    assert kept.bad == 0
    assert stock_of(shop)["SKU-0", "L0"] == 0
    result = load(shop, file, "--max-bad", "2", "--bad-rows", str(bad), "--json")
    found = json.loads(result.stdout)
    assert (found["rows"], found["bad"], found["rows_before"]) == (13, 2, kept.rows)
    assert [line.split(",")[0] for line in bad.read_text().splitlines()] == ["line", "15", "16"]
    assert stock_of(shop)["SKU-0", "L0"] == 99


@pytest.mark.usefixtures("small_chunks")
def test_a_changed_file_is_refused(
    shop: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(lines(30))
    with monkeypatch.context() as patch:
        stop_after(patch, 2, DiskFull())
        load(shop, file)
    other = tmp_path / "other.csv"
    other.write_bytes(lines(30))
    refused = {
        "IMPORT_UNFINISHED": [(other, []), (file, ["--seller", "x"]), (Path("-"), [])],
        "SOURCE_CHANGED": [(file, [])],
    }
    for code, attempts in refused.items():
        if code == "SOURCE_CHANGED":
            file.write_bytes(lines(31))
        for path, options in attempts:
            result = load(shop, path, *options, "--json", input=HEADER)
            assert result.exit_code == 3
            assert json.loads(result.stdout)["code"] == code
            assert "--restart" in result.stdout
    assert summary(shop, file, "--restart")["rows_before"] == 0
    assert len(stock_of(shop)) == 31


@pytest.mark.usefixtures("small_chunks")
def test_names_of_files_that_are_no_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, file = tmp_path / "shop\udcff", tmp_path / "stock\udcff.csv"
    file.write_bytes(lines(20))
    shop.mkdir()
    assert "shop\ufffd is not a store" in load(shop, file, "--json").stdout
    inventory.open(shop, segment_bytes=SEGMENT_BYTES).close()
    bad = tmp_path / "bad\udcff"
    with monkeypatch.context() as patch:
        stop_after(patch, 2, DiskFull())
        assert load(shop, file, "--bad-rows", str(bad)).exit_code == 3
    assert "stock\\xff.csv is unfinished" in load(shop, Path("-"), input=HEADER).stderr
    assert summary(shop, file, "--bad-rows", str(bad))["rows"] == 20


@pytest.mark.parametrize("piped", [False, True])
def test_progress_on_a_terminal(shop: Path, file: Path, piped: bool) -> None:
    file.write_bytes(lines(20))
    code = (
        "from inventory.cli import load, main\n"
        "load._QUIET_S = 0\n"
        f"main(['import', {str(shop)!r}, {('-' if piped else str(file))!r}])\n"
    )
    terminal, inner = os.openpty()
    with file.open("rb") as content, os.fdopen(terminal, "rb", buffering=0) as shown:
        subprocess.run(
            [sys.executable, "-c", code],
            stdin=content,
            stdout=subprocess.DEVNULL,
            stderr=inner,
            check=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(inner)
        text = shown.read(4096).decode()
    assert ("20 rows" if piped else "100%") in text, text


def test_progress_that_cannot_be_read(shop: Path, file: Path) -> None:
    file.write_bytes(HEADER + b"A,L,1\n")
    (shop / PROGRESS_NAME).write_bytes(b"{")
    result = load(shop, file)
    assert (result.exit_code, "IMPORT_UNFINISHED" in result.stderr) == (3, True)
    assert summary(shop, file, "--restart")["rows"] == 1


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_grows_while_it_is_read(
    shop: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(lines(30))
    usual = run.Import._import

    def growing(self: Any, *arguments: Any) -> None:
        with file.open("ab") as more:
            more.write(b"SKU-0,L0,1\n")
        usual(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run.Import, "_import", growing)
        patch.setattr(source_module, "BLOCK_BYTES", 1 << 20)
        result = load(shop, file)
    assert (result.exit_code, "SOURCE_CHANGED" in result.stderr) == (3, True)


def test_killed_and_gone_on(tmp_path: Path, file: Path) -> None:
    """SIGKILL at several points of one import; the end equals an import that was left alone."""
    row_count = max(200_000, scale.scaled(1_000_000))
    random = np.random.default_rng(11)
    figures = random.integers(0, 1_000, size=row_count) * (random.random(row_count) > 0.01)
    with file.open("wb") as target:
        target.write(HEADER)
        target.writelines(b"SKU-%d,L%d,%d\n" % (n // 7, n % 7, q) for n, q in enumerate(figures))
        target.write(b"SKU-0,L0,123456\n")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for path in (killed, whole):
        inventory.open(path, segment_bytes=SEGMENT_BYTES).close()
    rows_before = 0
    for _ in range(3):
        reading, writing = os.pipe()
        worker = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("import_worker.py"), str(writing),
             str(killed), str(file)],
            pass_fds=[writing], stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(writing)
        with open(reading, "rb", buffering=0) as said:
            assert said.read(1), worker.communicate()[1]
        worker.send_signal(signal.SIGKILL)
        _, stderr = worker.communicate()
        assert worker.returncode == -signal.SIGKILL, stderr
        kept = progress.load(killed)
        assert kept is not None
        assert rows_before < kept.rows < row_count
        assert (b"going on after" in stderr) == (rows_before > 0)
        rows_before = kept.rows
    found = summary(killed, file)
    assert (found["rows"], found["rows_before"]) == (row_count + 1, rows_before)
    assert summary(whole, file)["rows_before"] == 0
    names = [f"SKU-{n}" for n in range(-(-row_count // 7))]
    tables = []
    for path in (killed, whole):
        report = inventory.verify(path)
        assert report.ok, report.problems
        assert report.rows == row_count
        with inventory.open(path, read_only=True) as inv:
            skus = np.repeat(inv.sku_ids(names), 7)[:row_count]
            places = np.resize(inv.location_ids([f"L{n}" for n in range(7)]), row_count)
            tables.append(inv.availability_batch(skus, places))
    figures[0] = 123_456
    assert tables[0]["known"].all()
    assert (tables[0]["on_hand"] == figures).all()
    assert (tables[0] == tables[1]).all()
