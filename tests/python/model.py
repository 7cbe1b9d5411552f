# SPDX-License-Identifier: Apache-2.0
"""The engine in plain dictionaries: slow, without log or lock, and short enough to be believed.

`Model` judges the operations of this release by the words of the semantics page (sections 1, 2, 3,
5, 7 and 8). A method returns what the engine must answer or raises `Refusal` with the name of its
code; a refusal leaves the model as it was. Time moves only by `advance_to`.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

QTY_MAX = 2_147_483_647
DEFAULT_TTL_MS = 600_000

Asked = tuple[str, str | None, int]  # sku, location or None, qty
Body = tuple[object, ...]
Kind = Literal["commit", "ship", "release", "cancel"]


class Refusal(Exception):
    """The engine must say no with this code.

    `short` is what it lists: (sku, location) -> (requested, available or remaining); `actual` is
    the figure a compare-and-set found instead. With `or_replay` a replay is right as well.
    """

    def __init__(
        self,
        code: str,
        short: dict[tuple[str, str | None], tuple[int, int]] | None = None,
        actual: int | None = None,
        *,
        or_replay: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.short = short or {}
        self.actual = actual
        self.or_replay = or_replay


@dataclass
class Row:
    """What is kept for one SKU at one location."""

    on_hand: int = 0
    held: int = 0
    allocated: int = 0
    safety_stock: int = 0

    @property
    def available(self) -> int:
        return max(0, self.on_hand - self.held - self.allocated)

    @property
    def short(self) -> int:
        return max(0, self.held + self.allocated - self.on_hand)

    def promise(self, *, use_safety_stock: bool = False) -> int:
        """What reserve may give: available to promise."""
        return max(0, self.available - (0 if use_safety_stock else self.safety_stock))


@dataclass
class Place:
    """Units of a reservation at one row; what was given back is in none of the states."""

    sku: str
    location: str
    qty: int
    held: int = 0
    allocated: int = 0
    shipped: int = 0
    lapsed: int = 0  # held when the deadline came


@dataclass
class Hold:
    """A reservation: the body it was asked with, and where its units are."""

    body: Body
    lines: list[Asked]
    deadline_ms: int
    places: list[Place]
    ended_as: str = ""
    ended_by: str = ""
    committed_whole: bool = False
    tombstone: bool = False

    def sum(self, name: Literal["held", "allocated", "shipped"]) -> int:
        return sum(getattr(place, name) for place in self.places)

    @property
    def state(self) -> str:
        if self.sum("held"):
            return "HELD"
        if self.sum("allocated"):
            return "ALLOCATED"
        return "SHIPPED" if self.sum("shipped") else self.ended_as

    @property
    def is_live(self) -> bool:
        return self.state in ("HELD", "ALLOCATED")

    @property
    def is_committed_whole(self) -> bool:
        """What a whole commit makes of it: one did, or nothing was given back."""
        return self.committed_whole or all(
            place.allocated + place.shipped == place.qty for place in self.places
        )

    def by_row(self) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        """(qty, held, allocated, shipped) of each row the reservation has units at."""
        figures: dict[tuple[str, str], tuple[int, int, int, int]] = {}
        for place in self.places:
            qty, held, allocated, shipped = figures.get((place.sku, place.location), (0, 0, 0, 0))
            figures[place.sku, place.location] = (
                qty + place.qty,
                held + place.held,
                allocated + place.allocated,
                shipped + place.shipped,
            )
        return figures


@dataclass
class Answer:
    """What a successful call says."""

    replayed: bool = False
    reheld: bool = False
    hold: Hold | None = None
    row: Row | None = None


@dataclass
class Model:
    """A store. Rows of a SKU stand in the order in which their locations were first used in it."""

    now_ms: int
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)  # sku -> location -> row
    safety_of_sku: dict[str, int] = field(default_factory=dict)  # for rows that come later
    locations: list[str] = field(default_factory=list)  # in order of first use
    holds: dict[str, Hold] = field(default_factory=dict)
    operations: dict[str, Body] = field(default_factory=dict)  # op_id -> body
    moved: int = 0  # receipts - issues - ships +- adjustments

    # ---- stock changes ---------------------------------------------------------------------------

    def receive(self, sku: str, location: str, qty: int, op_id: str | None = None) -> Answer:
        body = ("receive", sku, location, qty)
        return self._once(op_id, body, lambda: self._move(sku, location, qty))

    def issue(self, sku: str, location: str, qty: int, op_id: str | None = None) -> Answer:
        """Goods out without a reservation: never promised units, but into safety stock."""

        def judge() -> Answer:
            self._known(sku)
            available = self.row(sku, location).promise(use_safety_stock=True)
            if qty > available:
                raise Refusal("INSUFFICIENT", {(sku, location): (qty, available)})
            return self._move(sku, location, -qty)

        return self._once(op_id, ("issue", sku, location, qty), judge)

    def adjust(
        self, sku: str, location: str, delta: int, *, strict: bool = False, op_id: str | None = None
    ) -> Answer:
        """Physical truth wins: down to on_hand 0, whatever is promised, unless strict."""

        def judge() -> Answer:
            if delta < 0:
                self._known(sku)
            row = self.row(sku, location)
            left = row.on_hand + delta
            if strict and delta < 0 and 0 <= left < row.held + row.allocated:
                raise Refusal("INSUFFICIENT", {(sku, location): (-delta, row.available)})
            return self._move(sku, location, delta)

        return self._once(op_id, ("adjust", sku, location, delta, strict), judge)

    def set_on_hand(
        self, sku: str, location: str, qty: int, *, if_on_hand: int, op_id: str | None = None
    ) -> Answer:
        def judge() -> Answer:
            on_hand = self.row(sku, location).on_hand
            if on_hand != if_on_hand:
                raise Refusal("CAS_FAILED", actual=on_hand)
            return self._move(sku, location, qty - on_hand)

        return self._once(op_id, ("set_on_hand", sku, location, qty, if_on_hand), judge)

    def set_policy(
        self, sku: str, location: str | None, *, safety_stock: int, op_id: str | None = None
    ) -> Answer:
        """Of one row, or of every row of the SKU, later ones too; holds are never touched."""

        def judge() -> Answer:
            if location is not None:
                self._create(sku, location).safety_stock = safety_stock
                return Answer()
            self.safety_of_sku[sku] = safety_stock
            for row in self.rows.setdefault(sku, {}).values():
                row.safety_stock = safety_stock
            return Answer()

        return self._once(op_id, ("set_policy", sku, location, safety_stock), judge)

    # ---- life of a reservation -------------------------------------------------------------------

    def reserve(
        self,
        lines: Sequence[Asked],
        reservation_id: str,
        *,
        ttl_ms: int | None = None,
        account: str = "",
        use_safety_stock: bool = False,
    ) -> Answer:
        """All or nothing over all lines."""
        ttl_ms = DEFAULT_TTL_MS if ttl_ms is None else ttl_ms
        wanted = self._summed(lines)
        body = (_spelled(wanted), ttl_ms, account, use_safety_stock)
        hold = self.holds.get(same_id(reservation_id))
        if hold is not None and hold.tombstone:
            raise Refusal("ALREADY_RELEASED")
        if hold is not None:
            if hold.body != body:
                raise Refusal("IDEMPOTENCY_MISMATCH")
            return Answer(replayed=True, hold=hold)
        places = self._plan(wanted, use_safety_stock)
        hold = Hold(body, wanted, self.now_ms + ttl_ms, places)
        for place in places:
            self.row(place.sku, place.location).held += place.held
        self.holds[same_id(reservation_id)] = hold
        return Answer(hold=hold)

    def commit(
        self,
        reservation_id: str,
        lines: Sequence[Asked] | None = None,
        *,
        final: bool = True,
        rehold: bool = False,
        op_id: str | None = None,
    ) -> Answer:
        try:
            answer = self._step("commit", reservation_id, lines, op_id, final=final)
            if lines is None and not answer.replayed:  # a replay leaves no trace
                self.holds[same_id(reservation_id)].committed_whole = True
            return answer
        except Refusal as refusal:
            if refusal.code != "EXPIRED" or not rehold:
                raise
        return self._rehold(self.holds[same_id(reservation_id)])

    def ship(
        self, reservation_id: str, lines: Sequence[Asked] | None = None, op_id: str | None = None
    ) -> Answer:
        return self._step("ship", reservation_id, lines, op_id)

    def release(
        self,
        reservation_id: str,
        lines: Sequence[Asked] | None = None,
        op_id: str | None = None,
        *,
        tombstone: bool = False,
    ) -> Answer:
        key = same_id(reservation_id)
        if tombstone and lines is None and key not in self.holds:
            self.holds[key] = Hold((), [], 0, [], ended_as="RELEASED", tombstone=True)
            return Answer(hold=self.holds[key])
        return self._step("release", reservation_id, lines, op_id)

    def cancel(
        self, reservation_id: str, lines: Sequence[Asked] | None = None, op_id: str | None = None
    ) -> Answer:
        return self._step("cancel", reservation_id, lines, op_id)

    def extend(self, reservation_id: str, ttl_ms: int, *, shorten: bool = False) -> Answer:
        """Deadline = now + ttl, never earlier unless `shorten`."""
        hold = self._hold(reservation_id)
        self._order(hold, "extend")
        deadline_ms = self.now_ms + ttl_ms
        hold.deadline_ms = deadline_ms if shorten else max(hold.deadline_ms, deadline_ms)
        return Answer(hold=hold)

    def advance_to(self, now_ms: int) -> None:
        """Move the time: what is held by a deadline at or before it dies."""
        self.now_ms = now_ms
        for hold in self.holds.values():
            if hold.sum("held") and hold.deadline_ms <= now_ms:
                for place in hold.places:
                    self.row(place.sku, place.location).held -= place.held
                    place.held, place.lapsed = 0, place.held
                self._end(hold, "EXPIRED")

    # ---- reads -----------------------------------------------------------------------------------

    def row(self, sku: str, location: str) -> Row:
        """The row, or zeros that belong to nobody where there is none."""
        return self.rows.get(sku, {}).get(location) or Row()

    def known_rows(self) -> Iterator[tuple[str, str, Row]]:
        for sku, rows in self.rows.items():
            for location, row in rows.items():
                yield sku, location, row

    def check(self) -> None:
        """Section 8, over the model itself: it is only worth comparing with if it holds there."""
        sums: dict[tuple[str, str], list[int]] = {}
        for hold in self.holds.values():
            for (sku, location), (_, held, allocated, _) in hold.by_row().items():
                total = sums.setdefault((sku, location), [0, 0])
                total[0] += held
                total[1] += allocated
        for sku, location, row in self.known_rows():
            assert [row.held, row.allocated] == sums.get((sku, location), [0, 0])
            assert 0 <= row.on_hand <= QTY_MAX
        assert sum(row.on_hand for _, _, row in self.known_rows()) == self.moved

    # ---- how -------------------------------------------------------------------------------------

    def _known(self, sku: str) -> None:
        if sku not in self.rows:
            raise Refusal("UNKNOWN_SKU")

    def _create(self, sku: str, location: str) -> Row:
        if location not in self.locations:
            self.locations.append(location)
        rows = self.rows.setdefault(sku, {})
        if location not in rows:
            rows[location] = Row(safety_stock=self.safety_of_sku.get(sku, 0))
        return rows[location]

    def _move(self, sku: str, location: str, delta: int) -> Answer:
        if not 0 <= self.row(sku, location).on_hand + delta <= QTY_MAX:
            raise Refusal("QTY_OUT_OF_RANGE")
        row = self._create(sku, location)
        row.on_hand += delta
        self.moved += delta
        return Answer(row=row)

    def _once(self, op_id: str | None, body: Body, judge: Callable[[], Answer]) -> Answer:
        """One op_id, one effect: the same body is a replay, another a mismatch."""
        known = self.operations.get(same_id(op_id)) if op_id is not None else None
        if known is not None:
            if known != body:
                raise Refusal("IDEMPOTENCY_MISMATCH")
            return Answer(replayed=True)
        answer = judge()
        if op_id is not None:
            self.operations[same_id(op_id)] = body
        return answer

    def _summed(self, lines: Iterable[Asked]) -> list[Asked]:
        """Equal (sku, location) added up; by SKU, located lines first, in order of location."""
        units: dict[tuple[str, str | None], int] = {}
        for sku, location, qty in lines:
            units[sku, location] = units.get((sku, location), 0) + qty
        summed = [(sku, location, qty) for (sku, location), qty in units.items()]
        order = self.locations
        return sorted(
            summed,
            key=lambda line: (
                line[0],
                line[1] is None,
                order.index(line[1]) if line[1] in order else len(order),
            ),
        )

    def _plan(self, lines: Sequence[Asked], use_safety_stock: bool) -> list[Place]:
        """Where each line would be taken from; every line that can't be is named in the refusal.

        What a located line asks for is not there for a free line after it, be it served or short.
        """
        places: list[Place] = []
        short: dict[tuple[str, str | None], tuple[int, int]] = {}
        left = {
            (sku, location): row.promise(use_safety_stock=use_safety_stock)
            for sku, location, row in self.known_rows()
        }
        for sku, location, qty in lines:
            among = self.locations if location is None else [location]
            available = sum(left.get((sku, place), 0) for place in among)
            if available < qty:
                short[sku, location] = (qty, available)
                if location is not None:
                    left[sku, location] = 0
                continue
            for place in among:
                taken = min(qty, left.get((sku, place), 0))
                if taken:
                    left[sku, place] -= taken
                    qty -= taken
                    places.append(Place(sku, place, taken, held=taken))
        if short:
            raise Refusal("INSUFFICIENT", short)
        return places

    def _hold(self, reservation_id: str) -> Hold:
        hold = self.holds.get(same_id(reservation_id))
        if hold is None:
            raise Refusal("UNKNOWN_RESERVATION")
        return hold

    def _order(self, hold: Hold, kind: Kind | Literal["extend"]) -> bool:
        """Whether there is something to do; False = a replay; the wrong order is a refusal."""
        if hold.sum("held"):
            return True
        if hold.sum("allocated"):
            if kind in ("ship", "cancel"):
                return True
            if kind == "commit" and hold.is_committed_whole:
                return False
            raise Refusal("ALREADY_COMMITTED")
        if hold.sum("shipped"):
            if kind == "ship" or (kind in ("release", "cancel") and kind == hold.ended_by):
                return False
            raise Refusal("ALREADY_SHIPPED")
        if (kind, hold.ended_as) in (("release", "RELEASED"), ("cancel", "CANCELLED")):
            return False
        raise Refusal("EXPIRED" if hold.ended_as == "EXPIRED" else f"ALREADY_{hold.ended_as}")

    def _too_late(self, hold: Hold, kind: Kind, lines: Sequence[Asked], op_id: str | None) -> bool:
        """Of a partial call: whether there is nothing left for it to do, but it is a replay.

        Without an op_id to know it by, a part that is exactly what was committed or shipped is its
        own result. A shipped reservation may have forgotten its lines: it may say so as well.
        """
        try:
            if self._order(hold, kind):
                return False
            raise Refusal("ALREADY_COMMITTED" if hold.is_live else f"ALREADY_{hold.state}")
        except Refusal as refusal:
            done = {("commit", "ALLOCATED"): "allocated", ("ship", "SHIPPED"): "shipped"}
            name = done.get((kind, hold.state))
            if op_id is not None or name is None:
                raise
            left: dict[str, int] = {}
            for place in hold.places:
                left[place.sku] = left.get(place.sku, 0) + int(getattr(place, name))
            for sku, _, qty in lines:
                left[sku] = left.get(sku, 0) - qty
            if any(left.values()):
                raise
            if kind == "ship":
                raise Refusal(refusal.code, or_replay=True) from refusal
            return True

    def _step(
        self,
        kind: Kind,
        reservation_id: str,
        lines: Sequence[Asked] | None,
        op_id: str | None,
        *,
        final: bool = True,
    ) -> Answer:
        """Commit, ship, release or cancel the named part, or all that is left."""
        if lines is None:
            hold = self._hold(reservation_id)
            if not self._order(hold, kind):
                return Answer(replayed=True, hold=hold)
            with self._undone_if_refused(hold):
                for place in hold.places:
                    self._take(place, kind, QTY_MAX)
            self._finish(hold, kind)
            return Answer(hold=hold)

        hold = self._hold(reservation_id)

        def judge() -> Answer:
            if self._too_late(hold, kind, lines, op_id):
                return Answer(replayed=True, hold=hold)
            with self._undone_if_refused(hold):
                self._take_lines(hold, kind, self._summed(lines))
            if kind == "commit" and final:
                for place in hold.places:
                    self._take(place, "release", QTY_MAX)
            self._finish(hold, kind)
            return Answer(hold=hold)

        body = (kind, same_id(reservation_id), _spelled(self._summed(lines)), final)
        return self._once(op_id, body, judge)

    @contextmanager
    def _undone_if_refused(self, hold: Hold) -> Iterator[None]:
        before = copy.deepcopy((self.rows, hold.places, self.moved))
        try:
            yield
            if any(row.on_hand < 0 for _, _, row in self.known_rows()):
                raise Refusal("INSUFFICIENT")  # shipping from a short row
        except Refusal:
            self.rows, hold.places, self.moved = before
            raise

    def _take_lines(self, hold: Hold, kind: Kind, lines: Sequence[Asked]) -> None:
        short: dict[tuple[str, str | None], tuple[int, int]] = {}
        for sku, location, qty in lines:
            missing = qty
            for place in hold.places:
                if place.sku == sku and location in (None, place.location):
                    missing -= self._take(place, kind, missing)
            if missing:
                short[sku, location] = (qty, qty - missing)
        if short:
            raise Refusal("OVER_COMMIT", short)

    def _take(self, place: Place, kind: Kind, qty: int) -> int:
        """Move at most `qty` units of one place: a shipment takes allocated units first, the others
        held ones; only shipment and cancellation touch allocated units."""
        row = self.row(place.sku, place.location)
        if kind == "ship":
            allocated = min(qty, place.allocated)
            held = min(qty - allocated, place.held)
        else:
            held = min(qty, place.held)
            allocated = min(qty - held, place.allocated) if kind == "cancel" else 0
        place.held -= held
        row.held -= held
        if kind == "commit":
            place.allocated += held
            row.allocated += held
            return held
        place.allocated -= allocated
        row.allocated -= allocated
        if kind == "ship":
            place.shipped += held + allocated
            row.on_hand -= held + allocated
            self.moved -= held + allocated
        return held + allocated

    def _finish(self, hold: Hold, kind: Kind) -> None:
        self._end(hold, "CANCELLED" if kind == "cancel" else "RELEASED", kind)

    def _end(self, hold: Hold, ended_as: str, ended_by: str = "") -> None:
        if not hold.is_live:
            hold.ended_as, hold.ended_by = ended_as, ended_by

    def _rehold(self, hold: Hold) -> Answer:
        """Commit after the deadline: what lapsed is taken again where it was, and allocated.

        It is a new promise: safety stock counts, whatever the reserve was allowed.
        """
        wanted: dict[tuple[str, str], int] = {}
        for place in hold.places:
            key = (place.sku, place.location)
            wanted[key] = wanted.get(key, 0) + place.lapsed
        if any(qty > self.row(*key).promise() for key, qty in wanted.items()):
            raise Refusal("INSUFFICIENT")
        for place in hold.places:
            place.allocated, place.lapsed = place.lapsed, 0
            self.row(place.sku, place.location).allocated += place.allocated
        hold.committed_whole = True
        return Answer(reheld=True, hold=hold)


def same_id(text: str) -> str:
    """The key of an id: a UUID (v4, v7) in any letter case is one id, other text is what it is."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return text
    plain = str(parsed) == text.lower() and parsed.version in (4, 7)
    return str(parsed) if plain else text


def _spelled(lines: Iterable[Asked]) -> tuple[tuple[str, str, int], ...]:
    """Summed lines in an order that does not depend on when a location was first used."""
    return tuple(sorted((sku, location or "", qty) for sku, location, qty in lines))
