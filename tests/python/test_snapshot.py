# SPDX-License-Identifier: Apache-2.0
"""Snapshots as users meet them: by themselves, on demand, on the command line, over kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

import inventory
from inventory.cli import main
from inventory.testing import ManualClock, MemoryStorage

SEGMENT_BYTES = 4 << 20


def files(path: Path, prefix: str) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith(prefix))


def fill(inv: inventory.Inventory, skus: int, holds: int) -> None:
    for i in range(skus):
        inv.receive(f"SKU-{i}", "LON" if i % 2 else "NYC", 100, op_id=f"po-{i}", reason="delivery")
    for i in range(holds):
        inv.reserve(f"SKU-{i % skus}", 1, reservation_id=f"cart-{i}", ttl_ms=3_600_000)
    inv.commit("cart-0")
    inv.release("cart-1")


def test_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    with inventory.open(path) as inv:
        fill(inv, 20, 50)
        taken = inv.snapshot()
        metrics = inv.metrics()
        assert (metrics.snapshots, metrics.snapshot_failures) == (1, 0)
        assert (metrics.snapshot_lsn, metrics.snapshot_bytes) == (taken.lsn, taken.bytes)
        assert taken.duration_ns > 0
        assert files(path, "snap-") == [f"snap-{taken.lsn:016x}"]
        assert (path / f"snap-{taken.lsn:016x}").stat().st_size == taken.bytes
        inv.reserve("SKU-3", 2, reservation_id="later")
    with inventory.open(path) as inv:
        assert inv.recovery.snapshot_lsn == taken.lsn == inv.recovery.lsn_first
        assert inv.recovery.snapshots_damaged == 0
        assert inv.metrics().live_holds == 50
        assert inv.reservation("later").state == "HELD"
        assert inv.reservation("cart-0").state == "ALLOCATED"
        assert inv.reservation("cart-1").state == "RELEASED"
        with pytest.raises(inventory.IdempotencyMismatch):
            inv.receive("SKU-1", "LON", 7, op_id="po-1")
        assert inv.verify().ok


def test_the_log_is_trimmed(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    seen = 0
    for round_ in range(4):
        with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
            inv.receive("MUG", "LON", 5)
            inv.reserve("MUG", 1, reservation_id=f"cart-{round_}", ttl_ms=3_600_000)
            seen = inv.snapshot().lsn
        assert len(files(path, "snap-")) == min(round_ + 1, 2)
    assert len(files(path, "wal-")) <= 4
    records = list(inventory.log.read(path))  # names come from the snapshot
    assert records[0].lsn > 4096
    skus = {line.sku for record in records for entry in record.entries for line in entry.lines}
    assert skus == {"MUG"}
    assert any(entry.kind == "SNAPSHOT_MARK" for record in records for entry in record.entries)
    newest = path / f"snap-{seen:016x}"
    newest.write_bytes(newest.read_bytes()[:-1])
    with inventory.open(path) as inv:
        assert inv.recovery.snapshots_damaged == 1
        assert inv.availability("MUG", "LON").held == 4
        assert inv.verify().ok
    for name in files(path, "snap-"):
        (path / name).unlink()
    with pytest.raises(inventory.errors.LogCorrupt, match="snapshot"):
        inventory.open(path)


def test_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    with inventory.open(
        path, snapshot_log_bytes=100_000, segment_bytes=SEGMENT_BYTES, durability="interval"
    ) as inv:
        inv.receive("MUG", "LON", 1_000_000)
        while inv.metrics().snapshots < 3:
            inv.reserve("MUG", 1)
        live = inv.metrics().live_holds
    with inventory.open(path) as inv:
        assert inv.recovery.snapshot_lsn > 0
        assert inv.metrics().live_holds == live
        assert inv.availability("MUG", "LON").held == live


def test_refusals(tmp_path: Path) -> None:
    with inventory.open() as inv, pytest.raises(inventory.BadRequest):
        inv.snapshot()
    path = tmp_path / "shop.inv"
    inventory.open(path).close()
    with (
        inventory.open(path, read_only=True) as inv,
        pytest.raises(inventory.errors.Forbidden, match="read_only"),
    ):
        inv.snapshot()
    with pytest.raises(inventory.BadRequest, match="snapshot_log_bytes"):
        inventory.open(path, snapshot_log_bytes=(1 << 50) + 1)
    inventory.open(path, snapshot_log_bytes=1 << 50).close()
    with inventory.open(path) as inv:
        for timeout_s in (-1, 86_401, 1 << 80):
            with pytest.raises(inventory.BadRequest, match="timeout_s"):
                inv.snapshot(timeout_s=timeout_s)
        with pytest.raises(TypeError, match="timeout_s"):
            inv.snapshot(timeout_s=1.5)  # type: ignore[arg-type]
        inv.snapshot(timeout_s=86_400)
    with inventory.open(path) as inv:
        handle = inv
    with pytest.raises(inventory.StoreClosed):
        handle.snapshot()


def test_on_a_disk_in_memory() -> None:
    storage, clock = MemoryStorage(), ManualClock()
    with inventory.open(storage=storage, clock=clock) as inv:
        fill(inv, 5, 10)
        lsn = inv.snapshot().lsn
    storage.power_cut(1)
    with inventory.open(storage=storage, clock=clock) as inv:
        assert inv.recovery.snapshot_lsn == lsn
        assert inv.metrics().live_holds == 9


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    with inventory.open(path) as inv:
        fill(inv, 3, 3)
    found = CliRunner().invoke(main, ["snapshot", str(path), "--json"])
    assert found.exit_code == 0, found.output
    assert len(files(path, "snap-")) == 1
    found = CliRunner().invoke(main, ["snapshot", str(tmp_path / "none"), "--json"])
    assert found.exit_code != 0


KILLED = """
    import sys, inventory
    with inventory.open(sys.argv[1], snapshot_log_bytes=300_000, segment_bytes=4 << 20) as inv:
        inv.receive("MUG", "LON", 1_000_000)
        i = 0
        while True:
            inv.reserve("MUG", 1, reservation_id=f"{sys.argv[2]}-{i}", ttl_ms=3_600_000)
            print(i, flush=True)
            i += 1
"""


def test_killed_while_snapshots_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    acknowledged = 0
    for round_ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(round_)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last >= 900 + 331 * round_:
                process.send_signal(signal.SIGKILL)
                break
        last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
        process.stdout.close()
        process.wait()
        acknowledged += last + 1
        with inventory.open(path, read_only=True) as inv:
            assert inv.recovery.snapshots_damaged == 0
            assert inv.reservation(f"{round_}-{last}").state == "HELD"
            live = inv.metrics().live_holds
            assert acknowledged <= live <= acknowledged + round_ + 1
            assert inv.availability("MUG", "LON").held == live
            assert inv.verify().ok
    assert len(files(path, "snap-")) in (2, 3)
    assert files(path, "snap-unfinished") in ([], ["snap-unfinished"])
