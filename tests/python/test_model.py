# SPDX-License-Identifier: Apache-2.0
"""Random operations against the dictionary model: every answer, every row, every reservation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from model import QTY_MAX, Answer, Asked, Hold, Model, Refusal, Row
from scale import scaled

import inventory
from inventory.errors import CasFailed
from inventory.testing import ManualClock, MemoryStorage

START_UNIX_MS = 1_760_000_000_000
SEGMENT_BYTES = 64 * 1024  # small, so that runs cross segments

skus = st.sampled_from(["TEE-RED-L", "MUG", "TEE-RED-L", "MUG", "ÄPFEL"])  # the last: rarely
locations = st.sampled_from(["LON", "PAR", "OSL"])
quantities = st.integers(1, 8)
lines_asked = st.lists(
    st.tuples(skus, st.one_of(st.none(), locations), quantities), min_size=1, max_size=4
)
reservation_ids = st.sampled_from(
    [
        *(f"cart-{number}" for number in range(20)),
        "0b1c2d3e-4f50-4a6b-8c7d-8e9fa0b1c2d3",
        "0B1C2D3E-4F50-4A6B-8C7D-8E9FA0B1C2D3",  # the same id: letter case of a UUID is no matter
        "CART-1",  # another id: text is compared as it is
    ]
)
op_ids = st.one_of(st.none(), st.integers(0, 60).map("op-{}".format))
Call = tuple[Callable[[], Any], Callable[[], Answer]]  # the engine's side, the model's side
ttls_ms = st.one_of(st.none(), st.integers(1, 50), st.integers(1_000, 100_000))


class StoreAgainstModel(RuleBasedStateMachine):
    """A durable store on a disk in memory, and the dictionaries that say what it must do."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START_UNIX_MS)
        self.storage = MemoryStorage()
        self.model = Model(START_UNIX_MS)
        self.inv = self.open()
        self.calls: list[Call] = []  # that have an op_id and succeeded

    def open(self) -> inventory.Inventory:
        return inventory.open(
            "model.inv",
            durability="durable",
            clock=self.clock,
            storage=self.storage,
            segment_bytes=SEGMENT_BYTES,
            restart_grace_ms=0,
        )

    def teardown(self) -> None:
        self.inv.close()

    def both(
        self,
        engine: Callable[[], Any],
        model: Callable[[], Answer],
        op_id: str | None = None,
    ) -> None:
        """Make one call on either side and compare what they say."""
        try:
            expected: Answer | Refusal = model()
        except Refusal as refusal:
            expected = refusal
        try:
            answer = engine()
        except inventory.InventoryError as error:
            refused: inventory.InventoryError | None = error
        else:
            refused = None
        if refused is not None:
            assert isinstance(expected, Refusal), f"the engine refuses: {refused}"
            self.compare_refusal(refused, expected)
            return
        if isinstance(expected, Refusal):
            assert expected.or_replay, f"the engine does not refuse, as {expected.code}"
            assert answer.replayed
            return
        assert answer.replayed is expected.replayed
        if op_id is not None and not expected.replayed:
            self.calls.append((engine, model))
        if expected.hold is not None:
            assert answer.reheld is expected.reheld
            self.compare_hold(answer, expected.hold)
        if expected.row is not None:
            self.compare_row(answer.level, expected.row)

    def compare_refusal(self, error: inventory.InventoryError, expected: Refusal) -> None:
        assert error.code_name == expected.code, str(error)
        if expected.short:
            assert self.refused_lines(error) == expected.short
        if isinstance(error, CasFailed):
            assert error.actual == expected.actual

    @staticmethod
    def refused_lines(error: inventory.InventoryError) -> dict[tuple[str, str | None], Any]:
        """What a refusal lists, as the model spells it."""
        match error:
            case inventory.InsufficientStock():
                return {
                    (line.sku, line.location): (line.requested, line.available_to_promise)
                    for line in error.short
                }
            case inventory.OverCommit():
                return {
                    (line.sku, line.location): (line.requested, line.remaining)
                    for line in error.remaining
                }
        return {}

    @staticmethod
    def compare_hold(answer: inventory.Reservation, hold: Hold) -> None:
        assert answer.state == hold.state
        assert answer.state.is_live is hold.is_live
        if not hold.is_live:
            return  # an ended one keeps its sum, not its lines
        figures: dict[tuple[str, str | None], tuple[int, ...]] = {}
        for line in answer.lines:
            units = (line.qty, line.held, line.allocated, line.shipped)
            before = figures.get((line.sku, line.location), (0, 0, 0, 0))
            figures[line.sku, line.location] = tuple(map(sum, zip(before, units, strict=True)))
        assert figures == hold.by_row()
        deadline_ms = hold.deadline_ms if hold.state == "HELD" else None
        assert answer.expires_at_unix_ms == deadline_ms

    @staticmethod
    def compare_row(level: inventory.StockLevel, row: Row) -> None:
        assert (level.on_hand, level.held, level.allocated) == (
            row.on_hand,
            row.held,
            row.allocated,
        )
        assert level.reserved == row.held + row.allocated
        assert (level.available, level.short) == (row.available, row.short)
        assert level.available_to_promise == row.promise()
        assert level.safety_stock == row.safety_stock

    # ---- stock -----------------------------------------------------------------------------------

    @initialize(qty=st.integers(10, 60))
    def stock_up(self, qty: int) -> None:
        for sku, location in (("TEE-RED-L", "PAR"), ("TEE-RED-L", "LON"), ("MUG", "LON")):
            self.both(
                lambda s=sku, p=location: self.inv.receive(s, p, qty),  # type: ignore[misc]
                lambda s=sku, p=location: self.model.receive(s, p, qty),  # type: ignore[misc]
            )

    @rule(sku=skus, location=locations, qty=quantities, op_id=op_ids)
    def receive(self, sku: str, location: str, qty: int, op_id: str | None) -> None:
        self.both(
            lambda: self.inv.receive(sku, location, qty, op_id=op_id),
            lambda: self.model.receive(sku, location, qty, op_id),
            op_id,
        )

    @rule(sku=skus, location=locations)
    def receive_too_many(self, sku: str, location: str) -> None:
        qty = QTY_MAX + 1 - max(1, self.model.row(sku, location).on_hand)
        if self.model.row(sku, location).on_hand:
            self.both(
                lambda: self.inv.receive(sku, location, qty),
                lambda: self.model.receive(sku, location, qty),
            )

    @rule(sku=skus, location=locations, qty=quantities, op_id=op_ids)
    def issue(self, sku: str, location: str, qty: int, op_id: str | None) -> None:
        self.both(
            lambda: self.inv.issue(sku, location, qty, op_id=op_id),
            lambda: self.model.issue(sku, location, qty, op_id),
            op_id,
        )

    @rule(
        sku=skus,
        location=locations,
        delta=st.integers(-15, 5).filter(bool),
        strict=st.booleans(),
        op_id=op_ids,
    )
    def adjust(self, sku: str, location: str, delta: int, strict: bool, op_id: str | None) -> None:
        self.both(
            lambda: self.inv.adjust(
                sku, location, delta, reason="count", strict=strict, op_id=op_id
            ),
            lambda: self.model.adjust(sku, location, delta, strict=strict, op_id=op_id),
            op_id,
        )

    @rule(
        sku=skus,
        location=locations,
        share=st.integers(0, 100),
        strict=st.booleans(),
        op_id=op_ids,
    )
    def damage(self, sku: str, location: str, share: int, strict: bool, op_id: str | None) -> None:
        """A loss of what is there, often into what is promised: the row becomes short."""
        delta = -(self.model.row(sku, location).on_hand * share // 100)
        if delta:
            self.adjust(sku, location, delta, strict, op_id)

    @rule(
        sku=skus,
        location=locations,
        qty=st.integers(0, 20),
        off=st.sampled_from([0, 0, 0, 1]),
        op_id=op_ids,
    )
    def count(self, sku: str, location: str, qty: int, off: int, op_id: str | None) -> None:
        seen = self.model.row(sku, location).on_hand + off
        self.both(
            lambda: self.inv.set_on_hand(sku, location, qty, if_on_hand=seen, op_id=op_id),
            lambda: self.model.set_on_hand(sku, location, qty, if_on_hand=seen, op_id=op_id),
            op_id,
        )

    @rule(
        sku=skus,
        location=st.one_of(st.none(), locations),
        safety_stock=st.integers(0, 5),
        op_id=op_ids,
    )
    def policy(self, sku: str, location: str | None, safety_stock: int, op_id: str | None) -> None:
        self.both(
            lambda: self.inv.set_policy(sku, location, safety_stock=safety_stock, op_id=op_id),
            lambda: self.model.set_policy(sku, location, safety_stock=safety_stock, op_id=op_id),
            op_id,
        )

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A call with an op_id once more, word for word: a replay."""
        engine, model = data.draw(st.sampled_from(self.calls))
        self.both(engine, model)

    # ---- reservations ----------------------------------------------------------------------------

    @rule(
        lines=lines_asked,
        reservation_id=reservation_ids,
        ttl_ms=ttls_ms,
        account=st.sampled_from(["", "web"]),
        use_safety_stock=st.sampled_from([False, False, True]),
    )
    def reserve(
        self,
        lines: list[Asked],
        reservation_id: str,
        ttl_ms: int | None,
        account: str,
        use_safety_stock: bool,
    ) -> None:
        self.both(
            lambda: self.inv.reserve_lines(
                lines,
                reservation_id=reservation_id,
                ttl_ms=ttl_ms,
                account=account,
                use_safety_stock=use_safety_stock,
            ),
            lambda: self.model.reserve(
                lines,
                reservation_id,
                ttl_ms=ttl_ms,
                account=account,
                use_safety_stock=use_safety_stock,
            ),
        )

    @rule(sku=skus, location=st.one_of(st.none(), locations), qty=quantities, key=reservation_ids)
    def reserve_one(self, sku: str, location: str | None, qty: int, key: str) -> None:
        self.both(
            lambda: self.inv.reserve(sku, qty, location=location, reservation_id=key),
            lambda: self.model.reserve([(sku, location, qty)], key),
        )

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def reserve_again(self, data: st.DataObject) -> None:
        """The same body under the same id, its lines turned round and cut in two."""
        keys = sorted(key for key, hold in self.model.holds.items() if not hold.tombstone)
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        hold = self.model.holds[key]
        lines: list[Asked] = []
        for sku, location, qty in reversed(hold.lines):
            lines += [(sku, location, qty - 1)] * (qty > 1) + [(sku, location, 1)]
        _, ttl_ms, account, use_safety_stock = hold.body
        options: dict[str, Any] = {
            "ttl_ms": ttl_ms,
            "account": account,
            "use_safety_stock": use_safety_stock,
        }
        self.both(
            lambda: self.inv.reserve_lines(lines, reservation_id=key, **options),
            lambda: self.model.reserve(lines, key, **options),
        )

    def part_of(self, data: st.DataObject, key: str) -> list[Asked]:
        """Lines that mostly name what the reservation has, sometimes more, rarely others.

        A SKU is named once, and without its location only where it has one place, so that it does
        not matter in which order lines and places are served.
        """
        hold = self.model.holds.get(key)
        if hold is None or not hold.places or data.draw(st.integers(0, 9)) == 0:
            return [(data.draw(skus), data.draw(locations), data.draw(quantities))]
        places = data.draw(
            st.lists(
                st.sampled_from(hold.places), min_size=1, max_size=3, unique_by=lambda p: p.sku
            )
        )
        lines: list[Asked] = []
        for place in places:
            alone = sum(other.sku == place.sku for other in hold.places) == 1
            location = None if alone and data.draw(st.booleans()) else place.location
            too_many = data.draw(st.integers(0, 5)) == 0
            qty = data.draw(st.integers(1, place.qty + too_many))
            lines.append((place.sku, location, qty))
        return lines

    def some_id(self, data: st.DataObject) -> str:
        """An id: rather a live one, else rather a known one."""
        choice = data.draw(st.integers(0, 9))
        live = sorted(key for key, hold in self.model.holds.items() if hold.is_live)
        if live and choice > 2:
            return data.draw(st.sampled_from(live))
        if self.model.holds and choice > 0:
            return data.draw(st.sampled_from(sorted(self.model.holds)))
        return data.draw(reservation_ids)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), kind=st.sampled_from(["commit", "ship", "release", "cancel"]))
    def whole(self, data: st.DataObject, kind: str) -> None:
        key = self.some_id(data)
        self.both(
            lambda: getattr(self.inv, kind)(key),
            lambda: getattr(self.model, kind)(key),
        )

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), kind=st.sampled_from(["ship", "release", "cancel"]), op_id=op_ids)
    def part(self, data: st.DataObject, kind: str, op_id: str | None) -> None:
        key = self.some_id(data)
        lines = self.part_of(data, key)
        self.both(
            lambda: getattr(self.inv, kind)(key, lines=lines, op_id=op_id),
            lambda: getattr(self.model, kind)(key, lines, op_id),
            op_id,
        )

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), final=st.booleans(), op_id=op_ids)
    def commit_part(self, data: st.DataObject, final: bool, op_id: str | None) -> None:
        key = self.some_id(data)
        lines = self.part_of(data, key)
        self.both(
            lambda: self.inv.commit(key, lines=lines, final=final, op_id=op_id),
            lambda: self.model.commit(key, lines, final=final, op_id=op_id),
            op_id,
        )

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def commit_or_rehold(self, data: st.DataObject) -> None:
        keys = [key for key, hold in self.model.holds.items() if hold.state == "EXPIRED"]
        key = data.draw(st.sampled_from(sorted(keys or self.model.holds)))
        self.both(
            lambda: self.inv.commit(key, if_expired="rehold"),
            lambda: self.model.commit(key, rehold=True),
        )

    @precondition(lambda self: len(self.model.holds) > 4)
    @rule(key=st.sampled_from(["cart-0", "cart-1", "0b1c2d3e-4f50-4a6b-8c7d-8e9fa0b1c2d3"]))
    def release_ahead(self, key: str) -> None:
        self.both(
            lambda: self.inv.release(key, tombstone=True),
            lambda: self.model.release(key, tombstone=True),
        )

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), ttl_ms=st.integers(1, 100_000), shorten=st.booleans())
    def extend(self, data: st.DataObject, ttl_ms: int, shorten: bool) -> None:
        key = self.some_id(data)
        self.both(
            lambda: self.inv.extend(key, ttl_ms=ttl_ms, shorten=shorten),
            lambda: self.model.extend(key, ttl_ms, shorten=shorten),
        )

    # ---- time and the end of processes -----------------------------------------------------------

    @rule(delta_ms=st.one_of(st.integers(1, 60), st.integers(1_000, 200_000)))
    def advance(self, delta_ms: int) -> None:
        self.clock.advance(delta_ms)
        self.model.advance_to(self.model.now_ms + delta_ms)

    @rule()
    def reopen(self) -> None:
        self.inv.close()
        self.inv = self.open()
        self.after_opening()

    @rule(seed=st.integers(0, 2**32))
    def power_cut(self, seed: int) -> None:
        """Everything that returned was durable, so nothing may be missing afterwards."""
        self.storage.power_cut(seed)
        self.inv = self.open()
        self.after_opening()

    def after_opening(self) -> None:
        """Downtime counts from the first moment (no grace here): the times are the same again."""
        self.clock.advance(1)
        self.model.advance_to(self.model.now_ms + 1)

    # ---- what always holds -----------------------------------------------------------------------

    @invariant()
    def proves_itself(self) -> None:
        self.model.check()
        report = self.inv.verify()
        assert report.ok, report.problems
        assert report.rows == sum(1 for _ in self.model.known_rows())
        held = sum(1 for hold in self.model.holds.values() if hold.sum("held"))
        assert report.timers == held

    @invariant()
    def rows_agree(self) -> None:
        for sku, rows in self.model.rows.items():
            answer = self.inv.availability(sku)
            assert {level.location for level in answer.levels} == set(rows)
            for level in answer.levels:
                self.compare_row(level, rows[level.location])
            assert answer.totals.on_hand == sum(row.on_hand for row in rows.values())
            assert answer.totals.available_to_promise == sum(row.promise() for row in rows.values())
            assert answer.totals.short == sum(row.short for row in rows.values())

    @invariant()
    def reservations_agree(self) -> None:
        for key, hold in self.model.holds.items():
            self.compare_hold(self.inv.reservation(key), hold)


StoreAgainstModel.TestCase.settings = settings(
    max_examples=scaled(100),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestStoreAgainstModel = StoreAgainstModel.TestCase
