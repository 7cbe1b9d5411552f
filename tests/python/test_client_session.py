# SPDX-License-Identifier: Apache-2.0
"""The client without its sockets: deadlines, retries, ids, and what is said when nobody answers.

In virtual time (client_world.py): each rule by name, then runs under every fault at once, in which
what callers were told is held against what the store did.
"""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from client_world import Asked, Faults, World
from scale import SEED, Rounds, units

import inventory
from inventory import OutcomeUnknown, errors
from inventory.client import _wire
from inventory.client._requests import OPERATIONS
from inventory.client._session import Link


@pytest.fixture
def new_world() -> Iterator[Callable[..., World]]:
    """Makes worlds, and ends them after the test."""
    made: list[World] = []

    def make(*args: Any, **options: Any) -> World:
        made.append(World(*args, **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world(1)


def requests_sent(world: World) -> list[tuple[float, list[Any]]]:
    """(when, request) of all that was sent, HELLO left out."""
    found = []
    for sent_ms, frame in world.frames_sent:
        unpacker = msgpack.Unpacker(None, max_buffer_size=1 << 20)
        unpacker.feed(frame)
        found += [(sent_ms, request) for request in unpacker if request[2] != 48]
    return found


# ---- one call -----------------------------------------------------------------------------------


def test_a_call_is_answered(world: World) -> None:
    call = world.ask("receive", "TEE", "LON", 5)
    world.run()
    assert call.value.level.on_hand == 5
    assert (call.endings, call.error) == (1, None)


def test_a_refusal_is_the_librarys_own_error(world: World) -> None:
    call = world.ask("reserve", "TEE", 5)
    world.run()
    assert isinstance(call.error, inventory.InsufficientStock)
    assert call.error.short[0].requested == 5


def test_nothing_is_sent_before_the_node_is_known(world: World) -> None:
    world.ask("receive", "TEE", "LON", 5)
    frame = world.session.frame(world.links[0], world.now_ms)
    assert frame is not None
    assert msgpack.unpackb(frame)[2] == 48
    assert world.session.frame(world.links[0], world.now_ms) is None


def test_calls_leave_together_and_in_order(world: World) -> None:
    world.run(world.now_ms + 10)
    calls = [world.ask("receive", f"SKU-{n}", "LON", 1) for n in range(600)]
    world.run()
    assert all(call.value.level.on_hand == 1 for call in calls)
    assert len(world.frames_sent) == 1 + 3  # HELLO, then messages of at most 256
    skus = [request[4] for _, request in requests_sent(world)]
    assert skus == [f"SKU-{n}" for n in range(600)]


def test_as_many_are_in_flight_as_may_be(new_world: Callable[..., World]) -> None:
    world = new_world(1, in_flight_max=10)
    world.run(world.now_ms + 10)
    calls = [world.ask("receive", "TEE", "LON", 1) for _ in range(25)]
    link = world.links[0]
    assert world.session.frame(link, world.now_ms) is not None
    assert world.session.frame(link, world.now_ms) is None
    assert len(link.asked) == 10
    world.session.lost(link, world.now_ms)
    world.links[0] = Link()
    world.run()
    assert [call.error for call in calls] == [None] * 25
    assert world.inv.availability("TEE").totals.on_hand == 25


# ---- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "options", "position"),
    [
        ("receive", ("TEE", "LON", 1), {}, 7),
        ("issue", ("TEE", "LON", 1), {}, 7),
        ("adjust", ("TEE", "LON", 1), {}, 7),
        ("set_on_hand", ("TEE", "LON", 1), {"if_on_hand": 5}, 8),
        ("set_policy", ("TEE",), {"safety_stock": 1}, 7),
        ("reserve", ("TEE", 1), {}, 4),
        ("reserve_lines", ([("TEE", None, 1)],), {}, 4),
        ("commit", ("cart",), {"lines": [("TEE", None, 1)]}, 7),
    ],
)
def test_every_attempt_bears_the_same_id(
    new_world: Callable[..., World], name: str, args: Any, options: Any, position: int
) -> None:
    """Answers are lost until the deadline: the id was made once, and the error names it."""
    world = new_world(3)
    world.inv.receive("TEE", "LON", 5)
    world.inv.reserve("TEE", 3, reservation_id="cart")
    world.run(world.now_ms + 10)
    call = world.ask(name, *args, **options)
    world.faults.drop = 1.0
    world.run()
    ids = {request[position] for _, request in requests_sent(world)}
    assert len(requests_sent(world)) > 1
    assert len(ids) == 1
    assert isinstance(call.error, OutcomeUnknown)
    (made,) = ids
    digits = (call.error.op_id or call.error.reservation_id or "").replace("-", "")
    assert made.hex() == digits or name == "commit"
    assert digits[12] == "7"


def test_an_id_of_the_callers_own_is_kept(world: World) -> None:
    world.ask("receive", "TEE", "LON", 1, op_id="po-7")
    upper = "0B1C2D3E-4F50-4A6B-8C7D-8E9FA0B1C2D3"
    call = world.ask("reserve", "TEE", 1, reservation_id=upper)
    world.run()
    sent = [request for _, request in requests_sent(world)]
    assert sent[0][7] == "po-7"
    assert sent[1][4] == bytes.fromhex(upper.replace("-", ""))
    assert call.value.reservation_id == upper.lower()


def test_an_unknown_outcome_asked_again_counts_once(world: World) -> None:
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 5)
    link = world.links[0]
    frame = world.session.frame(link, world.now_ms)
    assert frame is not None
    world.node.answer([frame])  # applied, and the answer is lost
    world.faults.drop = 1.0
    world.run()
    world.faults.drop = 0.0
    assert isinstance(call.error, OutcomeUnknown)
    again = world.ask("receive", "TEE", "LON", 5, op_id=call.error.op_id)
    world.run()
    assert again.value.replayed
    assert again.value.level.on_hand == 5


def test_a_part_without_op_id_is_its_own_result_again(world: World) -> None:
    """As in the library: the op_id that the client makes does not change the answer."""
    world.inv.receive("TEE", "LON", 5)
    world.inv.reserve("TEE", 2, reservation_id="cart")
    lines = [("TEE", "LON", 2)]
    first = world.ask("commit", "cart", lines=lines)
    world.run()
    again = world.ask("commit", "cart", lines=lines)
    world.run()
    assert (first.value.replayed, again.value.replayed) == (False, True)
    late = world.ask("commit", "cart", lines=[("TEE", "LON", 1)])
    world.run()
    assert isinstance(late.error, errors.AlreadyCommitted)


# ---- busy ---------------------------------------------------------------------------------------


def busy_reply(world: World, code: int, *rest: Any) -> None:
    """Answer what is in flight so."""
    link = world.links[0]
    for correlation in list(link.asked):
        world.deliver(link, msgpack.packb([1, correlation, code, 0, 3, *rest]))


@pytest.mark.parametrize("code", [50, 51])
def test_no_retry_before_the_node_asked_for_it(world: World, code: int) -> None:
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 5)
    assert world.session.frame(world.links[0], world.now_ms)
    busy_reply(world, code, 700)
    begun_ms = world.now_ms
    world.run()
    assert call.value.level.on_hand == 5
    sent_ms = requests_sent(world)[0][0]
    assert begun_ms + 700 <= sent_ms <= begun_ms + 700 + 20


def test_pauses_grow_and_are_random(new_world: Callable[..., World]) -> None:
    pauses = []
    for seed in range(40):
        world = new_world(seed, Faults(busy=1.0), backoff_ms=10, backoff_ms_max=400)
        world.run(world.now_ms + 10)
        world.frames_sent.clear()
        call = world.ask("receive", "TEE", "LON", 5)
        world.run()
        assert call.error is not None  # OutcomeUnknown where an attempt is under way at the end
        assert world.inv.metrics().commands == 0
        times = [sent_ms for sent_ms, _ in requests_sent(world)]
        pauses.append([later - sooner for sooner, later in itertools.pairwise(times)])
    first = [found[0] for found in pauses]
    tenth = [found[9] for found in pauses]
    assert max(first) <= 10 + 3 + 10  # the pause, what the node asks for, two ways of the network
    assert 100 < sum(tenth) / len(tenth) < 300  # half of 400
    assert min(tenth) < 60
    assert max(tenth) > 340


def test_busy_to_the_end_is_busy(world: World) -> None:
    world.faults.busy = 1.0
    call = world.ask("receive", "TEE", "LON", 5, timeout_ms=300)
    world.run()
    assert isinstance(call.error, (errors.Busy, errors.RateLimited, errors.StoreClosed))
    assert call.ended_ms <= call.deadline_ms


def test_a_retry_that_would_come_too_late_is_not_waited_for(world: World) -> None:
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 5)
    assert world.session.frame(world.links[0], world.now_ms)
    busy_reply(world, 51, 60_000)
    assert isinstance(call.error, errors.Busy)
    assert call.error.retry_after_ms == 60_000
    assert call.ended_ms == world.now_ms


def test_busy_after_a_lost_attempt_is_an_unknown_outcome(world: World) -> None:
    """That the second attempt was not applied says nothing about the first."""
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 5)
    assert world.session.frame(world.links[0], world.now_ms)
    world.break_link(world.links[0])
    world.faults.busy = 1.0
    world.run()
    assert isinstance(call.error, OutcomeUnknown)


def test_rows_without_room_are_asked_again(world: World) -> None:
    skus = world.inv.sku_ids([f"SKU-{n}" for n in range(500)], create=True)
    places = world.inv.location_ids(["LON"] * 500, create=True)
    world.node.chance = random.Random(1)  # refuses some rows, sometimes
    plan = OPERATIONS["receive_batch"](skus, places, np.ones(500, "int64"))
    codes = None
    try:
        request = next(plan)  # type: ignore[arg-type]
        while True:
            call = Asked(world, request, 5_000)
            world.session.submit(call, world.now_ms)
            world.run()
            assert call.error is None
            request = plan.send(call.value)  # type: ignore[union-attr]
    except StopIteration as end:
        codes = end.value
    assert codes is not None
    assert not codes.any()
    assert len(requests_sent(world)) > 1
    assert {
        row.on_hand for n in range(500) for row in world.inv.availability(f"SKU-{n}").levels
    } == {1}


# ---- silence ------------------------------------------------------------------------------------


def test_a_change_that_was_sent_has_an_unknown_outcome(world: World) -> None:
    world.run(world.now_ms + 10)
    world.faults.drop = 1.0
    call = world.ask("receive", "TEE", "LON", 5, timeout_ms=700)
    world.run()
    assert isinstance(call.error, OutcomeUnknown)
    assert call.error.operation == "receive"
    assert "op_id=" in str(call.error)
    assert call.ended_ms == call.deadline_ms


def test_what_was_never_sent_was_not_applied(new_world: Callable[..., World]) -> None:
    world = new_world(1, Faults(drop=1.0))  # HELLO is not answered
    calls = [world.ask("receive", "TEE", "LON", 5), world.ask("availability", "TEE")]
    world.run()
    for call in calls:
        assert isinstance(call.error, errors.Unreachable)
        assert call.ended_ms == call.deadline_ms


def test_a_read_has_no_outcome(world: World) -> None:
    world.run(world.now_ms + 10)
    world.faults.drop = 1.0
    call = world.ask("availability", "TEE")
    world.run()
    assert isinstance(call.error, errors.Unreachable)


def test_a_silent_link_is_asked_again_ever_more_slowly(world: World) -> None:
    world.run(world.now_ms + 10)
    world.faults.drop = 1.0
    world.ask("receive", "TEE", "LON", 5, timeout_ms=9_000)
    world.run()
    times = [sent_ms for sent_ms, _ in requests_sent(world)]
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert [round(pause, -2) for pause in pauses] == [500, 1_000, 2_000, 4_000]


def test_a_node_that_is_behind_is_not_given_the_same_again(world: World) -> None:
    """Every answer takes 2 s, four times attempt_ms: once they come, nothing is repeated."""
    world.run(world.now_ms + 10)
    world.takes_ms = 1_000
    begun_ms = world.now_ms
    calls = []
    for n in range(60):
        calls.append(world.ask("receive", f"SKU-{n}", "LON", 1))
        world.run(world.now_ms + 100)
    world.run()
    assert all(call.error is None for call in calls)
    times: dict[str, list[float]] = {}
    for sent_ms, request in requests_sent(world):
        times.setdefault(request[4], []).append(sent_ms - begun_ms)
    again = {sku: sent for sku, sent in times.items() if len(sent) > 1}
    assert 10 < len(again) < 20
    assert max(max(sent) for sent in again.values()) < 2_000


def test_a_reply_that_was_dropped_among_others_is_asked_for_again(world: World) -> None:
    world.run(world.now_ms + 10)
    lost = world.ask("receive", "LOST", "LON", 1)
    assert world.session.frame(world.links[0], world.now_ms)
    world.run(world.now_ms + 5)
    others = []
    for n in range(30):
        others.append(world.ask("receive", f"SKU-{n}", "LON", 1))
        world.run(world.now_ms + 100)
    assert all(call.error is None for call in others)
    assert lost.value.level.on_hand == 1
    assert lost.ended_ms < lost.begun_ms + 1_200


# ---- links --------------------------------------------------------------------------------------


def test_calls_of_a_lost_link_are_asked_on_the_next(world: World) -> None:
    world.run(world.now_ms + 10)
    calls = [world.ask("receive", "TEE", "LON", 1) for _ in range(50)]
    frame = world.session.frame(world.links[0], world.now_ms)
    assert frame is not None
    world.node.answer([frame])  # all of them applied
    world.break_link(world.links[0])
    world.run()
    assert all(call.value.replayed for call in calls)
    assert max(call.ended_ms - call.begun_ms for call in calls) < 200  # not by their timers
    assert world.inv.availability("TEE").totals.on_hand == 50


def test_a_reply_through_another_link_answers_nothing(new_world: Callable[..., World]) -> None:
    world = new_world(1, links=2)
    world.run(world.now_ms + 20)
    call = world.ask("receive", "TEE", "LON", 1)
    frame = world.session.frame(world.links[0], world.now_ms)
    assert frame is not None
    world.links[1].replies_due += 1
    world.session.received(world.links[1], world.node.answer([frame]), world.now_ms)
    assert call.endings == 0
    world.session.forget(call)


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "never used": b"\xc1",
    "a number": b"\x07",
    "cut in a text": b"\x95\x01\x02\xd9\x40ab",
    "a map": b"\x81\x01\x02",
    "an ext": b"\xd4\x05\x00",
    "a date that is none": b"\xc7\x0c\xff" + b"\xff" * 12,
    "no UTF-8": b"\x95\x01\xa2\xff\xfe\x00\x00\x00",
    "another version": msgpack.packb([2, 1, 0, 0, 0]),
    "no correlation": msgpack.packb([1, None, 30, 0, 3, "message", 0, None]),
    "a correlation that is text": msgpack.packb([1, "1", 0, 0, 0]),
    "a code that is a bool": msgpack.packb([1, 1, True, 0, 0]),
    "a float": msgpack.packb([1, 1, 0.0, 0, 0]),
    "negative": msgpack.packb([1, 1, 0, -1, 0]),
    "too short": msgpack.packb([1, 1, 0]),
    "an array that says 4 G": b"\xdd\xff\xff\xff\xff" * 3,
    "a text that says 4 G": b"\x95\x01\xdb\xff\xff\xff\xff",
    "arrays within arrays": b"\xdd\x00\x00\xff\xff" * 3_000,
    "nesting": b"\x91" * 60_000 + b"\xc0",
    "an HTTP answer": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_protocol_error(world: World, name: str) -> None:
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 1)
    other = world.ask("availability", "TEE")
    assert world.session.frame(world.links[0], world.now_ms)
    world.deliver(world.links[0], GARBAGE[name])
    assert world.protocol_errors == 1
    assert isinstance(call.error, errors.ProtocolError)
    assert call.error.op_id is not None
    assert isinstance(other.error, errors.ProtocolError)
    again = world.ask("receive", "TEE", "LON", 1)  # by the next link
    world.run()
    assert again.value.level.on_hand == 1


def test_a_text_of_what_is_found_is_short(world: World) -> None:
    with pytest.raises(errors.ProtocolError) as caught:
        _wire.replies_of(msgpack.packb([1, None, 30, 0, 3, "x" * 100_000]))
    assert len(str(caught.value)) < 400


BAD_REPLIES: dict[str, tuple[str, list[Any], list[Any]]] = {
    "no level": ("receive", ["TEE", "LON", 1], [0, 9, 3]),
    "a level too short": ("receive", ["TEE", "LON", 1], [0, 9, 3, [1, 2, 3], 5]),
    "a level of text": ("receive", ["TEE", "LON", 1], [0, 9, 3, ["1"] * 11, 5]),
    "no time": ("receive", ["TEE", "LON", 1], [0, 9, 3, [0] * 11]),
    "state 0": ("reserve", ["TEE", 1], [0, 9, 3, 0, [], 1, None, None, 5, 0]),
    "state 77": ("reserve", ["TEE", 1], [0, 9, 3, 77, [], 1, None, None, 5, 0]),
    "a line of another request": (
        "reserve",
        ["TEE", 1],
        [0, 9, 3, 1, [[1, "LON", 1, 1, 0, 0, 0]], 1, None, None, 5, 0],
    ),
    "line -1": (
        "reserve",
        ["TEE", 1],
        [0, 9, 3, 1, [[-1, "LON", 1, 1, 0, 0, 0]], 1, None, None, 5, 0],
    ),
    "a short line of another request": (
        "reserve",
        ["TEE", 1],
        [10, 9, 3, [[5, "LON", 1, 1, False, []]], None],
    ),
    "rows of 11": ("availability", ["TEE"], [0, 9, 3, [0] * 11, 5, [["LON", *[0] * 10]]]),
    "an error of another shape": ("receive", ["TEE", "LON", 1], [30, 9, 3, 17]),
    "a wait of text": ("receive", ["TEE", "LON", 1], [51, 9, 3, "soon"]),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_a_reply_of_another_shape_is_a_protocol_error(world: World, name: str) -> None:
    operation, args, rest = BAD_REPLIES[name]
    world.run(world.now_ms + 10)
    call = world.ask(operation, *args)
    assert world.session.frame(world.links[0], world.now_ms)
    (correlation,) = world.links[0].asked
    world.deliver(world.links[0], msgpack.packb([1, correlation, *rest]))
    assert isinstance(call.error, errors.ProtocolError), call.error
    assert world.protocol_errors == 1


def test_what_a_later_release_adds_is_passed_over(world: World) -> None:
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 1)
    other = world.ask("receive", "TEE", "LON", 1)
    assert world.session.frame(world.links[0], world.now_ms)
    first, second = world.links[0].asked
    level = [1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    replies = [
        [1, first, 0, 9, 3, [*level, "more"], 5, {"more": [1]}],
        [1, second, 99, 9, 3, "whatever"],
    ]
    world.deliver(world.links[0], b"".join(map(msgpack.packb, replies)))
    assert call.value.level.on_hand == 1
    assert type(other.error) is inventory.InventoryError
    assert "99" in str(other.error)


def test_more_replies_than_requests_is_a_protocol_error(world: World) -> None:
    world.run(world.now_ms + 10)
    world.deliver(world.links[0], msgpack.packb([1, 7_777, 0, 9, 3]))
    assert world.protocol_errors == 1


def hello_reply(world: World, *reply: Any) -> None:
    frame = world.session.frame(world.links[0], world.now_ms)
    assert frame is not None
    world.deliver(world.links[0], msgpack.packb([1, msgpack.unpackb(frame)[1], *reply]))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ([30, 0, 3, "version", 1, 2], errors.ProtocolError),
        ([0, 0, 3, "1.0", b"short", 0, 0, 5, [1 << 20] * 8, []], errors.ProtocolError),
        ([0, 0, 3, "1.0", bytes(16), 9, 0, 5, [1 << 20] * 8, []], errors.ProtocolError),
        ([0, 0, 3, "1.0", bytes(16), 0, 0, 5, [], []], errors.ProtocolError),
        ([40, 0, 3], errors.Unauthenticated),
        ([41, 0, 3], errors.Forbidden),
    ],
)
def test_a_node_that_does_not_take_the_link(
    world: World, reply: list[Any], error: type[Exception]
) -> None:
    call = world.ask("receive", "TEE", "LON", 1)
    hello_reply(world, *reply)
    assert isinstance(call.error, error)
    assert world.now_ms < call.deadline_ms


def test_a_node_that_is_stopping_is_asked_again(world: World) -> None:
    call = world.ask("receive", "TEE", "LON", 1)
    hello_reply(world, 60, 0, 3)
    assert call.endings == 0
    world.run()
    assert call.error is None


def test_a_request_longer_than_the_node_takes(world: World) -> None:
    world.node.message_bytes_max = 65_536
    world.run(world.now_ms + 10)
    cart = [(f"{n:0100}", "LON", 1) for n in range(1_000)]
    call = world.ask("reserve_lines", cart)
    small = world.ask("receive", "TEE", "LON", 1)
    world.run()
    assert isinstance(call.error, inventory.errors.LimitExceeded)
    assert call.error.limit == 65_536
    assert small.error is None
    assert world.protocol_errors == 0


# ---- forgetting and closing ---------------------------------------------------------------------


def test_a_forgotten_call_is_not_settled(world: World) -> None:
    world.run(world.now_ms + 10)
    call = world.ask("receive", "TEE", "LON", 1)
    frame = world.session.frame(world.links[0], world.now_ms)
    assert frame is not None
    world.session.forget(call)
    world.session.forget(call)
    world.deliver(world.links[0], world.node.answer([frame]))
    assert (call.endings, world.protocol_errors, world.session.call_count) == (0, 0, 0)
    unsent = world.ask("receive", "TEE", "LON", 1)
    world.session.forget(unsent)
    assert not world.session.has_to_send


def test_closing_says_what_is_known(world: World) -> None:
    world.run(world.now_ms + 10)
    sent = world.ask("receive", "TEE", "LON", 1)
    read = world.ask("availability", "TEE")
    assert world.session.frame(world.links[0], world.now_ms)
    unsent = world.ask("receive", "TEE", "LON", 1)
    world.session.close()
    late = world.ask("receive", "TEE", "LON", 1)
    assert isinstance(sent.error, OutcomeUnknown)
    for call in (read, unsent, late):
        assert isinstance(call.error, inventory.StoreClosed)
        assert call.endings == 1


def test_settled_calls_leave_nothing_behind(world: World) -> None:
    world.run(world.now_ms + 10)
    for _ in range(50):
        for _ in range(200):
            world.ask("availability", "TEE")
        world.run()
    assert world.session.call_count == 0
    assert len(world.session._timers) < 3_000
    assert not world.links[0].asked
    assert world.session._in_flight == 0


# ---- everything at once -------------------------------------------------------------------------

FAULTS = {
    "lost": Faults(drop=0.2, slow=0.1),
    "doubled and late": Faults(double=0.2, slow=0.3),
    "broken links": Faults(kill=0.1, drop=0.05),
    "busy": Faults(busy=0.4, drop=0.05),
    "all": Faults(drop=0.1, double=0.05, slow=0.15, kill=0.03, cut=0.02, busy=0.15),
}


class Errand:
    """A change of a SKU of its own, and how often it is applied, by its row."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.sku = f"SKU-{number}"
        self.kind = world.chance.choice(["receive", "reserve", "commit", "part"])
        if self.kind != "receive":
            world.inv.receive(self.sku, "LON", 10)
        if self.kind in ("commit", "part"):
            world.inv.reserve(self.sku, 3, reservation_id=self.sku)
        timeout_ms = world.chance.choice([200, 1_000, 5_000, 20_000])
        self.call = self.ask(timeout_ms)

    def ask(self, timeout_ms: float, unknown: OutcomeUnknown | None = None) -> Asked:
        op_id = unknown.op_id if unknown is not None else None
        options: dict[str, Any] = {"timeout_ms": timeout_ms}
        if self.kind == "receive":
            return self.world.ask("receive", self.sku, "LON", 1, op_id=op_id, **options)
        if self.kind == "reserve":
            key = unknown.reservation_id if unknown is not None else None
            return self.world.ask("reserve", self.sku, 1, reservation_id=key, **options)
        if self.kind == "commit":
            return self.world.ask("commit", self.sku, **options)
        lines = [(self.sku, "LON", 1)]
        return self.world.ask("commit", self.sku, lines=lines, final=False, op_id=op_id, **options)

    @property
    def applied(self) -> int:
        try:
            level = self.world.inv.availability(self.sku, "LON")
        except inventory.UnknownSku:
            return 0
        if self.kind == "receive":
            return level.on_hand
        if self.kind == "reserve":
            return level.held
        return level.allocated // 3 if self.kind == "commit" else level.allocated


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_said_is_what_was_done(name: str) -> None:
    rounds = Rounds(15)
    for number in rounds:
        run_errands(SEED + number, FAULTS[name])
    units(rounds.begun, "runs of 60 calls", rounds.begun)


def run_errands(seed: int, faults: Faults) -> None:
    with World(seed, faults, links=1 + seed % 3) as world:
        check_errands(world, seed)


def check_errands(world: World, seed: int) -> None:
    errands = []
    for number in range(60):
        errands.append(Errand(world, number))
        world.run(world.now_ms + world.chance.choice([0, 1, 50]))
    world.run()
    for errand in errands:
        call, told = errand.call, f"seed {seed}: {errand.kind} of {errand.sku}: {errand.call.error}"
        assert call.endings == 1, told
        assert call.ended_ms <= call.deadline_ms, told
        if call.error is None:
            assert errand.applied == 1, told
        elif isinstance(call.error, OutcomeUnknown):
            assert errand.applied <= 1, told
        else:
            assert isinstance(
                call.error,
                (errors.Unreachable, errors.Busy, errors.RateLimited, errors.StoreClosed),
            ), told
            assert errand.applied == 0, told
    world.faults = Faults()
    world.run(world.now_ms + 10_000)  # what was late arrives
    for errand in errands:
        told = f"seed {seed}: {errand.kind} of {errand.sku}: {errand.call.error}"
        assert errand.applied <= 1, told
        if isinstance(errand.call.error, OutcomeUnknown):
            again = errand.ask(5_000, errand.call.error)
            world.run()
            assert again.error is None, told
            assert errand.applied == 1, told
    assert world.inv.verify().ok


def test_random_bytes_are_never_more_than_a_protocol_error() -> None:
    rng = random.Random(SEED)
    good = msgpack.packb([1, 1, 0, 9, 3, 1, [[0, "LON", 1, 1, 0, 0, 0]], 1, 2, None, 3, 0])
    request = OPERATIONS["reserve"]("TEE", 1)
    assert isinstance(request, _wire.Request)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(20_000):
        frame = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        if rng.random() < 0.3:
            frame = frame[: rng.randrange(len(frame))]
        try:
            for reply in _wire.replies_of(bytes(frame)):
                request.answer(reply)
            outcomes["read"] += 1
        except errors.InventoryError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100


@pytest.mark.parametrize("said", [65_535, 1 << 24])
def test_a_hostile_message_takes_little_memory(said: int) -> None:
    """Arrays within arrays, each saying that it is very long: in a short message, and in a long."""
    for depth, most_bytes in ((12, 256 << 10), (20_000, 200 << 20)):
        frame = (b"\xdd" + struct.pack(">I", said)) * depth
        tracemalloc.start()
        with pytest.raises(errors.ProtocolError):
            _wire.replies_of(frame)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < most_bytes
