# SPDX-License-Identifier: Apache-2.0
"""The demo from outside: start the worker, kill it half way, recover, let it finish, prove.

The parent never touches the store while a worker lives. It follows the ledger to show progress and
to choose the moment of the kill, and it judges by the ledger alone.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import inventory
from inventory.demo.audit import Audit, audit
from inventory.demo.baskets import Basket, DemoDataMissing, load_baskets, start_stock
from inventory.demo.chart import Outage, write_chart
from inventory.demo.job import Job
from inventory.demo.ledger import LedgerReader, Story
from inventory.demo.result import Crash, Result, result_of
from inventory.demo.view import View, print_result

__all__ = ["THREADS", "DemoDataMissing", "Settings", "WorkerFailed", "print_result", "rehearse"]

THREADS = 32
POLL_S = 0.1
KILL_AT = 0.5  # share of the baskets that have an answer


class WorkerFailed(Exception):
    """The worker ended by itself with an error."""


class Run:
    """One run: a job, its baskets, and what the ledger has said so far."""

    def __init__(self, job: Job, baskets: Sequence[Basket], view: View) -> None:
        self.job = job
        self.baskets = baskets
        self.view = view
        self.story = Story()
        self.audits: list[Audit] = []
        self.outage: Outage | None = None
        self._reader = LedgerReader(Path(job.ledger))
        self._row_count = len(start_stock(baskets))

    def live(self, *, kill_at: int | None) -> bool:
        """Run one worker to its end, or kill it at `kill_at` baskets; say whether it was killed."""
        command = [sys.executable, "-m", "inventory.demo.worker", self.job.to_json()]
        killed = False
        with subprocess.Popen(command) as worker:
            try:
                while worker.poll() is None:
                    self._follow()
                    if kill_at is not None and self.story.done >= kill_at:
                        killed = True
                        break
                    time.sleep(POLL_S if kill_at is None else POLL_S / 10)
            finally:
                worker.kill()  # SIGKILL; does nothing to one that has ended
                code = worker.wait()
        self._follow()
        if killed and code == -signal.SIGKILL:
            return True
        if code != 0:
            raise WorkerFailed(f"the worker ended with code {code}; what it said stands above")
        return False

    def _follow(self) -> None:
        before = self.story.done
        self.story.fold(self._reader.records())
        if len(self.story.loaded) < self._row_count or self.story.lives == 0:
            self.view.show("loading stock", len(self.story.loaded), self._row_count, "rows")
        else:
            taken, refused = len(self.story.taken), len(self.story.refused)
            note = f"{taken:,} taken, {refused:,} refused"
            if before == self.story.done == len(self.baskets):
                note = "waiting for abandoned baskets to expire"
            self.view.show("replaying baskets", self.story.done, len(self.baskets), note)

    def check(self) -> Crash:
        """Open the store as its next user would, measure that, and hold it against the ledger."""
        begin_s = time.perf_counter()
        with inventory.open(self.job.store, durability="durable") as inv:
            recovery_ms = (time.perf_counter() - begin_s) * 1000
            found = audit(inv, self.story, self.baskets)
            self.audits.append(found)
            return Crash(
                baskets_done=self.story.done,
                calls_acknowledged=self.story.acknowledged,
                recovery_ms=round(recovery_ms, 1),
                records_replayed=inv.recovery.records_replayed,
                torn_bytes=inv.recovery.torn_bytes_dropped,
            )

    def whole(self, *, kill: bool) -> Result:
        """The run from loading to the final proof."""
        begin_s = time.perf_counter()
        crash = None
        kill_at = max(1, int(len(self.baskets) * KILL_AT)) if kill else None
        if self.live(kill_at=kill_at):
            killed_ms = time.monotonic_ns() // 1_000_000
            crash = self.check()
            self.outage = Outage(killed_ms, killed_ms + round(crash.recovery_ms))
            self.view.say(
                f"killed after {crash.baskets_done:,} baskets; recovered in "
                f"{crash.recovery_ms:,.1f} ms ({crash.records_replayed:,} log records, "
                f"{crash.torn_bytes:,} torn bytes); {crash.calls_acknowledged:,} acknowledged "
                f"calls compared, {len(self.audits[-1].lost):,} lost"
            )
            self.live(kill_at=None)
        self.check()
        return result_of(
            self.baskets,
            self.story,
            self.audits,
            crash=crash,
            threads=self.job.threads,
            seconds=time.perf_counter() - begin_s,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is told; see `inventory demo --help`."""

    source: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    data: Path | None = None
    keep: bool = False
    threads: int = THREADS
    basket_count_max: int | None = None
    seed: int = 1
    kill: bool = True
    chart: Path | None = None


def rehearse(settings: Settings) -> Result:
    """Run the demo.

    Raises:
        DemoDataMissing: it can't run; the text says why. WorkerFailed: the worker gave up.
    """
    if settings.chart is not None and not settings.chart.parent.is_dir():
        raise DemoDataMissing(f"There is no directory {settings.chart.parent} for the chart.")
    baskets = load_baskets(
        settings.source, columns=settings.columns, limit=settings.basket_count_max
    )
    temporary = settings.data is None
    folder = settings.data or Path(tempfile.mkdtemp(prefix="inventory-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DemoDataMissing(f"{folder} is not empty: name a new directory.")
    job = Job(
        store=str(folder / "store"),
        ledger=str(folder / "ledger.jsonl"),
        source=None if settings.source is None else str(settings.source),
        columns=settings.columns,
        basket_count_max=settings.basket_count_max,
        threads=settings.threads,
        seed=settings.seed,
    )
    try:
        with View() as view:
            run = Run(job, baskets, view)
            result = run.whole(kill=settings.kill)
            if settings.chart is not None:
                title = f"{len(baskets):,} baskets against durable stock"
                write_chart(settings.chart, run.story.answers, run.outage, title)
                view.say(f"chart of the sale: {settings.chart.resolve()}")
        return result
    finally:
        if temporary and not settings.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"store and ledger are in {folder}", file=sys.stderr)
