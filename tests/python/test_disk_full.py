# SPDX-License-Identifier: Apache-2.0
"""A disk that really fills: a small ext4 in a file, filled to the last block, freed, and again.

Each cycle works on the disk with durable traffic on threads until it is full, then with what must
go on, then until the reserve is used up and nothing goes on, and waits for the store to come back
by itself when there is room. After each part everything acknowledged is looked for, also by a store
opened again. A store that touched a page without a block behind it would end the worker by SIGBUS.

The work is done in a process of its own (``disk_full_worker.py``), so that its end shows how. Needs
root, for the loop device. ``INV_DISK_FULL_CYCLES`` sets how many cycles (2 in everyday runs).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import inventory
from inventory.errors import DiskFull
from inventory.testing import ManualClock, MemoryStorage

WORKER = Path(__file__).with_name("disk_full_worker.py")
CYCLES = int(os.environ.get("INV_DISK_FULL_CYCLES", "2"))
IMAGE_BYTES = 64 << 20
SECONDS_A_CYCLE = 240
SEGMENT_BYTES = 256 * 1024


def run(*command: str | Path) -> str | None:
    """Run a system tool; what it said when it failed, else None."""
    if shutil.which(str(command[0])) is None:
        return f"there is no {command[0]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{command[0]}: {done.stderr.strip()}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 64 MiB of ext4, of which nothing is kept aside for root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a loop device needs root")
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    failed = run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    failed = failed or run("mount", "-o", "loop", image, place)
    if failed:
        pytest.skip(f"no small disk to be had: {failed}")
    try:
        yield place
    finally:
        still = run("umount", place)
        if still:  # a worker that was killed is gone in a moment
            time.sleep(1)
            still = run("umount", place) and run("umount", "-l", place)
        assert not still, still


def test_fill_free_repeat(small_disk: Path) -> None:
    command = [sys.executable, str(WORKER), str(small_disk), str(CYCLES)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60 + SECONDS_A_CYCLE * CYCLES, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-4000:]}"
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == CYCLES
    assert all(cycle["read_only"] > 0 for cycle in said[1::2]), said
    for cycle in said:
        assert min(cycle["refused"], cycle["kept"], cycle["expired"]) > 0, cycle
    print(
        f"{CYCLES} cycles: {sum(c['reserved'] for c in said):,} reserved, "
        f"{sum(c['refused'] for c in said):,} refused, {sum(c['kept'] for c in said):,} promises "
        f"kept and {sum(c['expired'] for c in said):,} expired on a full disk"
    )


def test_metrics_and_answers_on_a_full_disk(storage: MemoryStorage, clock: ManualClock) -> None:
    """What users see of the states, without a disk: see test_disk_full.c for all of them."""
    with inventory.open(storage=storage, clock=clock, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("TEE", "LON", 1000)
        holds = [inv.reserve("TEE", 1).reservation_id for _ in range(4)]
        until(lambda: inv.metrics().reserve_segments == 2)
        assert inv.metrics().disk_state == inv.metrics().disk_full_count == 0
        storage.set_capacity(1)
        with pytest.raises(DiskFull):
            fill(inv)
        assert (inv.metrics().disk_state, inv.metrics().disk_full_count) == (1, 1)
        with pytest.raises(DiskFull):
            inv.reserve("TEE", 1)
        inv.commit(holds[0])
        inv.ship(holds[0])
        inv.release(holds[1])
        inv.cancel(holds[2])
        clock.advance(600_000)
        assert inv.reservation(holds[3]).state == "EXPIRED"
        assert inv.availability("TEE", "LON").held == 0
        storage.set_capacity(0)
        until(lambda: inv.metrics().disk_state == 0)
        assert inv.metrics().disk_recovered_count == 1
        assert inv.metrics().disk_read_only_count == 0
        inv.reserve("TEE", 1)
        assert inv.verify().ok


def test_a_store_opens_on_a_full_disk(storage: MemoryStorage, clock: ManualClock) -> None:
    options = {"storage": storage, "clock": clock, "segment_bytes": SEGMENT_BYTES}
    with inventory.open(**options) as inv:  # type: ignore[arg-type]
        inv.receive("TEE", "LON", 10)
        hold = inv.reserve("TEE", 1).reservation_id
        until(lambda: inv.metrics().reserve_segments == 2)
    storage.set_capacity(1)
    with inventory.open(**options) as inv:  # type: ignore[arg-type]
        assert inv.metrics().disk_state == 1
        with pytest.raises(DiskFull):
            inv.reserve("TEE", 1)
        inv.commit(hold)
    storage.set_capacity(0)
    with inventory.open(**options) as inv:  # type: ignore[arg-type]
        assert inv.metrics().disk_state == 0
        assert inv.reservation(hold).state == "ALLOCATED"
        assert inv.verify().ok


def fill(inv: inventory.Inventory) -> None:
    while True:
        inv.receive("TEE", "LON", 1)


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for what a background thread does."""
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "not in time"
        time.sleep(0.005)
