# SPDX-License-Identifier: Apache-2.0
"""`inventory export` and `inventory log`: files read back, lines, messages, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest
from test_walk import killed_store, write_at

import inventory
from inventory.cli import main

pytest.importorskip("pyarrow")
import pyarrow.csv
import pyarrow.parquet

SEGMENT_BYTES = 4 << 20


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A closed store `shop.inv` in the current directory, as the examples of the help have it."""
    monkeypatch.chdir(tmp_path)
    with inventory.open("shop.inv", segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("TEE", "LON", 100)
        inv.receive("MUG", "PAR", 1_234, account="ann", reference="PO 1")
        inv.set_policy("MUG", "PAR", safety_stock=4)
        inv.reserve_lines([("TEE", "LON", 2), ("MUG", None, 1)], reservation_id="cart-17")
        inv.reserve("TEE", 3, reservation_id="cart-18")
        inv.release("cart-18")
    return tmp_path / "shop.inv"


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments)


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    code = "from inventory.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options
    )


def rows_in(shop: Path, what: Any = "rows", **options: Any) -> list[dict[str, Any]]:
    with inventory.open(shop, read_only=True) as inv:
        found: list[dict[str, Any]] = inv.to_arrow(what, **options).read_all().to_pylist()
        return found


def read_csv(file: Any) -> Any:
    """Read a CSV back; only an unquoted empty place is null, and account is text though empty."""
    return pyarrow.csv.read_csv(
        file,
        convert_options=pyarrow.csv.ConvertOptions(
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            column_types={"account": pyarrow.string()},
        ),
    )


READERS: dict[str, Callable[[Any], Any]] = {
    "csv": read_csv,
    "parquet": pyarrow.parquet.read_table,
    "pq": pyarrow.parquet.read_table,
}


# ---- export --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", READERS)
def test_what_is_exported_is_what_is_there(shop: Path, suffix: str) -> None:
    result = run("export", "shop.inv", f"stock.{suffix}", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    assert summary == {
        "file": f"stock.{suffix}",
        "format": "csv" if suffix == "csv" else "parquet",
        "what": "rows",
        "rows": 2,
        "bytes": os.path.getsize(f"stock.{suffix}"),
    }
    found = READERS[suffix](f"stock.{suffix}").to_pylist()
    assert found == rows_in(shop)
    with inventory.open(shop, read_only=True) as inv:
        for row in found:
            level = inv.availability(row["sku"], row["location"], seller=row["seller"])
            for name in set(row) - {"seller", "sku", "location"}:
                assert row[name] == getattr(level, name)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("ended", [False, True])
def test_reservations_are_exported(shop: Path, suffix: str, ended: bool) -> None:
    options = ["--ended"] if ended else []
    result = run("export", "shop.inv", f"carts.{suffix}", "--what", "reservations", *options)
    assert result.exit_code == 0, result.output
    found = READERS[suffix](f"carts.{suffix}").to_pylist()
    assert found == rows_in(shop, "reservations", ended=ended)
    assert len(found) == (3 if ended else 2)


def test_standard_output_is_the_csv_alone(shop: Path) -> None:
    result = run_process("export", "shop.inv", "-", "--json")
    assert result.returncode == 0
    assert json.loads(result.stderr)["rows"] == 2
    assert read_csv(pyarrow.py_buffer(result.stdout.encode())).to_pylist() == rows_in(shop)
    assert run_process("export", "shop.inv", "-").stderr == "2 rows\n"  # no bar: no terminal


def test_the_format_may_be_said(shop: Path) -> None:
    assert run("export", "shop.inv", "stock", "--format", "parquet").exit_code == 0
    assert pyarrow.parquet.read_table("stock").num_rows == 2
    assert run("export", "shop.inv", "stock.parquet", "--format", "csv").exit_code == 0
    assert read_csv("stock.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stock.xls"], "--format csv or parquet"),
        (["-", "--format", "parquet"], "not to standard output"),
        (["stock.csv", "--ended"], "--what reservations"),
        (["stock.csv", "--what", "holds"], "'holds' is not one of"),
        (["."], "is a directory"),
    ],
)
def test_usage(shop: Path, arguments: list[str], message: str) -> None:
    result = run("export", "shop.inv", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert os.listdir() == ["shop.inv"]


def test_an_older_file_stays_until_the_new_one_is_complete(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("stock.csv").write_text("old")

    def fail(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("inventory.cli.export._write", fail)
        result = run("export", "shop.inv", "stock.csv", "--json")
    assert result.exit_code == 3
    assert json.loads(result.output)["error"] == "stock.csv: No space left on device"
    assert Path("stock.csv").read_text() == "old"
    assert sorted(os.listdir()) == ["shop.inv", "stock.csv"]  # and no part of a new one
    with Path("stock.csv").open() as reader:  # who reads the old one keeps it
        assert run("export", "shop.inv", "stock.csv").exit_code == 0
        assert reader.read() == "old"
    assert read_csv("stock.csv").num_rows == 2
    assert sorted(os.listdir()) == ["shop.inv", "stock.csv"]


def test_a_file_name_that_is_no_text(shop: Path) -> None:
    name = os.fsdecode(b"st\xffock.csv")
    result = run("export", "shop.inv", name, "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["file"] == "st\N{REPLACEMENT CHARACTER}ock.csv"
    assert Path(name).read_text().count("\n") == 3  # the names of the columns, and two rows


def test_a_file_that_can_not_be_written(shop: Path) -> None:
    result = run("export", "shop.inv", "absent/stock.csv")
    assert result.exit_code == 3
    assert "absent/stock.csv: No such file or directory" in result.output
    result = run("export", "shop.inv", "/dev/full", "--format", "csv")
    assert result.exit_code == 3
    assert "/dev/full: No space left on device" in result.output
    assert Path("/dev/full").exists()


def test_a_store_that_can_not_be_opened(shop: Path) -> None:
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES):
        result = run("export", "shop.inv", "stock.csv")
    assert result.exit_code == 3
    assert "STORE_LOCKED" in result.output
    assert not Path("stock.csv").exists()
    assert run("export", "absent.inv", "stock.csv").exit_code == 2


def test_without_pyarrow_it_says_how_to_install_it(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("export", "shop.inv", "stock.csv")
    assert result.exit_code == 1
    assert "pip install 'inventory-engine[arrow]'" in result.output


def test_a_bar_is_shown_on_a_terminal_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from inventory.cli import export

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, now_s = Terminal(), [100.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    bar = export._Bar("exporting rows")
    bar.update(0.25)
    assert terminal.getvalue() == ""
    now_s[0] += export._QUIET_S
    bar.update(0.5)
    bar.update(1.0)
    bar.close()
    assert "exporting rows" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


# ---- log -----------------------------------------------------------------------------------------


def test_the_log_is_a_line_an_entry(shop: Path) -> None:
    result = run("log", "shop.inv")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    entries = [entry for record in inventory.log.read(shop) for entry in record.entries]
    assert [int(line.split()[0]) for line in lines] == [entry.lsn for entry in entries]
    assert [line.split()[2] for line in lines] == [entry.kind for entry in entries]
    receive = next(line for line in lines if "MUG" in line and "RECEIVE" in line)
    assert receive.endswith('ADD 1,234 MUG PAR  account=ann  reference="PO 1"')
    reserve = next(line for line in lines if "RESERVE" in line)
    assert "cart-17  -> HELD  HOLD 2 TEE LON  HOLD 1 MUG PAR  expires=20" in reserve
    assert any(line.endswith("SET_SAFETY 4 MUG PAR") for line in lines)


def test_the_log_as_json(shop: Path) -> None:
    result = run("log", "shop.inv", "--json")
    found = [json.loads(line) for line in result.output.splitlines()]
    records = list(inventory.log.read(shop))
    assert [entry["kind"] for entry in found] == [e.kind for r in records for e in r.entries]
    reserve = next(entry for entry in found if entry["kind"] == "RESERVE")
    record = next(r for r in records if r.lsn == reserve["record_lsn"])
    assert reserve["reservation_id"] == "cart-17"
    assert reserve["lines"][0] == {
        "sku": "TEE", "location": "LON", "qty": 2, "op": "HOLD", "free": False
    }  # fmt: skip
    for name in ("now_unix_ms", "epoch", "segment", "offset"):
        assert reserve[name] == getattr(record, name)


def test_filters(shop: Path) -> None:
    def kinds(*arguments: str) -> list[str]:
        result = run("log", "shop.inv", "--json", *arguments)
        assert result.exit_code == 0
        return [json.loads(line)["kind"] for line in result.output.splitlines()]

    everything = kinds()
    assert kinds("--reservation", "cart-17") == ["RESERVE"]
    assert kinds("--reservation", "cart-18") == ["RESERVE", "RELEASE"]
    assert kinds("--reservation", "CART-18") == []
    assert kinds("--sku", "MUG") == ["RECEIVE", "POLICY", "RESERVE"]
    assert kinds("--sku", "MUG", "--reservation", "cart-18") == []
    assert kinds("--limit", "3") == everything[:3]
    assert kinds("--limit", "1", "--sku", "TEE") == ["RECEIVE"]
    last = list(inventory.log.read(shop))[-1]
    assert kinds("--after-lsn", str(last.lsn)) == [entry.kind for entry in last.entries]
    assert kinds("--after-lsn", str(last.lsn_end)) == []


def test_a_reservation_by_uuid_in_any_case(shop: Path) -> None:
    key = "0190b3c0-1111-7abc-8def-0123456789ab"
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES) as inv:
        inv.reserve("TEE", 1, reservation_id=key)
    assert key in run("log", "shop.inv", "--reservation", key.upper()).output
    assert run("log", "shop.inv", "--reservation", "z" * 36).output == ""


def test_names_can_not_spoil_the_terminal(shop: Path) -> None:
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("A\x1b[31m\nB", "LON", 1)
    output = run("log", "shop.inv").output
    assert "\x1b" not in output
    assert 'ADD 1 "A\\u001b[31m\\nB" LON' in output


def test_more_lines_than_are_printed_at_once(shop: Path) -> None:
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES, durability="interval") as inv:
        for _ in range(600):
            inv.receive("TEE", "LON", 1)
    entries = sum(len(record.entries) for record in inventory.log.read(shop))
    assert len(run("log", "shop.inv").output.splitlines()) == entries
    assert len(run("log", "shop.inv", "--limit", "512").output.splitlines()) == 512


@pytest.mark.parametrize(("option", "bad"), [("--limit", "0"), ("--after-lsn", "-1")])
def test_figures_out_of_range(shop: Path, option: str, bad: str) -> None:
    assert run("log", "shop.inv", option, bad).exit_code == 2


def test_the_log_of_a_killed_store(tmp_path: Path) -> None:
    lsns = killed_store(tmp_path / "shop")
    result = run_process("log", str(tmp_path / "shop"), "--json")
    assert (result.returncode, result.stderr) == (0, "")
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["lsn"] for entry in entries if entry["kind"] == "RECEIVE"] == lsns


def test_a_torn_tail_is_noted(tmp_path: Path) -> None:
    killed_store(tmp_path / "shop")
    whole = run_process("log", str(tmp_path / "shop"))
    last = list(inventory.log.read(tmp_path / "shop"))[-1]
    write_at(tmp_path / "shop", last, last.lsn_end - last.lsn, b"\xab" * 100)
    torn = run_process("log", str(tmp_path / "shop"))
    assert torn.returncode == 0
    assert torn.stdout == whole.stdout
    assert torn.stderr.startswith(f"the log ends at lsn {last.lsn_end}; 10")
    assert "never acknowledged" in torn.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_corrupt_byte_is_named_after_what_is_whole(shop: Path, as_json: bool) -> None:
    records = list(inventory.log.read(shop))
    whole = sum(len(record.entries) for record in records[:3])
    write_at(shop, records[3], 50, b"\xff\xff")
    result = run_process("log", "shop.inv", *(["--json"] if as_json else []))
    assert result.returncode == 3
    place = f"segment {records[3].segment} offset {records[3].offset}"
    lines = result.stdout.splitlines()
    if as_json:
        assert json.loads(lines.pop())["code"] == "LOG_CORRUPT"
    else:
        assert result.stderr.startswith("LOG_CORRUPT")
        assert place in result.stderr
    assert len(lines) == whole


def test_a_log_that_can_not_be_read(shop: Path, tmp_path: Path) -> None:
    with inventory.open(shop, segment_bytes=SEGMENT_BYTES):
        result = run("log", "shop.inv")
    assert result.exit_code == 3
    assert "STORE_LOCKED" in result.output
    (tmp_path / "empty").mkdir()
    result = run("log", "empty")
    assert result.exit_code == 3
    assert "there is no store to read" in result.output
    assert run("log", "absent.inv").exit_code == 2


@pytest.mark.parametrize("command", ["export", "log"])
def test_the_examples_of_the_help_run(shop: Path, command: str) -> None:
    said = run(command, "--help").output
    examples = [line[4:].split() for line in said.splitlines() if line.startswith("  $ inventory")]
    assert len(examples) > 2
    for example in examples:
        assert run_process(*example[1:]).returncode == 0, example
