# SPDX-License-Identifier: Apache-2.0
"""The demo from outside: start the worker, kill it half way, recover, let it finish, prove.

The parent never touches the store while a worker lives. It follows the ledger to show progress and
to choose the moment of the kill, and it judges by the ledger alone.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inventory.demo.baskets import (
    HOW_TO_INSTALL,
    Basket,
    DemoDataMissing,
    load_baskets,
    start_stock,
)
from inventory.demo.job import Job
from inventory.demo.ledger import LedgerReader, Story

if TYPE_CHECKING:
    from inventory.demo.audit import Audit
    from inventory.demo.result import Crash, Result
    from inventory.demo.view import View

THREADS = 32
POLL_S = 0.1
KILL_AT = 0.5  # share of the baskets that have an answer
EXIT_OK, EXIT_WRONG, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 1, 2, 130


class WorkerFailed(Exception):
    """The worker ended by itself with an error."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="inventory demo",
        description="Replay a quarter of real shop baskets, kill the process half way, recover, "
        "finish, and prove that nothing acknowledged was lost and nothing oversold.",
    )
    result.add_argument("--data", type=Path, help="keep store and ledger under this new directory")
    result.add_argument("--keep", action="store_true", help="keep the temporary directory")
    result.add_argument("--threads", type=_positive, default=THREADS, help="default %(default)s")
    result.add_argument("--baskets", type=_positive, metavar="N", help="only the first N baskets")
    result.add_argument("--seed", type=int, default=1, help="chooses the abandoned baskets")
    result.add_argument("--source", type=Path, help="another stream: parquet, csv or csv.xz")
    result.add_argument("--no-kill", action="store_true", help="let the worker live")
    result.add_argument("--json", action="store_true", help="print the result as JSON")
    return result


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


class Run:
    """One run: a job, its baskets, and what the ledger has said so far."""

    def __init__(self, job: Job, baskets: Sequence[Basket], view: View) -> None:
        self.job = job
        self.baskets = baskets
        self.view = view
        self.story = Story()
        self.audits: list[Audit] = []
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
        import inventory
        from inventory.demo.audit import audit
        from inventory.demo.result import Crash

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
        from inventory.demo.result import result_of

        begin_s = time.perf_counter()
        crash = None
        kill_at = max(1, int(len(self.baskets) * KILL_AT)) if kill else None
        if self.live(kill_at=kill_at):
            crash = self.check()
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 if all agrees, 1 if anything is wrong, 2 if it can't run."""
    options = parser().parse_args(argv)
    try:
        from inventory.demo.view import View, print_result
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        print(f"The demo needs rich, which is not installed.\n{HOW_TO_INSTALL}", file=sys.stderr)
        return EXIT_UNUSABLE
    try:
        baskets = load_baskets(options.source, limit=options.baskets)
    except DemoDataMissing as missing:
        print(missing, file=sys.stderr)
        return EXIT_UNUSABLE
    temporary = options.data is None
    folder = Path(tempfile.mkdtemp(prefix="inventory-demo-")) if temporary else options.data
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{folder} is not empty: name a new directory.", file=sys.stderr)
        return EXIT_UNUSABLE
    job = Job(
        store=str(folder / "store"),
        ledger=str(folder / "ledger.jsonl"),
        source=None if options.source is None else str(options.source),
        basket_count_max=options.baskets,
        threads=options.threads,
        seed=options.seed,
    )
    try:
        with View() as view:
            result = Run(job, baskets, view).whole(kill=not options.no_kill)
    except WorkerFailed as failure:
        print(failure, file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        if temporary and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"store and ledger are in {folder}", file=sys.stderr)
    if options.json:
        print(result.to_json())
    else:
        print_result(result)
    return EXIT_OK if result.ok else EXIT_WRONG
