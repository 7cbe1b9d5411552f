# SPDX-License-Identifier: Apache-2.0
"""The proof: the store against ledger and plain dictionary, after the crash and at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import inventory
from inventory.demo.baskets import Basket, Key
from inventory.demo.ledger import Story

AFTER_COMMIT = frozenset((inventory.State.ALLOCATED, inventory.State.SHIPPED))


@dataclass
class Audit:
    """What a comparison found; `lost`, `doubled` and `problems` are empty when all is well."""

    lost: list[str] = field(default_factory=list)  # acknowledged, and not in the store
    doubled: list[str] = field(default_factory=list)  # in the store more often than acknowledged
    problems: list[str] = field(default_factory=list)  # broken invariants and other differences
    states: Counter[str] = field(default_factory=Counter)  # reservations by state
    lsn: int = 0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.problems)


def audit(inv: inventory.Inventory, story: Story, baskets: Sequence[Basket]) -> Audit:
    """Compare every acknowledged operation, and every row it touches, with the store."""
    found = Audit()
    gone: dict[Key, int] = defaultdict(int)  # units shipped of each row
    allocated: dict[Key, int] = defaultdict(int)
    for basket in baskets:
        state, units = _check_reservation(inv, story, basket, found)
        if state is inventory.State.SHIPPED:
            _add(gone, basket.store, units)
        elif state is inventory.State.ALLOCATED:
            _add(allocated, basket.store, units)
    _check_rows(inv, story.loaded, gone, allocated, found)
    report = inv.verify()
    found.lsn = report.lsn
    found.problems.extend(report.problems)
    on_hand = sum(story.loaded.values()) - sum(gone.values())
    if report.on_hand != on_hand:
        found.problems.append(f"{report.on_hand} units on hand in all, {on_hand} expected")
    return found


def _add(rows: dict[Key, int], store: str, units: Mapping[str, int]) -> None:
    for sku, qty in units.items():
        rows[store, sku] += qty


def _check_reservation(
    inv: inventory.Inventory, story: Story, basket: Basket, found: Audit
) -> tuple[inventory.State | None, Mapping[str, int]]:
    """One basket: its state in the store and its units; complaints go to `found`."""
    acknowledged = story.taken.get(basket.basket_id)
    try:
        hold = inv.reservation(basket.reservation_id)
    except inventory.UnknownReservation:
        if acknowledged is not None:
            found.lost.append(f"{basket.reservation_id}: reserved and acknowledged, now unknown")
        return None, {}
    found.states[hold.state.value] += 1
    if acknowledged is None:  # the kill came between the engine's doing it and the ledger
        return hold.state, {line.sku: line.qty for line in hold.lines}
    units = acknowledged.units
    if units and hold.units != sum(units.values()):
        found.problems.append(
            f"{basket.reservation_id}: {hold.units} units, acknowledged {sum(units.values())}"
        )
    committed = basket.basket_id in story.committed
    shipped = basket.basket_id in story.shipped
    if shipped and hold.state is not inventory.State.SHIPPED:
        found.lost.append(f"{basket.reservation_id}: shipped and acknowledged, now {hold.state}")
    elif committed and hold.state not in AFTER_COMMIT:
        found.lost.append(f"{basket.reservation_id}: committed and acknowledged, now {hold.state}")
    return hold.state, units


def _check_rows(
    inv: inventory.Inventory,
    loaded: Mapping[Key, int],
    gone: Mapping[Key, int],
    allocated: Mapping[Key, int],
    found: Audit,
) -> None:
    """Every row against the dictionary: what came in less what left."""
    for (store, sku), start in loaded.items():
        level = inv.availability(sku, store)
        expected = start - gone.get((store, sku), 0)
        if level.on_hand < expected:
            found.doubled.append(f"{sku} at {store}: {expected - level.on_hand} units too few")
        elif level.on_hand > expected:
            found.lost.append(f"{sku} at {store}: {level.on_hand - expected} units too many")
        if level.allocated != allocated.get((store, sku), 0):
            found.problems.append(f"{sku} at {store}: {level.allocated} allocated, expected other")


def oversold_units(story: Story, baskets: Iterable[Basket]) -> int:
    """Units shipped beyond the start stock, by the ledger alone: 0 unless the engine oversold."""
    left = dict(story.loaded)
    for basket in baskets:
        if basket.basket_id in story.shipped:
            for sku, qty in story.taken[basket.basket_id].units.items():
                left[basket.store, sku] = left.get((basket.store, sku), 0) - qty
    return sum(-units for units in left.values() if units < 0)


def invented_lines(story: Story, baskets: Iterable[Basket]) -> list[str]:
    """Taken lines that the basket never asked for, or with other figures: there must be none."""
    found = []
    for basket in baskets:
        taken = story.taken.get(basket.basket_id)
        wanted = basket.wanted()
        if taken is not None and any(wanted.get(sku) != qty for sku, qty in taken.units.items()):
            found.append(f"{basket.reservation_id}: taken lines that were not asked for")
    return found
