# SPDX-License-Identifier: Apache-2.0
"""The client without its sockets: which call is asked when, on which link, and how it ends.

Nothing here reads a clock, opens a socket or starts a thread: times come in as milliseconds of a
clock that never runs backwards, frames come in and go out as bytes. The blocking and the asyncio
client drive the same :class:`Session`, and so do tests without any socket.

::

    submit --> to send --frame()--> asked on a link --reply--> settled
                  ^                       |
                  |    busy, rate limited |  no reply for attempt_ms, link lost
                  `---- after a pause <---'
                                             deadline: settled with what is known

A call keeps its ids over all its attempts, so the node applies it once. Each attempt has a
correlation of its own: which one a reply answers is never in doubt.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Any

import msgspec

from inventory.errors import (
    BadRequest,
    InventoryError,
    LimitExceeded,
    OutcomeUnknown,
    ProtocolError,
    StoreClosed,
    Unreachable,
)
from inventory.models import Node

from . import _requests, _wire
from ._wire import Again, Reply, Request

__all__ = ["Call", "Link", "LinkRefused", "Options", "Session"]

_DEAD_TIMERS_MIN = 1_024  # timers of settled calls that may lie in the heap before it is swept
_DOUBLINGS_MAX = 16  # of a pause or a wait; its own limit is reached long before
_FAR_MS = 86_400_000


class Options(msgspec.Struct, frozen=True):
    """Limits of a session, as :class:`inventory.Client` takes them. Times are milliseconds."""

    endpoint: str
    timeout_ms: int
    attempt_ms: int
    backoff_ms: int
    backoff_ms_max: int
    in_flight_max: int


class LinkRefused(Exception):
    """The node took no link now (it is stopping, or busy): try another one in a while."""


class Call:
    """A request under way. What :meth:`settle` gets is final; it is called once."""

    __slots__ = (
        "asked",
        "deadline_ms",
        "due_ms",
        "may_be_applied",
        "partial",
        "problem",
        "queued",
        "request",
        "sends",
        "tries",
        "wake_ms",
    )

    def __init__(self, request: Request, deadline_ms: float) -> None:
        self.request: Request | None = request  # None: settled
        self.deadline_ms = deadline_ms
        self.asked: list[tuple[Link, int, float]] = []  # attempts that may still be answered
        self.may_be_applied = False  # by an attempt that can't be answered any more
        self.partial = False  # of a batch, the rows the node had no room for are asked again
        self.problem: InventoryError | None = None  # why it is asked again
        self.queued = False  # it is to be sent
        self.sends = 0
        self.tries = 0  # pauses made
        self.due_ms = 0.0  # when something is to be done about it
        self.wake_ms = 0.0  # of its one entry among the timers, not after due_ms; 0: none

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Take the outcome: a value, or an error."""
        raise NotImplementedError


class Link:
    """One connection, from its opening to its loss."""

    __slots__ = ("asked", "heard_ms", "hello", "newest_answered_ms", "node", "replies_due")

    def __init__(self) -> None:
        self.asked: dict[int, Call] = {}
        self.hello = 0  # correlation of its HELLO; 0: not sent yet
        self.node: Node | None = None  # who answered that; before, nothing else is sent
        self.heard_ms = 0.0  # when the last message came
        self.newest_answered_ms = 0.0  # when the youngest request that was answered had been sent
        self.replies_due = 0  # requests sent, less replies


class Session:
    """All calls of a client. For one thread at a time."""

    def __init__(self, options: Options, chance: random.Random | None = None) -> None:
        self._options = options
        self._chance = chance or random.Random()
        self._hello = _requests.hello("inventory-python")
        self._to_send: deque[Call] = deque()  # settled ones among them are passed over
        self._timers: list[tuple[float, int, Call]] = []
        self._timer_count = 0
        self._timers_dead = 0
        self._correlation = 0
        self._in_flight = 0  # attempts that may still be answered
        self._calls: set[Call] = set()
        self._closed = False

    # ---- calls ----------------------------------------------------------------------------------

    def submit(self, call: Call, now_ms: float) -> None:
        """Begin a call. After close() it is settled at once."""
        if self._closed:
            call.request = None
            call.settle(None, StoreClosed("the client is closed; make a new one"))
            return
        self._calls.add(call)
        self._queue(call)
        self._plan(call, now_ms + self._options.attempt_ms)

    def forget(self, call: Call) -> None:
        """Nobody waits for it any more: it is not settled, and a reply to it goes nowhere."""
        if call.request is not None:
            self._drop(call)

    @property
    def call_count(self) -> int:
        """Calls that are not settled."""
        return len(self._calls)

    @property
    def has_to_send(self) -> bool:
        """Whether a link that can take a message should be given one."""
        while self._to_send and self._to_send[0].request is None:
            self._to_send.popleft()
        return bool(self._to_send) and self._in_flight < self._options.in_flight_max

    # ---- links ----------------------------------------------------------------------------------

    def wants_to_send(self, link: Link) -> bool:
        """Whether frame() would give a message for this link."""
        return self.has_to_send if link.node is not None else link.hello == 0

    def frame(self, link: Link, now_ms: float) -> bytes | None:
        """The next message for a link that can take one; its requests count as sent.

        None: there is nothing to send, or as many are in flight as may be.
        """
        if link.node is None:
            return self._hello_frame(link, now_ms)
        parts: list[bytes] = []
        size = lines = 0
        while self.has_to_send and len(parts) < _wire.MESSAGE_REQUESTS_MAX:
            call = self._to_send[0]
            request = call.request
            assert request is not None
            left_ms = int(call.deadline_ms - now_ms)
            part = _wire.request_bytes(request, self._correlation + 1, left_ms)
            size += len(part)
            lines += request.line_count
            if parts and (size > _wire.MESSAGE_BYTES_SURE or lines > _wire.MESSAGE_LINES_MAX):
                break
            self._to_send.popleft()
            call.queued = False
            if size > link.node.message_bytes_max:
                limit = link.node.message_bytes_max
                self._end(call, None, LimitExceeded(field="message", figure=size, limit=limit))
                size = lines = 0
                continue
            parts.append(part)
            self._asked(call, link, now_ms)
        return b"".join(parts) if parts else None

    def _hello_frame(self, link: Link, now_ms: float) -> bytes | None:
        if link.hello:
            return None
        self._correlation += 1
        link.hello = self._correlation
        link.replies_due += 1
        return _wire.request_bytes(self._hello, link.hello, _FAR_MS)

    def _asked(self, call: Call, link: Link, now_ms: float) -> None:
        self._correlation += 1
        link.asked[self._correlation] = call
        link.replies_due += 1
        call.asked.append((link, self._correlation, now_ms))
        self._in_flight += 1
        wait_ms = self._options.attempt_ms * 2.0 ** min(call.sends, _DOUBLINGS_MAX)
        call.sends += 1
        self._plan(call, now_ms + wait_ms)

    def received(self, link: Link, frame: bytes, now_ms: float) -> None:
        """Settle what a message answers.

        Raises:
            ProtocolError: it is none of this protocol, and InventoryError: the node refuses the
            link. It must be given to :meth:`lost` with the error; LinkRefused: without.
        """
        replies = _wire.replies_of(frame)
        link.heard_ms = now_ms
        link.replies_due -= len(replies)
        if link.replies_due < 0:
            raise ProtocolError("more replies than requests")
        for reply in replies:
            assert reply.correlation is not None
            if link.node is None:
                self._greeted(link, reply)
                continue
            call = link.asked.pop(reply.correlation, None)
            if call is None:
                continue  # answered by another attempt, or forgotten
            self._in_flight -= 1
            for asked in call.asked:
                if asked[1] == reply.correlation:
                    link.newest_answered_ms = max(link.newest_answered_ms, asked[2])
                    call.asked.remove(asked)
                    break
            self._answered(call, reply, now_ms)

    def _greeted(self, link: Link, reply: Reply) -> None:
        if reply.correlation != link.hello:
            raise ProtocolError("a reply to a request that was not sent")
        if reply.code in _wire.RETRY_CODES:
            raise LinkRefused
        try:
            link.node = self._hello.answer(reply)
        except BadRequest as error:
            raise ProtocolError(f"the node does not speak version 1: {error}") from None

    def lost(self, link: Link, now_ms: float, error: InventoryError | None = None) -> None:
        """A link is gone: ask its calls again, or, with an error, end them by it.

        A link that came to an end with an error before its node was known has no calls yet: those
        that wait to be sent end with it.
        """
        asked, link.asked = link.asked, {}
        self._in_flight -= len(asked)
        for call in asked.values():
            call.asked = [one for one in call.asked if one[0] is not link]
            call.may_be_applied = True
        for call in dict.fromkeys(asked.values()):  # each once, in their order
            if error is not None:
                self._end(call, None, self._unknown(call, ProtocolError, str(error)))
            elif not call.asked and not call.queued:
                self._again_later(call, now_ms, 0)
        if error is not None and link.node is None:
            for call in [call for call in self._calls if not call.asked]:
                self._end(call, None, self._refused(call, error))

    def _refused(self, call: Call, error: InventoryError) -> InventoryError:
        if isinstance(error, ProtocolError) or call.may_be_applied:
            return self._unknown(call, ProtocolError, str(error))
        return error

    # ---- time -----------------------------------------------------------------------------------

    def tick(self, now_ms: float) -> None:
        """Do what is due: end calls at their deadline, ask again where no answer came."""
        while self._timers and self._timers[0][0] <= now_ms:
            due_ms, _, call = heapq.heappop(self._timers)
            if call.request is None or due_ms != call.wake_ms:
                self._timers_dead -= 1
                continue
            call.wake_ms = 0.0
            if call.due_ms > now_ms:
                self._plan(call, call.due_ms)
            else:
                self._wake(call, now_ms)

    def next_ms(self) -> float | None:
        """When tick() is next due; None: never, as things stand."""
        return self._timers[0][0] if self._timers else None

    def close(self) -> None:
        """End every call with what is known of it, and refuse new ones."""
        self._closed = True
        for call in list(self._calls):
            self._end(call, None, self._no_answer(call, closed=True))
        self._to_send.clear()
        self._timers.clear()

    # ---- how ------------------------------------------------------------------------------------

    def _answered(self, call: Call, reply: Reply, now_ms: float) -> None:
        request = call.request
        assert request is not None
        try:
            if _wire.may_do_better(reply):
                call.problem = _wire.error_of(reply, request)
                if not call.asked:  # else another attempt may yet be answered
                    self._again_later(call, now_ms, _wire.retry_after_ms(reply))
                return
            value = request.answer(reply)
        except ProtocolError as error:
            self._end(call, None, self._unknown(call, ProtocolError, error.message))
            raise
        except Exception as error:  # the library's own: it is the answer
            self._end(call, None, error)
            return
        if isinstance(value, Again):
            self._once_more(call, value, now_ms)
        else:
            self._end(call, value, None)

    def _once_more(self, call: Call, again: Again, now_ms: float) -> None:
        """Ask the next request of a call; replies to the one before answer nothing any more."""
        self._unask(call)
        call.request = again.request
        call.may_be_applied = again.applied
        if again.pause:
            call.partial = True
            self._again_later(call, now_ms, 0)
        else:
            self._queue(call)

    def _again_later(self, call: Call, now_ms: float, retry_after_ms: int) -> None:
        """Plan another attempt after a pause: exponential, with full jitter, on top of what the
        node asks for. One that would come too late is not made."""
        limit_ms = min(
            self._options.backoff_ms_max,
            self._options.backoff_ms * 2.0 ** min(call.tries, _DOUBLINGS_MAX),
        )
        call.tries += 1
        due_ms = now_ms + retry_after_ms + self._chance.uniform(0, limit_ms)
        if due_ms < call.deadline_ms:
            self._plan(call, due_ms)
        else:
            self._end_late(call)

    def _wake(self, call: Call, now_ms: float) -> None:
        if now_ms >= call.deadline_ms:
            self._end_late(call)
            return
        if not call.queued and (not call.asked or self._is_lost(call, now_ms)):
            self._queue(call)
        self._plan(call, now_ms + self._options.attempt_ms)

    def _queue(self, call: Call) -> None:
        if not call.queued:
            call.queued = True
            self._to_send.append(call)

    def _is_lost(self, call: Call, now_ms: float) -> bool:
        """Whether an answer is overdue: younger requests of the link were answered, or it is
        silent. A node that is behind, but answers, is not given the same again."""
        link, _, sent_ms = call.asked[-1]
        silent_ms = now_ms - max(link.heard_ms, sent_ms)
        return link.newest_answered_ms > sent_ms or silent_ms >= self._options.attempt_ms

    def _plan(self, call: Call, due_ms: float) -> None:
        """Set when to look at a call next, at its deadline at the latest."""
        call.due_ms = due_ms = min(due_ms, call.deadline_ms)
        if call.wake_ms and call.wake_ms <= due_ms:
            return
        self._timers_dead += call.wake_ms > 0
        call.wake_ms = due_ms
        self._timer_count += 1
        heapq.heappush(self._timers, (due_ms, self._timer_count, call))

    def _end_late(self, call: Call) -> None:
        if call.partial and not call.asked and not call.may_be_applied:
            self._end(call, None, None)
        else:
            self._end(call, None, self._no_answer(call))

    def _no_answer(self, call: Call, *, closed: bool = False) -> InventoryError:
        request = call.request
        assert request is not None
        if request.changes and (call.may_be_applied or call.asked or call.partial):
            return self._unknown(call, OutcomeUnknown, "")
        if closed:
            return StoreClosed("the client was closed before an answer came; nothing was applied")
        if call.problem is not None:
            return call.problem
        return Unreachable(operation=request.operation, endpoint=self._options.endpoint)

    def _unknown(self, call: Call, error: type[OutcomeUnknown], message: str) -> OutcomeUnknown:
        request = call.request
        assert request is not None
        unknown = error(
            operation=request.operation,
            reservation_id=request.reservation_id,
            op_id=request.op_id,
            op_ids=request.op_ids,
        )
        if message:
            unknown.message = f"{message}. {unknown._next_step()}"
        return unknown

    def _end(self, call: Call, value: Any, error: BaseException | None) -> None:
        self._drop(call)
        call.settle(value, error)

    def _unask(self, call: Call) -> None:
        for link, correlation, _ in call.asked:
            del link.asked[correlation]
        self._in_flight -= len(call.asked)
        call.asked.clear()

    def _drop(self, call: Call) -> None:
        self._unask(call)
        call.request = None
        self._calls.discard(call)
        self._timers_dead += call.wake_ms > 0
        if self._timers_dead > max(_DEAD_TIMERS_MIN, len(self._timers) // 2):
            self._timers = [
                timer
                for timer in self._timers
                if timer[2].request is not None and timer[0] == timer[2].wake_ms
            ]
            heapq.heapify(self._timers)
            self._timers_dead = 0
