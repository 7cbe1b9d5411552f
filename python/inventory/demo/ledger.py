# SPDX-License-Identifier: Apache-2.0
"""The ledger: what the engine acknowledged, written down outside the engine.

The worker appends one record after each acknowledgement, with a plain write(2) and no buffer: what
was written outlives a SIGKILL of the worker. A record is a line of JSON between two newlines, so
one cut short by the kill can neither be misread nor swallow its neighbour. `Story` is the reader's
side: it folds the records into what must be true of the store.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

LOADED, TAKEN, REFUSED = "loaded", "taken", "refused"
COMMITTED, SHIPPED = "committed", "shipped"
STARTED, FINISHED = "started", "finished"  # a life begins to replay; has nothing left to do


class Ledger:
    """Append-only file of acknowledgements; safe to share between threads."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, kind: str, *fields: object) -> None:
        """Write one record; when this returns, a kill of this process can't take it back."""
        record = json.dumps((kind, *fields), separators=(",", ":"))
        os.write(self._file, b"\n" + record.encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class LedgerReader:
    """Reads a growing ledger piece by piece, whole records only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def records(self) -> list[list[Any]]:
        """Return the records appended since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            chunk = file.read()
        whole = chunk.rfind(b"\n") + 1
        self._offset += whole
        records = []
        for line in chunk[:whole].splitlines():
            try:
                record = json.loads(line) if line else None
            except ValueError:
                continue  # cut short by the kill: never acknowledged to anybody
            if record:
                records.append(record)
        return records


class Taken(NamedTuple):
    """An acknowledged reserve of a basket."""

    units: dict[str, int]  # by SKU; fewer than the basket wanted where lines were short
    micros: int  # how long the durable call took; 0 = a replay of an earlier life's


class Answer(NamedTuple):
    """A basket's answer in the life that gave it; replays are none."""

    now_ms: int  # of the monotonic clock, the same in every process
    micros: int  # how long the durable reserve took; 0 = refused


@dataclass
class Pace:
    """How fast the first life worked: it alone has no replays in it."""

    begin_ms: int = 0
    end_ms: int = 0
    reserves: int = 0  # that took something
    calls: int = 0  # acknowledged calls of every kind

    @property
    def seconds(self) -> float:
        return max(1, self.end_ms - self.begin_ms) / 1000


@dataclass
class Story:
    """Everything the ledger says, folded; what it says twice must agree."""

    loaded: dict[tuple[str, str], int] = field(default_factory=dict)  # (store, sku) -> units
    taken: dict[str, Taken] = field(default_factory=dict)  # by basket id
    refused: set[str] = field(default_factory=set)  # basket ids of which nothing could be served
    committed: set[str] = field(default_factory=set)
    shipped: set[str] = field(default_factory=set)
    micros: list[int] = field(default_factory=list)  # of every reserve that took something
    answers: list[Answer] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    lives: int = 0
    finished: bool = False
    acknowledged: int = 0  # acknowledged effects, replays and refusals left out
    replays: int = 0
    contradictions: list[str] = field(default_factory=list)
    lsn_loaded: int = 0
    lsn_end: int = 0

    @property
    def done(self) -> int:
        """Baskets that have an answer."""
        return len(self.taken) + len(self.refused)

    def fold(self, records: list[list[Any]]) -> None:
        """Take in further records, in the order they were written."""
        for kind, *fields in records:
            if kind == TAKEN:
                self._fold_taken(*fields)
            elif kind == REFUSED:
                self._fold_refused(*fields)
            elif kind == COMMITTED:
                self._fold_settled(self.committed, *fields)
            elif kind == SHIPPED:
                self._fold_settled(self.shipped, *fields)
            elif kind == LOADED:
                self._fold_loaded(*fields)
            elif kind == STARTED:
                self.lives += 1
                self.pace.begin_ms = self.pace.begin_ms or fields[0]
            elif kind == FINISHED:
                self.finished = True

    def _fold_loaded(self, store: str, sku: str, qty: int, lsn: int) -> None:
        self.acknowledged += (store, sku) not in self.loaded
        self.loaded[store, sku] = qty
        self.lsn_loaded = max(self.lsn_loaded, lsn)

    def _fold_taken(
        self, basket_id: str, units: dict[str, int], micros: int, lsn: int, now_ms: int
    ) -> None:
        before = self.taken.get(basket_id)
        if micros:
            self.micros.append(micros)
            self.answers.append(Answer(now_ms, micros))
            if before is not None:
                self.contradictions.append(f"basket {basket_id}: taken twice")
            if self.lives == 1:
                self.pace.end_ms = now_ms
                self.pace.reserves += 1
                self.pace.calls += 1
        else:
            self.replays += 1
            if before is not None and units and units != before.units:
                self.contradictions.append(f"basket {basket_id}: the replay has other lines")
        self.lsn_end = max(self.lsn_end, lsn)
        self.refused.discard(basket_id)
        self.acknowledged += before is None
        self.taken.setdefault(basket_id, Taken(units, micros))

    def _fold_refused(self, basket_id: str, now_ms: int) -> None:
        if self.lives == 1:
            self.pace.end_ms = now_ms
        if basket_id in self.taken:
            self.contradictions.append(f"basket {basket_id}: taken, then refused")
        else:
            if basket_id not in self.refused:
                self.answers.append(Answer(now_ms, 0))
            self.refused.add(basket_id)

    def _fold_settled(self, settled: set[str], basket_id: str, lsn: int) -> None:
        self.acknowledged += basket_id not in settled
        settled.add(basket_id)
        self.lsn_end = max(self.lsn_end, lsn)
        self.pace.calls += self.lives == 1
