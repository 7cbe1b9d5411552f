# SPDX-License-Identifier: Apache-2.0
"""Every operation's ordinary cases, and the rules of a reservation's life, each a test by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

import inventory
from inventory import (
    Expired,
    IdempotencyMismatch,
    InsufficientStock,
    Inventory,
    Line,
    OverCommit,
    Reservation,
    State,
    UnknownReservation,
    UnknownSku,
)
from inventory.errors import (
    AlreadyCancelled,
    AlreadyCommitted,
    AlreadyReleased,
    AlreadyShipped,
    CasFailed,
    QtyOutOfRange,
    StaleId,
)
from inventory.testing import ManualClock

TTL_MS = 60_000
QTY_MAX = 2_147_483_647


def figures(inv: Inventory, sku: str = "TEE", location: str = "LON") -> tuple[int, int, int]:
    """on_hand, held, allocated of one row."""
    level = inv.availability(sku, location)
    return level.on_hand, level.held, level.allocated


def places(hold: Reservation) -> list[tuple[str, str | None, int]]:
    return sorted((line.sku, line.location, line.qty) for line in hold.lines)


# ---- stock --------------------------------------------------------------------------------------


def test_receive_creates_what_did_not_exist(inv: Inventory) -> None:
    change = inv.receive("NEW", "OSL", 7, reason="purchase", reference="po-1")
    assert change.level.on_hand == change.level.available_to_promise == 7
    assert (change.level.sku, change.level.location) == ("NEW", "OSL")
    assert change.replayed is False
    assert change.lsn == change.level.lsn <= inv.availability("NEW", "OSL").lsn


def test_receive_again_with_the_same_op_id_moves_nothing(inv: Inventory) -> None:
    first = inv.receive("TEE", "LON", 3, op_id="po-1", reason="a")
    again = inv.receive("TEE", "LON", 3, op_id="po-1", reason="b")  # reason is not in the body
    assert (first.replayed, again.replayed) == (False, True)
    assert again.lsn == first.lsn
    assert figures(inv) == (13, 0, 0)


def test_op_id_with_another_body_is_refused(inv: Inventory) -> None:
    inv.receive("TEE", "LON", 3, op_id="po-1")
    with pytest.raises(IdempotencyMismatch):
        inv.receive("TEE", "LON", 4, op_id="po-1")
    with pytest.raises(IdempotencyMismatch) as caught:
        inv.issue("TEE", "LON", 3, op_id="po-1")
    assert caught.value.fields
    assert figures(inv) == (13, 0, 0)


def test_op_ids_and_reservation_ids_are_separate(inv: Inventory) -> None:
    inv.receive("TEE", "LON", 3, op_id="same")
    assert inv.reserve("TEE", 1, reservation_id="same").replayed is False


def test_issue_never_takes_promised_units(inv: Inventory) -> None:
    inv.reserve("TEE", 8, location="LON")
    with pytest.raises(InsufficientStock) as caught:
        inv.issue("TEE", "LON", 3)
    assert caught.value.short[0].requested == 3
    assert inv.issue("TEE", "LON", 2).level.on_hand == 8


def test_issue_may_go_into_safety_stock(inv: Inventory) -> None:
    inv.set_policy("TEE", "LON", safety_stock=10)
    assert inv.issue("TEE", "LON", 10).level.on_hand == 0


def test_issue_of_an_unknown_sku(inv: Inventory) -> None:
    with pytest.raises(UnknownSku) as caught:
        inv.issue("NOPE", "LON", 1)
    assert caught.value.sku == "NOPE"


def test_adjust_physical_truth_wins(inv: Inventory) -> None:
    inv.reserve("TEE", 8, location="LON")
    level = inv.adjust("TEE", "LON", -6, reason="damage").level
    assert (level.on_hand, level.held, level.available, level.short) == (4, 8, 0, 4)


def test_adjust_strict_refuses_to_break_promises(inv: Inventory) -> None:
    inv.reserve("TEE", 8, location="LON")
    with pytest.raises(InsufficientStock):
        inv.adjust("TEE", "LON", -3, strict=True)
    assert inv.adjust("TEE", "LON", -2, strict=True).level.on_hand == 8


def test_adjust_not_below_zero(inv: Inventory) -> None:
    with pytest.raises(QtyOutOfRange):
        inv.adjust("TEE", "LON", -11)
    assert inv.adjust("TEE", "LON", -10).level.on_hand == 0


def test_adjust_of_an_unknown_sku(inv: Inventory) -> None:
    with pytest.raises(UnknownSku):
        inv.adjust("NOPE", "LON", -1)
    assert inv.adjust("FOUND", "LON", 1).level.on_hand == 1


def test_set_on_hand_is_compare_and_set(inv: Inventory) -> None:
    assert inv.set_on_hand("TEE", "LON", 12, if_on_hand=10, reason="count").level.on_hand == 12
    with pytest.raises(CasFailed) as caught:
        inv.set_on_hand("TEE", "LON", 9, if_on_hand=10)
    assert caught.value.actual == 12
    assert figures(inv) == (12, 0, 0)


def test_set_on_hand_to_zero_and_to_the_same(inv: Inventory) -> None:
    assert inv.set_on_hand("TEE", "LON", 10, if_on_hand=10).level.on_hand == 10
    assert inv.set_on_hand("TEE", "LON", 0, if_on_hand=10).level.on_hand == 0


def test_set_policy_keeps_units_out_of_promises(inv: Inventory) -> None:
    """Magento MSI: safety stock 5 on 8: ask 3 yes, ask 4 no."""
    inv.receive("BAG", "LON", 8)
    change = inv.set_policy("BAG", "LON", safety_stock=5)
    assert (change.sku, change.location, change.safety_stock) == ("BAG", "LON", 5)
    with pytest.raises(InsufficientStock) as caught:
        inv.reserve("BAG", 4)
    assert caught.value.short[0].available_to_promise == 3
    assert inv.reserve("BAG", 3).units == 3


def test_set_policy_for_every_row(inv: Inventory) -> None:
    assert inv.set_policy("TEE", safety_stock=2).location is None
    assert [level.safety_stock for level in inv.availability("TEE").levels] == [2, 2]


def test_use_safety_stock(inv: Inventory) -> None:
    inv.set_policy("MUG", "LON", safety_stock=5)
    with pytest.raises(InsufficientStock):
        inv.reserve("MUG", 1)
    assert inv.reserve("MUG", 5, use_safety_stock=True).units == 5


def test_counters_stop_at_their_limit(inv: Inventory) -> None:
    inv.receive("BOLT", "LON", QTY_MAX)
    with pytest.raises(QtyOutOfRange) as caught:
        inv.receive("BOLT", "LON", 1)
    assert caught.value.limit == QTY_MAX
    assert figures(inv, "BOLT") == (QTY_MAX, 0, 0)


def test_totals_are_64_bit(inv: Inventory) -> None:
    inv.receive("BOLT", "LON", QTY_MAX)
    inv.receive("BOLT", "PAR", QTY_MAX)
    assert inv.availability("BOLT").totals.on_hand == 2 * QTY_MAX


# ---- reads --------------------------------------------------------------------------------------


def test_availability_of_a_row(inv: Inventory, clock: ManualClock) -> None:
    inv.reserve("TEE", 2, location="LON")
    level = inv.availability("TEE", "LON")
    assert (level.on_hand, level.held, level.reserved, level.available) == (10, 2, 2, 8)
    assert (level.safety_stock, level.short, level.backordered, level.incoming) == (0, 0, 0, 0)
    assert level.now_unix_ms == clock.now_unix_ms
    assert inv.availability("TEE", "LON", relaxed=True) == level


def test_availability_of_a_sku(inv: Inventory) -> None:
    found = inv.availability("TEE")
    assert {level.location: level.on_hand for level in found.levels} == {"LON": 10, "PAR": 4}
    assert (found.totals.on_hand, found.totals.available_to_promise) == (14, 14)
    assert found.lsn > 0


def test_a_short_row_never_eats_another_rows_stock(inv: Inventory) -> None:
    inv.reserve("TEE", 10, location="LON")
    inv.adjust("TEE", "LON", -6)
    totals = inv.availability("TEE").totals
    assert (totals.available_to_promise, totals.short) == (4, 6)


def test_a_known_sku_at_a_location_without_a_row_is_zeros(inv: Inventory) -> None:
    for location in ("PAR", "NOWHERE"):
        level = inv.availability("MUG", location)
        assert (level.on_hand, level.available_to_promise, level.location) == (0, 0, location)


def test_availability_of_an_unknown_sku(inv: Inventory) -> None:
    with pytest.raises(UnknownSku) as caught:
        inv.availability("NOPE")
    assert caught.value.sku == "NOPE"
    with pytest.raises(UnknownSku):
        inv.availability("NOPE", "LON")


def test_more_rows_than_fit_the_first_look(inv: Inventory) -> None:
    for number in range(300):
        inv.receive("WIDE", f"L{number}", 1)
    found = inv.availability("WIDE")
    assert len(found.levels) == found.totals.on_hand == 300
    assert {level.location for level in found.levels} == {f"L{number}" for number in range(300)}


def test_sellers_have_their_own_skus_and_ids(inv: Inventory) -> None:
    inv.receive("TEE", "LON", 3, seller="acme")
    assert inv.availability("TEE", "LON", seller="acme").on_hand == 3
    inv.reserve("TEE", 3, seller="acme", reservation_id="cart-1")
    assert inv.reserve("TEE", 1, reservation_id="cart-1").replayed is False
    assert inv.reservation("cart-1", seller="acme").units == 3
    with pytest.raises(UnknownSku):
        inv.availability("MUG", seller="acme")


# ---- reserve ------------------------------------------------------------------------------------


def test_reserve_holds_units_until_a_deadline(inv: Inventory, clock: ManualClock) -> None:
    hold = inv.reserve("TEE", 2, location="LON", ttl_ms=TTL_MS, reservation_id="cart-1")
    assert hold.state is State.HELD
    assert hold.expires_at_unix_ms == clock.now_unix_ms + TTL_MS
    assert hold.now_unix_ms == clock.now_unix_ms
    assert hold.ended_at_unix_ms is None
    assert (hold.replayed, hold.reheld, hold.units) == (False, False, 2)
    (line,) = hold.lines
    assert (line.sku, line.location, line.qty, line.held) == ("TEE", "LON", 2, 2)
    assert (line.allocated, line.shipped, line.backordered) == (0, 0, 0)
    assert figures(inv) == (10, 2, 0)
    seen = inv.reservation("cart-1")
    assert (seen.state, seen.lines, seen.lsn) == (hold.state, hold.lines, hold.lsn)


def test_default_ttl_is_ten_minutes(inv: Inventory, clock: ManualClock) -> None:
    assert inv.reserve("TEE", 1).expires_at_unix_ms == clock.now_unix_ms + 600_000


def test_without_an_id_a_uuid7_is_made(inv: Inventory, clock: ManualClock) -> None:
    holds = [inv.reserve("MUG", 1) for _ in range(5)]
    assert len({hold.reservation_id for hold in holds}) == 5
    made = uuid.UUID(holds[0].reservation_id)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(made.bytes[:6], "big") == clock.now_unix_ms
    assert inv.reservation(holds[0].reservation_id).units == 1


def test_a_uuid_in_any_letter_case_is_one_id(inv: Inventory) -> None:
    key = "0B1C2D3E-4F50-4A6B-8C7D-8E9FA0B1C2D3"
    hold = inv.reserve("TEE", 1, reservation_id=key)
    assert hold.reservation_id == key.lower()
    assert inv.reserve("TEE", 1, reservation_id=key.lower()).replayed is True


def test_other_ids_are_compared_as_they_are(inv: Inventory) -> None:
    for key in ("Cart", "cart", "0b1c2d3e4f504a6b8c7d8e9fa0b1c2d3", "x" * 36, "Ä-1"):
        hold = inv.reserve("TEE", 1, reservation_id=key)
        assert (hold.reservation_id, hold.replayed) == (key, False)


def test_all_or_nothing(inv: Inventory) -> None:
    with pytest.raises(InsufficientStock):
        inv.reserve_lines([("TEE", "LON", 2), ("MUG", "LON", 6)], reservation_id="cart-1")
    assert figures(inv) == (10, 0, 0)
    with pytest.raises(UnknownReservation):
        inv.reservation("cart-1")


def test_a_refusal_lists_every_short_line(inv: Inventory) -> None:
    lines = [("TEE", "LON", 11), ("MUG", "LON", 1), ("NOPE", None, 1), ("TEE", "OSL", 1)]
    with pytest.raises(InsufficientStock) as caught:
        inv.reserve_lines(lines)
    short = {
        (line.sku, line.location): (line.requested, line.available_to_promise)
        for line in caught.value.short
    }
    assert short == {("TEE", "LON"): (11, 10), ("NOPE", None): (1, 0), ("TEE", "OSL"): (1, 0)}


def test_a_refusal_names_alternatives(inv: Inventory) -> None:
    with pytest.raises(InsufficientStock) as caught:
        inv.reserve("TEE", 5, location="PAR")
    (line,) = caught.value.short
    assert line.alternatives == ("LON",)
    assert line.closed is False


def test_equal_lines_are_summed_before_the_check(inv: Inventory) -> None:
    with pytest.raises(InsufficientStock) as caught:
        inv.reserve_lines([("MUG", "LON", 3), ("MUG", "LON", 3)])
    (line,) = caught.value.short
    assert (line.requested, line.available_to_promise) == (6, 5)
    assert inv.reserve_lines([("MUG", "LON", 3), ("MUG", "LON", 2)]).units == 5


def test_lines_with_a_location_are_served_before_free_lines(inv: Inventory) -> None:
    hold = inv.reserve_lines([("TEE", None, 4), ("TEE", "LON", 10)])
    assert places(hold) == [("TEE", "LON", 10), ("TEE", "PAR", 4)]


def test_a_free_line_is_split_in_order_of_first_use(inv: Inventory) -> None:
    hold = inv.reserve("TEE", 12)
    assert places(hold) == [("TEE", "LON", 10), ("TEE", "PAR", 2)]
    with pytest.raises(InsufficientStock) as caught:
        inv.reserve("TEE", 3)
    (line,) = caught.value.short
    assert (line.location, line.available_to_promise) == (None, 2)


def test_lines_may_be_line_objects(inv: Inventory) -> None:
    hold = inv.reserve_lines([Line("TEE", 2, location="LON"), Line("MUG", 1)])
    assert places(hold) == [("MUG", "LON", 1), ("TEE", "LON", 2)]


def test_a_cart_of_4096_lines(open_store: Callable[..., Inventory]) -> None:
    inv = open_store(segment_bytes=4 << 20)
    for number in range(4_096):
        inv.receive(f"S{number}", "LON", 1)
    lines = [(f"S{number}", None, 1) for number in range(4_096)]
    hold = inv.reserve_lines(lines, reservation_id="big")
    assert hold.units == len(hold.lines) == 4_096
    assert len(inv.commit("big").lines) == 4_096
    shipped = inv.ship("big")
    assert sum(line.shipped for line in shipped.lines) == 4_096
    assert inv.verify().ok


def test_a_hold_over_more_places_than_a_cart_has_lines(inv: Inventory) -> None:
    for number in range(5_000):
        inv.receive("THIN", f"L{number}", 1)
    try:
        hold = inv.reserve("THIN", 5_000, reservation_id="wide")
    except inventory.errors.LimitExceeded:
        return  # the core may bound the places of one reservation: then it says so
    assert len(hold.lines) == 5_000
    assert len({line.location for line in hold.lines}) == 5_000


def test_same_id_same_body_is_the_first_answer_again(inv: Inventory) -> None:
    first = inv.reserve("TEE", 10, location="LON", reservation_id="cart-1")
    again = inv.reserve("TEE", 10, location="LON", reservation_id="cart-1")
    assert (again.replayed, again.state, again.lines) == (True, State.HELD, first.lines)
    assert again.expires_at_unix_ms == first.expires_at_unix_ms
    inv.commit("cart-1")
    again = inv.reserve("TEE", 10, location="LON", reservation_id="cart-1")
    assert (again.replayed, again.state) == (True, State.ALLOCATED)


def test_same_id_same_body_of_an_ended_one(inv: Inventory, clock: ManualClock) -> None:
    inv.reserve("TEE", 3, location="LON", reservation_id="cart-1")
    ended = inv.release("cart-1")
    again = inv.reserve("TEE", 3, location="LON", reservation_id="cart-1")
    assert (again.replayed, again.state, again.units) == (True, State.RELEASED, 3)
    assert again.ended_at_unix_ms == clock.now_unix_ms
    assert again.lsn == ended.lsn
    assert figures(inv) == (10, 0, 0)


def test_a_body_is_lines_sorted_and_summed(inv: Inventory) -> None:
    inv.reserve_lines([("TEE", "LON", 1), ("MUG", "LON", 2)], reservation_id="cart-1")
    again = inv.reserve_lines(
        [("MUG", "LON", 1), ("TEE", "LON", 1), ("MUG", "LON", 1)], reservation_id="cart-1"
    )
    assert again.replayed is True


def test_same_id_other_body_names_the_fields(inv: Inventory) -> None:
    inv.reserve("TEE", 1, reservation_id="cart-1", ttl_ms=TTL_MS, account="web")
    cases: list[tuple[Callable[[], object], tuple[str, ...]]] = [
        (
            lambda: inv.reserve("TEE", 2, reservation_id="cart-1", ttl_ms=TTL_MS, account="web"),
            ("lines",),
        ),
        (
            lambda: inv.reserve("TEE", 1, reservation_id="cart-1", ttl_ms=1, account="web"),
            ("ttl_ms",),
        ),
        (lambda: inv.reserve("TEE", 1, reservation_id="cart-1", ttl_ms=TTL_MS), ("account",)),
    ]
    for call, fields in cases:
        with pytest.raises(IdempotencyMismatch) as caught:
            call()
        assert caught.value.fields == fields
    inv.release("cart-1")
    with pytest.raises(IdempotencyMismatch) as caught:
        inv.reserve("TEE", 2, reservation_id="cart-1", ttl_ms=TTL_MS, account="web")
    assert caught.value.fields == ("body",)


def test_an_existing_id_is_recognised_before_any_other_check(inv: Inventory) -> None:
    inv.reserve("MUG", 5, reservation_id="cart-1")
    inv.adjust("MUG", "LON", -5)  # could not be done today
    assert inv.reserve("MUG", 5, reservation_id="cart-1").replayed is True


def test_retry_after_a_refusal_is_judged_afresh(inv: Inventory) -> None:
    with pytest.raises(InsufficientStock):
        inv.reserve("MUG", 6, reservation_id="cart-1")
    inv.receive("MUG", "LON", 1)
    assert inv.reserve("MUG", 6, reservation_id="cart-1").replayed is False


def test_a_stale_uuid7_is_refused_never_repeated(inv: Inventory, clock: ManualClock) -> None:
    old = inv.reserve("TEE", 1).reservation_id
    inv.release(old)
    clock.advance(2 * 86_400_000)
    with pytest.raises(StaleId) as caught:
        inv.reserve("TEE", 1, reservation_id=old)
    assert caught.value.reservation_id == old
    assert inv.reserve("TEE", 1).replayed is False  # a fresh one bears the clock's time


# ---- commit, ship, release, cancel --------------------------------------------------------------


def test_commit_then_ship(inv: Inventory) -> None:
    inv.reserve("TEE", 2, location="LON", reservation_id="cart-1")
    order = inv.commit("cart-1")
    assert (order.state, order.expires_at_unix_ms) == (State.ALLOCATED, None)
    assert order.lines[0].allocated == 2
    assert figures(inv) == (10, 0, 2)
    gone = inv.ship("cart-1")
    assert gone.state is State.SHIPPED
    assert gone.lines[0].shipped == 2
    assert figures(inv) == (8, 0, 0)


def test_ship_commits_and_ships_in_one_step(inv: Inventory) -> None:
    inv.reserve("TEE", 2, location="LON", reservation_id="till-1")
    assert inv.ship("till-1").state is State.SHIPPED
    assert figures(inv) == (8, 0, 0)


def test_release_and_cancel_give_back(inv: Inventory) -> None:
    inv.reserve("TEE", 2, location="LON", reservation_id="a")
    inv.reserve("TEE", 3, location="LON", reservation_id="b")
    inv.commit("b")
    assert inv.release("a").state is State.RELEASED
    assert inv.cancel("b").state is State.CANCELLED
    assert figures(inv) == (10, 0, 0)


def test_partial_commit_keeps_the_rest_under_the_old_deadline(inv: Inventory) -> None:
    hold = inv.reserve("TEE", 5, location="LON", reservation_id="cart-1")
    part = inv.commit("cart-1", lines=[("TEE", "LON", 2)], final=False, op_id="c-1")
    assert (part.state, part.expires_at_unix_ms) == (State.HELD, hold.expires_at_unix_ms)
    assert (part.lines[0].held, part.lines[0].allocated) == (3, 2)
    again = inv.commit("cart-1", lines=[("TEE", "LON", 2)], final=False, op_id="c-1")
    assert again.replayed is True
    inv.commit("cart-1", lines=[("TEE", "LON", 1)], final=False, op_id="c-2")
    assert figures(inv) == (10, 2, 3)


def test_final_partial_commit_releases_the_rest(inv: Inventory) -> None:
    inv.reserve("TEE", 5, location="LON", reservation_id="cart-1")
    order = inv.commit("cart-1", lines=[("TEE", "LON", 2)])
    assert order.state is State.ALLOCATED
    assert figures(inv) == (10, 0, 2)


def test_more_than_remains_is_over_commit(inv: Inventory) -> None:
    inv.reserve("TEE", 5, location="LON", reservation_id="cart-1")
    for call in (inv.commit, inv.ship, inv.release, inv.cancel):
        with pytest.raises(OverCommit) as caught:
            call("cart-1", lines=[("TEE", "LON", 6)])
        (line,) = caught.value.remaining
        assert (line.sku, line.location, line.requested, line.remaining) == ("TEE", "LON", 6, 5)
    assert figures(inv) == (10, 5, 0)


def test_partial_ship_cancel_release_leave_the_rest(inv: Inventory) -> None:
    """Vendure: commit 3, cancel 1, ship 2."""
    inv.reserve("MUG", 5, reservation_id="cart-1")
    assert inv.release("cart-1", lines=[("MUG", "LON", 2)], op_id="r-1").state is State.HELD
    inv.commit("cart-1")
    assert figures(inv, "MUG") == (5, 0, 3)
    inv.cancel("cart-1", lines=[("MUG", "LON", 1)], op_id="x-1")
    assert figures(inv, "MUG") == (5, 0, 2)
    part = inv.ship("cart-1", lines=[("MUG", "LON", 1)], op_id="s-1")
    assert part.state is State.ALLOCATED
    assert inv.ship("cart-1", lines=[("MUG", "LON", 1)], op_id="s-1").replayed is True
    assert figures(inv, "MUG") == (4, 0, 1)
    assert inv.ship("cart-1").state is State.SHIPPED
    assert figures(inv, "MUG") == (3, 0, 0)


def test_the_same_shipment_posted_twice_moves_stock_once(inv: Inventory) -> None:
    inv.reserve("TEE", 5, location="LON", reservation_id="cart-1")
    for _ in range(2):
        inv.ship("cart-1", lines=[("TEE", "LON", 2)], op_id="asn-1")
    assert figures(inv)[0] == 8


@pytest.mark.parametrize("name", ["commit", "ship", "release", "cancel"])
def test_the_same_again_is_a_replay(inv: Inventory, name: str) -> None:
    inv.reserve("TEE", 2, location="LON", reservation_id="cart-1")
    first = getattr(inv, name)("cart-1")
    again = getattr(inv, name)("cart-1")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.state is first.state


def expire(inv: Inventory, clock: ManualClock) -> None:
    clock.advance(TTL_MS)


WRONG_ORDER: dict[str, tuple[Any, Callable[[Inventory, ManualClock], object], list[str]]] = {
    "released": (
        AlreadyReleased,
        lambda inv, clock: inv.release("cart-1"),
        ["commit", "ship", "cancel", "extend"],
    ),
    "cancelled": (
        AlreadyCancelled,
        lambda inv, clock: inv.cancel("cart-1"),
        ["commit", "ship", "release", "extend"],
    ),
    "shipped": (
        AlreadyShipped,
        lambda inv, clock: inv.ship("cart-1"),
        ["commit", "release", "cancel", "extend"],
    ),
    "expired": (Expired, expire, ["commit", "ship", "release", "cancel", "extend"]),
    "committed": (
        AlreadyCommitted,
        lambda inv, clock: inv.commit("cart-1"),
        ["release", "extend"],
    ),
}


@pytest.mark.parametrize(
    ("after", "name"), [(after, name) for after, row in WRONG_ORDER.items() for name in row[2]]
)
def test_the_wrong_order(inv: Inventory, clock: ManualClock, after: str, name: str) -> None:
    error, end, _ = WRONG_ORDER[after]
    inv.reserve("TEE", 2, location="LON", ttl_ms=TTL_MS, reservation_id="cart-1")
    end(inv, clock)
    before = figures(inv), inv.metrics().lsn_appended
    options = {"ttl_ms": TTL_MS} if name == "extend" else {}
    with pytest.raises(error) as caught:
        getattr(inv, name)("cart-1", **options)
    assert caught.value.reservation_id == "cart-1"
    assert (figures(inv), inv.metrics().lsn_appended) == before
    if after == "committed":
        assert caught.value.state is State.ALLOCATED
        assert caught.value.units == 2


@pytest.mark.parametrize("name", ["commit", "ship", "release", "cancel"])
def test_unknown_id(inv: Inventory, name: str) -> None:
    with pytest.raises(UnknownReservation) as caught:
        getattr(inv, name)("nobody")
    assert caught.value.reservation_id == "nobody"


def test_a_tombstone_refuses_a_late_reserve(inv: Inventory) -> None:
    inv.release("late", tombstone=True)
    with pytest.raises(AlreadyReleased):
        inv.reserve("TEE", 1, reservation_id="late")
    assert figures(inv) == (10, 0, 0)


def test_ship_from_a_short_row_needs_the_units(inv: Inventory) -> None:
    """Odoo: 20 on hand, 80 allocated: shipping 50 is refused, nothing changes."""
    inv.receive("BOX", "LON", 80)
    inv.reserve("BOX", 80, reservation_id="cart-1")
    inv.commit("cart-1")
    inv.adjust("BOX", "LON", -60, reason="count")
    with pytest.raises(InsufficientStock):
        inv.ship("cart-1", lines=[("BOX", "LON", 50)], op_id="s-1")
    assert figures(inv, "BOX") == (20, 0, 80)
    inv.ship("cart-1", lines=[("BOX", "LON", 20)], op_id="s-2")
    assert figures(inv, "BOX") == (0, 0, 60)


def test_committing_a_hold_on_a_short_row_is_allowed(inv: Inventory) -> None:
    inv.reserve("MUG", 5, reservation_id="cart-1")
    inv.adjust("MUG", "LON", -3)
    assert inv.commit("cart-1").state is State.ALLOCATED


def test_a_short_row_takes_no_new_promises(inv: Inventory) -> None:
    inv.reserve("MUG", 5, reservation_id="cart-1")
    inv.adjust("MUG", "LON", -3)
    with pytest.raises(InsufficientStock) as caught:
        inv.reserve("MUG", 1)
    assert caught.value.short[0].available_to_promise == 0


# ---- the store ----------------------------------------------------------------------------------


def test_verify_counts_what_is_there(inv: Inventory) -> None:
    inv.reserve("TEE", 2, location="LON")
    inv.reserve("MUG", 1, reservation_id="gone")
    inv.ship("gone")
    report = inv.verify()
    assert report.ok
    assert report.problems == ()
    assert (report.skus, report.rows, report.holds, report.timers) == (2, 3, 1, 1)
    assert (report.on_hand, report.held, report.allocated) == (18, 2, 0)


def test_metrics_and_barrier(inv: Inventory) -> None:
    inv.reserve("TEE", 2)
    lsn = inv.barrier()
    metrics = inv.metrics()
    assert metrics.lsn_durable >= lsn
    assert metrics.live_holds == 1


def test_close_twice_and_context_manager(open_store: Callable[..., Inventory]) -> None:
    with open_store() as inv:
        closed_inside = inv.closed
    assert not closed_inside
    inv.close()
    assert inv.closed
    assert "closed" in repr(inv)
    with pytest.raises(inventory.StoreClosed):
        inv.metrics()


def test_results_are_frozen_and_encodable(inv: Inventory) -> None:
    import msgspec

    hold = inv.reserve("TEE", 2)
    with pytest.raises(AttributeError):
        hold.units = 3  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(hold), type=Reservation) == hold
    assert hash(hold) == hash(hold)


@pytest.mark.parametrize("durability", ["durable", "interval"])
def test_the_same_on_a_real_directory(tmp_path: object, durability: str) -> None:
    path = f"{tmp_path}/shop"
    with inventory.open(path, durability=durability, segment_bytes=4 << 20) as inv:  # type: ignore[arg-type]
        assert inv.recovery.created
        inv.receive("TEE", "LON", 10)
        inv.reserve("TEE", 2, reservation_id="cart-1")
    with inventory.open(path, segment_bytes=4 << 20) as inv:
        assert inv.recovery.clean_shutdown
        assert figures(inv) == (10, 2, 0)
        assert inv.reservation("cart-1").state is State.HELD
    assert inventory.verify(path).held == 2


def test_memory_mode() -> None:
    with inventory.open() as inv:
        inv.receive("TEE", "LON", 10)
        assert inv.reserve("TEE", 2).state is State.HELD
        inv.barrier()
        assert inv.verify().ok
