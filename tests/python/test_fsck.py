# SPDX-License-Identifier: Apache-2.0
"""Files that are damaged: what `fsck` says, reading up to the damage, and losses accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import inventory
from inventory.cli import main
from inventory.testing import MemoryStorage

SEGMENT_BYTES = 4 << 20


def sold(path: Path, count: int) -> list[int]:
    """Lsns of the answers of a store, each of one unit sold."""
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("MUG", "LON", 1000)
        return [inv.reserve("MUG", 1, reservation_id=f"{path.name}-{n}").lsn for n in range(count)]


def damage(path: Path, lsn: int) -> int:
    """Change a byte of the record behind `lsn`; where it begins. One segment holds all records."""
    segment = min(path.glob("wal-*"))
    data = bytearray(segment.read_bytes())
    start = (lsn + 7) // 8 * 8  # records are padded to 8; the first lsn is 4,096, as its offset
    data[start + 20] ^= 1
    segment.write_bytes(data)
    return start


def test_a_whole_store(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    lsns = sold(path, 5)
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        snapshot = inv.snapshot()
    report = inventory.fsck(path)
    assert report.ok
    assert report.problem == ""
    assert report.accept_loss_lsn == 0
    assert report.snapshot_lsn == snapshot.lsn
    assert report.snapshots == 1
    assert report.lsn_end == report.durable > lsns[-1]
    assert {item.kind for item in report.items} == {"state", "snapshot", "segment"}
    assert all(item.ok and item.problem == "" for item in report.items)
    assert sum(item.kind == "segment" for item in report.items) == report.segments


def test_reading_at_every_answer(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    lsns = sold(path, 8)
    for count, lsn in enumerate(lsns, 1):
        with inventory.open(path, read_only=True, upto_lsn=lsn) as inv:
            assert inv.recovery.lsn_end == lsn == inv.metrics().lsn_durable
            assert inv.availability("MUG", "LON").held == count
            assert inv.verify().ok
    with pytest.raises(inventory.BadRequest, match="upto_lsn: the log ends") as caught:
        inventory.open(path, read_only=True, upto_lsn=1 << 40)
    assert caught.value.field == "upto_lsn"
    with pytest.raises(inventory.BadRequest, match="upto_lsn goes with read_only"):
        inventory.open(path, upto_lsn=lsns[0])
    with pytest.raises(inventory.BadRequest, match="upto_lsn"):
        inventory.open(path, read_only=True, upto_lsn=-1)
    with pytest.raises(TypeError, match="upto_lsn"):
        inventory.open(path, read_only=True, upto_lsn=1.5)  # type: ignore[arg-type]


def test_a_loss_is_accepted_only_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    lsns = sold(path, 8)
    with pytest.raises(inventory.BadRequest, match="a whole record lies"):
        inventory.open(path, accept_loss_lsn=lsns[3] - 16)
    with pytest.raises(inventory.BadRequest, match="nothing is damaged"):
        inventory.open(path, accept_loss_lsn=(lsns[3] + 7) // 8 * 8)
    start = damage(path, lsns[3])
    for _ in range(2):
        with pytest.raises(inventory.errors.LogCorrupt) as caught:
            inventory.open(path)
        assert caught.value.lsn == start
    report = inventory.fsck(path)
    assert not report.ok
    assert report.accept_loss_lsn == report.lsn_end == start
    assert report.durable >= lsns[-1]
    assert str(start) in report.problem
    assert [item.ok for item in report.items if item.kind == "segment"].count(False) == 1
    for wrong in (lsns[2], lsns[4], 1):
        with pytest.raises((inventory.BadRequest, inventory.errors.LogCorrupt)):
            inventory.open(path, accept_loss_lsn=wrong)
    with pytest.raises(inventory.BadRequest, match="accept_loss_lsn"):
        inventory.open(path, read_only=True, accept_loss_lsn=start)
    with inventory.open(path, accept_loss_lsn=start, segment_bytes=SEGMENT_BYTES) as inv:
        assert inv.recovery.lsn_end == start
        assert inv.recovery.loss_lsn_end >= lsns[-1]
        assert inv.availability("MUG", "LON").held == 4
        inv.reserve("MUG", 1, reservation_id="after")
    with inventory.open(path, read_only=True) as inv:
        assert inv.recovery.loss_lsn_end == 0
        assert inv.availability("MUG", "LON").held == 5
        assert inv.reservation("after").state == "HELD"
    kinds = [entry.kind for record in inventory.log.read(path) for entry in record.entries]
    assert kinds.count("OPERATOR_ACT") == 1
    assert inventory.fsck(path).ok


def test_a_consumer_of_what_was_lost_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    lsns = sold(path, 6)
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        inv.consumer("early").acknowledge(lsns[0])
        inv.consumer("late").acknowledge(lsns[-1])
    start = damage(path, lsns[2])
    with inventory.open(path, accept_loss_lsn=start, segment_bytes=SEGMENT_BYTES) as inv:
        for n in range(50):  # the log goes on beyond where the consumer stood
            inv.reserve("MUG", 1, reservation_id=f"after-{n}")
    for _ in range(2):
        with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
            states = {one.name: one.state for one in inv.consumers()}
            assert states == {"early": "live", "late": "cut_off"}
            with pytest.raises(inventory.errors.EventsTrimmed):
                next(inv.consumer("late").events())
            ids = [event.reservation_id for event in inv.consumer("early").events()]
            assert ids[0] == "shop.inv-1"
            assert ids[-1] == "after-49"
            assert len(ids) == 52


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    lsns = sold(path, 4)
    run = CliRunner().invoke
    assert run(main, ["fsck", str(path)]).exit_code == 0
    start = damage(path, lsns[1])
    found = run(main, ["fsck", str(path)])
    assert found.exit_code == 1
    assert "DAMAGED" in found.output
    assert f"--accept-loss {start}" in found.output
    found = run(main, ["fsck", str(path), "--json"])
    assert found.exit_code == 1
    assert json.loads(found.stdout)["accept_loss_lsn"] == start
    found = run(main, ["recover", str(path), "--json"])
    assert found.exit_code == 3
    assert json.loads(found.stdout)["code"] == "LOG_CORRUPT"
    found = run(main, ["recover", str(path), "--accept-loss", str(start), "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["lsn_end"] == start
    assert run(main, ["recover", str(path)]).exit_code == 0


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(inventory.errors.IoError):
        inventory.fsck(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(inventory.errors.IoError, match="no store"):
        inventory.fsck(tmp_path / "empty")
    with pytest.raises(TypeError):
        inventory.fsck(None)  # type: ignore[arg-type]
    with inventory.open(tmp_path / "shop.inv"), pytest.raises(inventory.errors.StoreLocked):
        inventory.fsck(tmp_path / "shop.inv")
    with pytest.raises(inventory.errors.IoError, match="no store"):
        inventory.open(storage=MemoryStorage(), accept_loss_lsn=4096)


def test_nothing_helps_without_state(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    sold(path, 2)
    (path / "STATE").write_bytes(bytes(8192))
    report = inventory.fsck(path)
    assert not report.ok
    assert report.accept_loss_lsn == 0
    assert "STATE" in report.problem
    found = CliRunner().invoke(main, ["fsck", str(path)])
    assert found.exit_code == 1
    assert "restore a backup" in found.output
