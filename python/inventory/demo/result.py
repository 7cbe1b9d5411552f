# SPDX-License-Identifier: Apache-2.0
"""The figures of a run: one frozen record, printable as rows or JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from inventory.demo.audit import Audit, invented_lines, oversold_units
from inventory.demo.baskets import Basket
from inventory.demo.ledger import Story


@dataclasses.dataclass(frozen=True, slots=True)
class Crash:
    """What the kill and the recovery after it showed."""

    baskets_done: int
    calls_acknowledged: int
    recovery_ms: float  # opening the store, as its user sees it
    records_replayed: int
    torn_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """Everything the closing table says. Rates and latencies are of durable calls."""

    baskets: int
    baskets_taken: int
    baskets_taken_whole: int
    baskets_refused: int
    lines_taken: int
    lines_refused: int
    units_taken: int
    units_refused: int
    units_shipped: int
    holds_expired: int
    threads: int
    seconds: float
    reserves_per_second: float
    calls_per_second: float
    reserve_p50_us: int
    reserve_p99_us: int
    log_bytes_per_reservation: float
    crash: Crash | None
    replays: int
    calls_acknowledged: int
    acknowledged_lost: int
    acknowledged_doubled: int
    units_oversold: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing lost, doubled, oversold or otherwise wrong."""
        wrong = self.acknowledged_lost + self.acknowledged_doubled + self.units_oversold
        return wrong == 0 and not self.problems

    def to_json(self) -> str:
        return json.dumps({"ok": self.ok, **dataclasses.asdict(self)}, indent=2)

    def rows(self) -> list[tuple[str, str]]:
        """The closing table: name and figure."""
        crash = self.crash
        crash_rows = (
            [("killed", "no")]
            if crash is None
            else [
                ("killed (SIGKILL) after", f"{crash.baskets_done:,} baskets"),
                ("calls acknowledged by then", f"{crash.calls_acknowledged:,}"),
                ("recovery", f"{crash.recovery_ms:,.1f} ms"),
                ("log records replayed", f"{crash.records_replayed:,}"),
                ("torn bytes dropped", f"{crash.torn_bytes:,}"),
            ]
        )
        return [
            ("baskets", f"{self.baskets:,}"),
            ("... taken whole / in part", f"{self.baskets_taken_whole:,} / "
             f"{self.baskets_taken - self.baskets_taken_whole:,}"),
            ("... refused", f"{self.baskets_refused:,}"),
            ("lines taken / refused", f"{self.lines_taken:,} / {self.lines_refused:,}"),
            ("units taken / refused", f"{self.units_taken:,} / {self.units_refused:,}"),
            ("units shipped", f"{self.units_shipped:,}"),
            ("holds expired", f"{self.holds_expired:,}"),
            *crash_rows,
            ("durable reserves/s", f"{self.reserves_per_second:,.0f}  ({self.threads} threads)"),
            ("durable calls/s", f"{self.calls_per_second:,.0f}"),
            ("durable reserve p50 / p99", f"{self.reserve_p50_us:,} / {self.reserve_p99_us:,} us"),
            ("log bytes a reservation", f"{self.log_bytes_per_reservation:,.0f}"),
            ("calls acknowledged", f"{self.calls_acknowledged:,}"),
            ("answered as replays", f"{self.replays:,}"),
            ("acknowledged calls lost", f"{self.acknowledged_lost:,}"),
            ("acknowledged calls doubled", f"{self.acknowledged_doubled:,}"),
            ("units oversold", f"{self.units_oversold:,}"),
            ("seconds", f"{self.seconds:,.1f}"),
        ]  # fmt: skip


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Smallest value that at least `percent` % of the sorted values do not exceed; 0 of none."""
    if not ordered:
        return 0
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def result_of(
    baskets: Sequence[Basket],
    story: Story,
    audits: Sequence[Audit],
    *,
    crash: Crash | None,
    threads: int,
    seconds: float,
) -> Result:
    """Add up a finished run."""
    lines_taken = units_taken = units_shipped = lines = units = whole = 0
    for basket in baskets:
        wanted = basket.wanted()
        lines += len(wanted)
        units += sum(wanted.values())
        taken = story.taken.get(basket.basket_id)
        if taken is not None:
            lines_taken += len(taken.units)
            units_taken += sum(taken.units.values())
            whole += taken.units == wanted
            if basket.basket_id in story.shipped:
                units_shipped += sum(taken.units.values())
    problems = [*story.contradictions, *invented_lines(story, baskets)]
    if story.done != len(baskets):
        problems.append(f"{len(baskets) - story.done:,} baskets without an answer")
    for found in audits:
        problems += [*found.lost, *found.doubled, *found.problems]
    micros = sorted(story.micros)
    return Result(
        baskets=len(baskets),
        baskets_taken=len(story.taken),
        baskets_taken_whole=whole,
        baskets_refused=len(story.refused),
        lines_taken=lines_taken,
        lines_refused=lines - lines_taken,
        units_taken=units_taken,
        units_refused=units - units_taken,
        units_shipped=units_shipped,
        holds_expired=audits[-1].states["EXPIRED"],
        threads=threads,
        seconds=round(seconds, 1),
        reserves_per_second=round(story.pace.reserves / story.pace.seconds, 1),
        calls_per_second=round(story.pace.calls / story.pace.seconds, 1),
        reserve_p50_us=percentile(micros, 50),
        reserve_p99_us=percentile(micros, 99),
        log_bytes_per_reservation=round(
            (story.lsn_end - story.lsn_loaded) / max(1, len(story.taken)), 1
        ),
        crash=crash,
        replays=story.replays,
        calls_acknowledged=story.acknowledged,
        acknowledged_lost=sum(len(found.lost) for found in audits),
        acknowledged_doubled=sum(len(found.doubled) for found in audits),
        units_oversold=oversold_units(story, baskets),
        problems=tuple(problems),
    )
