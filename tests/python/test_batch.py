# SPDX-License-Identifier: Apache-2.0
"""Batches against single calls: the same rows one by one on a second store are the oracle."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import inventory
from inventory import errors
from inventory.testing import ManualClock, MemoryStorage

SKUS = [f"SKU-{n}" for n in range(40)]
PLACES = ["LON", "NYC", "PAR", "OSL"]  # nothing is loaded in OSL
NONE = 0xFFFF
TTL_MAX = 30 * 24 * 3600 * 1000


@pytest.fixture
def inv() -> Iterator[inventory.Inventory]:
    with inventory.open() as shop:
        yield shop


def ids_of(*numbers: int) -> NDArray[np.uint8]:
    raw = b"".join(uuid.UUID(int=n, version=4).bytes for n in numbers)
    return np.frombuffer(raw, "uint8").reshape(-1, 16)


def int64(*values: int) -> NDArray[np.int64]:
    return np.array(values, "int64")


def load(inv: inventory.Inventory, qty: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    skus = inv.sku_ids(SKUS, create=True)
    places = inv.location_ids(PLACES, create=True)
    rows = np.repeat(skus, 3)
    codes = inv.receive_batch(
        rows, np.tile(places[:3], len(skus)), np.full(len(rows), qty), reason="opening"
    )
    assert not codes.any()
    return skus, places


class OneByOne:
    """The same calls, each as a single call by name; answers codes as a batch does."""

    def __init__(self, inv: inventory.Inventory) -> None:
        self.inv = inv

    def code(self, call: Any) -> int:
        try:
            answer = call()
        except errors.InventoryError as error:
            return int(error.code)
        if not answer.replayed:
            return 0
        state = getattr(answer, "state", None)
        ended = {"EXPIRED": 11, "RELEASED": 13, "CANCELLED": 14}
        return ended.get(str(state).upper(), 1)

    def reserve(self, sku: str, place: str | None, qty: int, key: str, ttl_ms: int) -> int:
        return self.code(
            lambda: self.inv.reserve(sku, qty, location=place, reservation_id=key, ttl_ms=ttl_ms)
        )

    def stock(self, name: str, sku: str, place: str, qty: int) -> int:
        return self.code(lambda: getattr(self.inv, name)(sku, place, qty))

    def by_id(self, name: str, key: str, **more: Any) -> int:
        try:
            return int(getattr(self.inv, name)(key, **more).replayed)
        except errors.InventoryError as error:
            return int(error.code)


@pytest.mark.parametrize("seed", range(6))
def test_batches_do_what_single_calls_do(seed: int) -> None:
    dice = random.Random(seed)
    clocks = ManualClock(), ManualClock()
    with (
        inventory.open(clock=clocks[0], storage=MemoryStorage(), durability="interval") as batch,
        inventory.open(clock=clocks[1]) as single,
    ):
        skus, places = load(batch, 6)
        load(single, 6)
        oracle = OneByOne(single)
        keys = 0
        for _ in range(60):
            n = dice.randint(1, 150)
            ends = ["commit", "ship", "release", "cancel", "extend"]
            stock = ["receive", "issue", "adjust"]
            kind = dice.choice(["reserve"] * 4 + ends + stock)
            chosen = [dice.randint(0, keys + n if kind == "reserve" else keys) for _ in range(n)]
            texts = [str(uuid.UUID(int=k, version=4)) for k in chosen]
            if kind == "reserve":
                keys += n
                which = [dice.randrange(len(SKUS)) for _ in range(n)]
                where = [dice.choice([0, 1, 2, NONE]) for _ in range(n)]
                qty = [dice.choice([1, 1, 2, 3, 0, 7, 2**31]) for _ in range(n)]
                ttl = [dice.choice([1000, 5000, 0, TTL_MAX, TTL_MAX + 1]) for _ in range(n)]
                codes = batch.reserve_batch(
                    skus[which],
                    np.array([NONE if w == NONE else places[w] for w in where], "uint16"),
                    int64(*qty),
                    ids_of(*chosen),
                    ttl_ms=np.array(ttl, "uint32"),
                )
                wanted = [
                    oracle.reserve(SKUS[s], None if w == NONE else PLACES[w], q, k, t)
                    for s, w, q, k, t in zip(which, where, qty, texts, ttl, strict=True)
                ]
            elif kind in stock:
                which = [dice.randrange(len(SKUS)) for _ in range(n)]
                where = [dice.randrange(len(PLACES)) for _ in range(n)]
                qty = [dice.choice([1, 2, 3, 0, -1, -2, 2**31 - 1, 2**31]) for _ in range(n)]
                codes = getattr(batch, f"{kind}_batch")(
                    skus[which], places[where], int64(*qty), reason=dice.choice(["", "count"])
                )
                wanted = [
                    oracle.stock(kind, SKUS[s], PLACES[w], q)
                    for s, w, q in zip(which, where, qty, strict=True)
                ]
            elif kind == "extend":
                codes = batch.extend_batch(ids_of(*chosen), ttl_ms=4000)
                wanted = [oracle.by_id(kind, k, ttl_ms=4000) for k in texts]
            else:
                codes = getattr(batch, f"{kind}_batch")(ids_of(*chosen))
                wanted = [oracle.by_id(kind, k) for k in texts]
            assert codes.tolist() == wanted, kind
            if dice.random() < 0.3:
                step_ms = dice.choice([1, 900, 3000])
                for clock in clocks:
                    clock.advance(step_ms)
        for sku in SKUS:
            ours, theirs = batch.availability(sku), single.availability(sku)
            for ours_at, theirs_at in zip(ours.levels, theirs.levels, strict=True):
                assert ours_at.held == theirs_at.held
                assert ours_at.allocated == theirs_at.allocated
                assert ours_at.on_hand == theirs_at.on_hand
        assert batch.verify().ok
        assert single.verify().ok


def test_stock_batches(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 10)
    at = np.full(3, places[0])
    assert inv.issue_batch(skus[:3], at, int64(4, 11, 0)).tolist() == [0, 10, 30]
    assert inv.adjust_batch(skus[:3], at, int64(-1, 5, 0), reason="count").tolist() == [0, 0, 30]
    keys = ids_of(1, 1, 2)
    assert inv.receive_batch(skus[:3], at, int64(1, 1, 1), op_ids=keys).tolist() == [0, 31, 0]
    assert inv.receive_batch(skus[:1], at[:1], int64(1), op_ids=keys[:1]).tolist() == [1]
    levels = inv.availability_batch(skus[:3], at)
    assert levels["on_hand"].tolist() == [6, 15, 11]
    assert levels["known"].all()


def test_availability_batch_equals_availability(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 10)
    inv.set_policy(SKUS[3], safety_stock=4)
    inv.reserve(SKUS[3], 2, location="LON")
    inv.reserve(SKUS[4], 9, location="NYC", reservation_id="a")
    inv.commit("a")
    rows = np.repeat(skus, 4)
    levels = inv.availability_batch(rows, np.tile(places, len(skus)))
    names = inv.sku_names(rows)
    for level, sku, place in zip(levels, names, PLACES * len(SKUS), strict=True):
        single = inv.availability(sku, place)
        for field in ("on_hand", "held", "allocated", "available_to_promise", "safety_stock"):
            assert level[field] == getattr(single, field), (sku, place, field)
    unknown = inv.availability_batch(np.array([0xFFFFFFFF, 1 << 20], "uint32"), places[:2])
    assert not unknown["known"].any()
    assert not unknown["on_hand"].any()


def test_names_in_every_form(inv: inventory.Inventory) -> None:
    names = ["TEE", "MÜG", "T-" + "x" * 126]
    first = inv.sku_ids(names, create=True)
    assert inv.sku_ids(tuple(names)).tolist() == first.tolist()
    assert inv.sku_ids(np.array(names)).tolist() == first.tolist()
    assert inv.sku_ids(np.array(names, object)).tolist() == first.tolist()
    assert inv.sku_ids(pa.array(names)).tolist() == first.tolist()
    assert inv.sku_ids(pa.array(["no", *names], pa.large_string())[1:]).tolist() == first.tolist()
    assert inv.sku_names(first) == names
    assert inv.sku_ids([]).tolist() == []
    assert inv.sku_ids(["TEE"], seller="other").tolist() == [0xFFFFFFFF]
    many = [f"N{n}" for n in range(5000)]
    numbers = inv.sku_ids(many * 2, create=True)
    assert (numbers[:5000] == numbers[5000:]).all()
    assert len(set(numbers.tolist())) == 5000
    assert inv.sku_names(numbers[:5000]) == many


def test_codes_of_one_batch_stand_alone(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 3)
    rows = np.array([skus[0], 0xFFFFFFFF, skus[1], skus[0], skus[2]], "uint32")
    at = np.array([places[0], places[0], 999, places[0], NONE], "uint16")
    codes = inv.reserve_batch(rows, at, int64(2, 1, 1, 2, 9), ids_of(*range(5)), ttl_ms=1000)
    assert codes.tolist() == [0, 10, 10, 10, 0]
    assert inv.receive_batch(rows[1:3], at[1:3], int64(1, 1)).tolist() == [21, 22]


BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("sku_ids", {"sku_ids": np.zeros(2, "int64")}, TypeError, "sku_ids must be uint32"),
    ("location_ids", {"location_ids": np.zeros(2, "uint32")}, TypeError, "location_ids"),
    ("qty", {"qty": np.zeros(2)}, TypeError, "qty must be int64"),
    ("qty", {"qty": int64(1)}, errors.BadRequest, "qty: 1 rows, and 2"),
    ("ids", {"reservation_ids": np.zeros((2, 15), "uint8")}, errors.BadRequest, "reservation_ids"),
    ("ids", {"reservation_ids": np.zeros(32, "uint8")}, errors.BadRequest, "reservation_ids"),
    ("ids", {"reservation_ids": None}, TypeError, "reservation_ids"),
    ("ttl", {"ttl_ms": 0}, errors.BadRequest, "ttl_ms"),
    ("ttl", {"ttl_ms": TTL_MAX + 1}, errors.BadRequest, "ttl_ms"),
    ("ttl", {"ttl_ms": 1.5}, TypeError, "ttl_ms"),
    ("ttl", {"ttl_ms": True}, TypeError, "ttl_ms"),
    ("ttl", {"ttl_ms": np.zeros(3, "uint32")}, errors.BadRequest, "ttl_ms"),
    ("account", {"account": "a" * 65}, errors.BadRequest, "account"),
    ("account", {"account": 7}, TypeError, "account"),
    ("seller", {"seller": ""}, errors.BadRequest, "seller"),
]


@pytest.mark.parametrize(("name", "change", "error", "says"), BAD)
def test_bad_columns_change_nothing(
    inv: inventory.Inventory, name: str, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    skus, places = load(inv, 3)
    good: dict[str, Any] = {
        "sku_ids": skus[:2],
        "location_ids": places[:2],
        "qty": int64(1, 1),
        "reservation_ids": ids_of(1, 2),
        "ttl_ms": 1000,
    }
    call = good | change
    columns = [call.pop(k) for k in ("sku_ids", "location_ids", "qty", "reservation_ids")]
    with pytest.raises(error, match=says):
        inv.reserve_batch(*columns, **call)
    assert inv.availability(SKUS[0]).totals.held == 0


def test_bad_names(inv: inventory.Inventory) -> None:
    with pytest.raises(errors.UnknownLocation):
        inv.location_ids(["NOWHERE"])
    for names, says in (
        (["a", ""], "names"),
        (["x" * 129], "names"),
        (pa.array(["a", None]), "nulls"),
    ):
        with pytest.raises(errors.BadRequest, match=says):
            inv.sku_ids(names, create=True)
    for wrong in ("TEE", [b"TEE"], [None], pa.array([1, 2])):
        with pytest.raises(TypeError, match="names"):
            inv.sku_ids(wrong)
    with pytest.raises(TypeError, match="create"):
        inv.sku_ids(["a"], create=1)  # type: ignore[arg-type]
    with pytest.raises(errors.BadRequest, match="no number"):
        inv.sku_names(np.array([77], "uint32"))


def test_limits_of_figures(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 1)
    most = 2**31 - 1
    at = places[:1]
    assert inv.receive_batch(skus[:1], at, int64(most - 1)).tolist() == [0]
    assert inv.receive_batch(skus[:1], at, int64(1)).tolist() == [33]
    assert inv.receive_batch(skus[1:2], at, int64(2**31)).tolist() == [30]
    codes = inv.reserve_batch(skus[:1], at, int64(most), ids_of(1), ttl_ms=TTL_MAX)
    assert codes.tolist() == [0]


def test_empty_batches(inv: inventory.Inventory) -> None:
    none = np.empty(0, "uint32"), np.empty(0, "uint16")
    assert inv.receive_batch(*none, int64()).tolist() == []
    assert inv.commit_batch(np.empty((0, 16), "uint8")).tolist() == []
    assert len(inv.availability_batch(*none)) == 0


def test_read_only_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    with inventory.open(path) as inv:
        skus, places = load(inv, 3)
    with inventory.open(path, read_only=True) as inv:
        assert inv.availability_batch(skus[:1], places[:1])["on_hand"].tolist() == [3]
        with pytest.raises(errors.Forbidden):
            inv.receive_batch(skus[:1], places[:1], int64(1))
        with pytest.raises(errors.Forbidden):
            inv.sku_ids(["NEW"], create=True)
    for call in (
        lambda: inv.receive_batch(skus[:1], places[:1], int64(1)),
        lambda: inv.commit_batch(ids_of(1)),
        lambda: inv.availability_batch(skus[:1], places[:1]),
        lambda: inv.sku_ids(["TEE"]),
        lambda: inv.sku_names(skus[:1]),
    ):
        with pytest.raises(errors.StoreClosed):
            call()


def test_threads_whose_first_call_is_a_batch(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 1000)
    start = threading.Barrier(4)
    codes: list[NDArray[np.uint8]] = []

    def work(number: int) -> None:
        rows = np.tile(skus[:4], 250)
        ids = ids_of(*range(number * 1000, number * 1000 + 1000))
        start.wait()
        codes.append(
            inv.reserve_batch(
                rows, np.full(1000, places[0]), np.ones(1000, "int64"), ids, ttl_ms=60_000
            )
        )
        inv.release_batch(ids[:500])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == 4
    assert not np.concatenate(codes).any()
    assert inv.availability_batch(skus[:4], np.full(4, places[0]))["held"].tolist() == [500] * 4
    assert inv.verify().ok


def test_a_batch_is_durable_when_it_returns() -> None:
    disk = MemoryStorage()
    clock = ManualClock()
    inv = inventory.open(storage=disk, clock=clock)
    skus, _places = load(inv, 50)
    n = 3000
    rows = skus[np.arange(n) % len(skus)]
    ids = ids_of(*range(n))
    codes = inv.reserve_batch(
        rows, np.full(n, NONE, "uint16"), np.ones(n, "int64"), ids, ttl_ms=60_000
    )
    assert not codes.any()
    disk.power_cut(seed=0)
    with inventory.open(storage=disk, clock=clock) as inv:
        again = inv.reserve_batch(
            rows, np.full(n, NONE, "uint16"), np.ones(n, "int64"), ids, ttl_ms=60_000
        )
        assert set(again.tolist()) == {1}
        assert inv.verify().ok
        assert not inv.release_batch(ids).any()
        assert set(
            inv.reserve_batch(
                rows, np.full(n, NONE, "uint16"), np.ones(n, "int64"), ids, ttl_ms=60_000
            ).tolist()
        ) == {13}


def test_columns_changed_during_a_call_hurt_no_row(inv: inventory.Inventory) -> None:
    """The caller's threads may write to the arrays: another row then, but never a broken one."""
    skus, places = load(inv, 2**31 - 1)
    n = 50_000
    rows, turn = skus[np.arange(n) % len(skus)], np.arange(n)
    ids = np.zeros((n, 16), "uint8")
    over = threading.Event()

    def scribble() -> None:
        number = 0
        while not over.is_set():
            number += 1
            ids[:, :4] = np.frombuffer(np.uint32(number).tobytes(), "uint8")
            rows[:] = skus[(turn + number) % len(skus)]

    scribbler = threading.Thread(target=scribble)
    scribbler.start()
    try:
        for key in range(10):
            ids[:, 4:8] = np.frombuffer(np.uint32(key).tobytes(), "uint8")
            ids[:, 8:12] = turn.astype("uint32").view("uint8").reshape(n, 4)
            at = np.full(n, places[0])
            codes = inv.reserve_batch(rows, at, np.ones(n, "int64"), ids, ttl_ms=60_000)
            assert not codes.any()
            inv.release_batch(ids)
    finally:
        over.set()
        scribbler.join()
    report = inv.verify()
    assert report.ok, report.problems


class Exported:
    """An Arrow array of whose producer nothing but the export is known."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return self.array.__arrow_c_array__(requested_schema)


def test_nulls_of_any_arrow_array(inv: inventory.Inventory) -> None:
    names = pa.array(["no", None, *(f"N{n}" for n in range(20)), None])
    assert (
        inv.sku_ids(Exported(names[2:-1]), create=True).tolist()
        == inv.sku_ids([f"N{n}" for n in range(20)]).tolist()
    )
    for part in (names, names[1:5], names[9:]):
        with pytest.raises(errors.BadRequest, match="nulls"):
            inv.sku_ids(Exported(part), create=True)


def test_unknown_locations_of_any_sequence(inv: inventory.Inventory) -> None:
    class Labelled(list[str]):
        """As a pandas Series whose index starts at 10."""

        def __getitem__(self, label: Any) -> Any:
            raise KeyError(label)

    inv.location_ids(["LON"], create=True)
    for names in (Labelled(["LON", "NOWHERE"]), iter(["LON", "NOWHERE"]), pa.array(["NOWHERE"])):
        with pytest.raises(errors.UnknownLocation, match="NOWHERE"):
            inv.location_ids(names)


def test_arrays_of_every_kind(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 10)
    n = 30
    wide = np.zeros((n, 40), "uint8")
    wide[:, 4:20] = ids_of(*range(n))
    rows = np.repeat(skus[:n], 2)[::2]
    at = np.tile(places[:1], 2 * n)[::-2]
    qty = np.arange(1, n + 1, dtype="int64")[::-1] % 5
    for array in (rows, at, qty):
        array.setflags(write=False)
    codes = inv.reserve_batch(rows, at, qty, wide[:, 4:20], ttl_ms=np.full(n, 1000, "uint32"))
    assert codes.tolist() == [30 if q == 0 else 0 for q in qty]
    assert inv.availability_batch(rows, at)["held"].tolist() == qty.tolist()
    assert set(inv.release_batch(np.asfortranarray(wide[:, 4:20])).tolist()) == {0, 20}
    with pytest.raises(TypeError, match="sku_ids must be uint32"):
        inv.availability_batch(rows.astype(">u4"), at)
    with pytest.raises(TypeError, match="location_ids must be uint16"):
        inv.availability_batch(rows, at.astype(">u2"))


def test_masked_rows_are_no_rows(inv: inventory.Inventory) -> None:
    skus, places = load(inv, 10)
    at = np.full(2, places[0])
    whole = np.ma.masked_array(int64(1, 1), mask=False)  # type: ignore[no-untyped-call]
    assert inv.receive_batch(skus[:2], at, whole).tolist() == [0, 0]
    holes = np.ma.masked_array(int64(1, 1), mask=[False, True])  # type: ignore[no-untyped-call]
    with pytest.raises(errors.BadRequest, match="qty: has masked values"):
        inv.receive_batch(skus[:2], at, holes)
    assert inv.availability(SKUS[0], "LON").on_hand == 11


def test_a_store_closed_by_what_gives_the_names() -> None:
    """Whoever gives the names may close the store, or another thread while he takes his time."""
    inv = inventory.open()

    def names() -> Iterator[str]:
        yield "TEE"
        inv.close()
        yield "MUG"

    with pytest.raises(errors.StoreClosed):
        inv.sku_ids(names(), create=True)  # type: ignore[arg-type]


def test_a_store_closed_during_a_batch() -> None:
    inv = inventory.open()
    skus, places = load(inv, 2**31 - 1)
    n = 400_000
    ids = np.zeros((n, 16), "uint8")
    ids[:, :4] = np.arange(n, dtype="uint32").view("uint8").reshape(n, 4)
    rows, at = skus[np.arange(n) % len(skus)], np.full(n, places[0])
    begun = threading.Event()
    ended: list[object] = []

    def work() -> None:
        begun.set()
        try:
            ended.append(inv.reserve_batch(rows, at, np.ones(n, "int64"), ids, ttl_ms=60_000))
        except errors.StoreClosed as closed:
            ended.append(closed)

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    inv.close()
    worker.join()
    assert len(ended) == 1
