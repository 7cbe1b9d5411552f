# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, freethreading_compatible=False
"""The store as event loops use it: operations of ``_core.Store`` that never wait.

``Port`` is a ``Store`` of one event loop over the common ``Handle``. Its operations are those of
``Store``; where they would wait for an lsn, it writes the lsn down instead, and keeps the outcome,
a refusal too, until that lsn is safe. Where the core is busy, it keeps the call and tries again.

``Notifier`` is one thread for all ports of a store. It waits in the core for the lowest lsn that
any port wants, without the GIL from start to end, and wakes loops through an eventfd each: a busy
interpreter does not delay it, and it does not delay the interpreter.

    loop:      execute -> lsn -> [outcomes in order of lsn] --- arm(lowest) --> notifier
    notifier:  wait(lowest of all) -> eventfd of every port that asked for as much
    loop:      resolve what is safe, about ANSWERS_US worth of it; again next turn, or arm

A port belongs to its loop's thread. A seat, the port's place in the notifier, is shared and under
``mutex``, which is held for nanoseconds, and never while waiting for the GIL.
"""

import os
from collections import deque

from inventory import errors as _errors

from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
    PyThread_type_lock, WAIT_LOCK)
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

cimport invcore
from inventory._core cimport Handle, Store
from invcore cimport inv_command, inv_reply

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_read(int fd, uint64_t *count) noexcept
    int eventfd_write(int fd, uint64_t count) noexcept

cdef enum:
    ANSWERS_MIN = 16          # futures resolved in one turn of a loop: halved when what they woke
    ANSWERS_MAX = 1024        # took longer than ANSWERS_US, doubled when less than half of it
    ANSWERS_US = 2000
    BUSY_A_TURN = 256         # calls that were too much for the core, tried again in one turn
    LINES_ON_LOOP_MAX = 256   # a call of more lines goes to a thread
    LEVELS_ON_LOOP_MAX = 4096 # a SKU of more rows too
    WAIT_SLICE_MS = 100       # of the notifier's wait, between two looks whether it is to stop
    BUSY_RETRY_MS = 2         # between two tries when the core is busy and nothing becomes safe
    SEATS_AT_FIRST = 4

cdef object _Busy = _errors.Busy
cdef object _TakesLong = _errors._TakesLong
cdef object _error_for = _errors.error_for

cdef struct Seat:
    uint64_t lsn              # wanted; 0: nothing
    int fd                    # the port's eventfd; -1: a free seat


cdef class Notifier:
    """Wakes event loops when what they wait for is safe."""

    cdef Handle handle
    cdef PyThread_type_lock mutex
    cdef PyThread_type_lock bell           # taken; given once when the notifier sleeps and is wanted
    cdef Seat *seats
    cdef int seat_count
    cdef bint asleep
    cdef bint stopping
    cdef readonly bint ended               # the store may be gone; what follows says what was safe
    cdef uint64_t lsn_end
    cdef int code_end

    def __cinit__(self):
        self.seats = NULL
        self.mutex = PyThread_allocate_lock()
        self.bell = PyThread_allocate_lock()

    def __init__(self, Handle handle not None):
        if self.mutex is NULL or self.bell is NULL:
            raise _error_for(invcore.INV_NO_MEMORY)
        PyThread_acquire_lock(self.bell, WAIT_LOCK)
        handle.usable()
        self.handle = handle
        handle.inside += 1                 # run() takes it back: until then the store is not freed

    def __dealloc__(self):
        free(self.seats)
        if self.mutex is not NULL:
            PyThread_free_lock(self.mutex)
        if self.bell is not NULL:
            PyThread_free_lock(self.bell)

    def run(self):
        """Wake ports until stop(). Once, on a thread of its own."""
        cdef invcore.inv_metrics found
        with nogil:
            self.watch()
            memset(&found, 0, sizeof(found))
            invcore.inv_store_metrics(self.handle.store, &found)
        self.code_end = invcore.inv_store_wait(self.handle.store, found.lsn_appended, 0)
        self.lsn_end = found.lsn_appended
        if self.code_end != invcore.INV_OK:
            self.lsn_end = found.lsn_durable
        if self.code_end != invcore.INV_STORE_FAILED:
            self.code_end = invcore.INV_STORE_CLOSED
        self.ended = True
        with nogil:
            self.signal(UINT64_MAX)
        self.handle.leave()

    cdef void watch(self) noexcept nogil:
        cdef uint64_t lsn
        cdef invcore.inv_result code
        while True:
            PyThread_acquire_lock(self.mutex, WAIT_LOCK)
            if self.stopping:
                PyThread_release_lock(self.mutex)
                return
            lsn = self.lowest()
            self.asleep = lsn == UINT64_MAX
            PyThread_release_lock(self.mutex)
            if lsn == UINT64_MAX:
                PyThread_acquire_lock(self.bell, WAIT_LOCK)
                continue
            code = invcore.inv_store_wait(self.handle.store, lsn, WAIT_SLICE_MS)
            if code == invcore.INV_OK:
                self.signal(lsn)
            elif code != invcore.INV_BUSY:
                self.signal(UINT64_MAX)    # failed or closed: nothing more becomes safe

    cdef uint64_t lowest(self) noexcept nogil:
        cdef uint64_t lsn = UINT64_MAX
        cdef int i
        for i in range(self.seat_count):
            if self.seats[i].fd >= 0 and self.seats[i].lsn != 0:
                lsn = min(lsn, self.seats[i].lsn)
        return lsn

    cdef void signal(self, uint64_t lsn) noexcept nogil:
        """Wake ports that want at most `lsn`; all of them, when it is the highest there is."""
        cdef int i
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        for i in range(self.seat_count):
            if self.seats[i].fd < 0 or self.seats[i].lsn > lsn:
                continue
            if self.seats[i].lsn != 0 or lsn == UINT64_MAX:
                self.seats[i].lsn = 0
                # It can fail only when the counter is full: then the loop has not read it yet.
                eventfd_write(self.seats[i].fd, 1)
        PyThread_release_lock(self.mutex)

    cdef void ring_locked(self) noexcept:
        if self.asleep:
            self.asleep = False
            PyThread_release_lock(self.bell)

    def stop(self):
        """Let run() end, at the latest after a slice of its wait."""
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.stopping = True
        self.ring_locked()
        PyThread_release_lock(self.mutex)

    cdef int take_seat(self, int fd) except -1:
        cdef int i = 0, count
        cdef Seat *seats
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        while i < self.seat_count and self.seats[i].fd >= 0:
            i += 1
        if i == self.seat_count:
            count = 2 * self.seat_count if self.seat_count > 0 else SEATS_AT_FIRST
            seats = <Seat *>realloc(self.seats, count * sizeof(Seat))
            if seats is NULL:
                PyThread_release_lock(self.mutex)
                raise _error_for(invcore.INV_NO_MEMORY)
            for k in range(i, count):
                seats[k] = Seat(0, -1)
            self.seats = seats
            self.seat_count = count
        self.seats[i] = Seat(0, fd)
        PyThread_release_lock(self.mutex)
        return i

    cdef void leave_seat(self, int seat) noexcept:
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.seats[seat] = Seat(0, -1)
        PyThread_release_lock(self.mutex)

    cdef bint arm(self, int seat, uint64_t lsn) noexcept:
        """Ask to be woken when `lsn` is safe. False: the notifier has ended."""
        if self.ended:
            return False
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.seats[seat].lsn = lsn
        self.ring_locked()
        PyThread_release_lock(self.mutex)
        return True

    cdef int look(self, uint64_t lsn) noexcept:
        """Whether `lsn` is safe: INV_OK, INV_BUSY (not yet), INV_STORE_FAILED, INV_STORE_CLOSED."""
        if self.ended:
            return invcore.INV_OK if lsn <= self.lsn_end else self.code_end
        return invcore.inv_store_wait(self.handle.store, lsn, 0)


cdef class Port(Store):
    """The store for one event loop: answers or futures, never a wait."""

    cdef Notifier notifier
    cdef object loop
    cdef object lsns                       # of executed calls, ascending; three queues in step:
    cdef object futures                    # a tuple a call would be an object more for the
    cdef object outcomes                   # garbage collector
    cdef object busy                       # calls not executed: (future, operation, args, options)
    cdef object retry                      # the timer of the next try, or None
    cdef uint64_t lsn                      # what the call under way must wait for; 0: nothing
    cdef uint64_t lsn_last                 # of the youngest in the queues
    cdef int fd
    cdef int seat
    cdef int answers                       # futures to resolve in one turn
    cdef uint64_t woke_ns                  # when the first of the last turn's futures woke its task
    cdef bint scheduled                    # turn() is in the loop's queue

    def __cinit__(self):
        self.fd = self.seat = -1
        self.answers = ANSWERS_MIN

    def __init__(self, Notifier notifier not None, loop):
        notifier.handle.usable()
        Store.__init__(self, notifier.handle)
        self.lines_attached_max = LINES_ON_LOOP_MAX
        self.lsns, self.futures, self.outcomes, self.busy = deque(), deque(), deque(), deque()
        self.notifier = notifier
        self.loop = loop
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.seat = notifier.take_seat(self.fd)
        loop.add_reader(self.fd, self.woken)

    def __del__(self):
        self.give_up_seat()

    cdef int give_up_seat(self) except -1:
        if self.seat >= 0 and not self._handle.is_forked():
            self.notifier.leave_seat(self.seat)
        if self.fd >= 0:
            close(self.fd)
        self.fd = self.seat = -1
        return 0

    # ---- where a Store would wait -----------------------------------------------------------------

    cdef int execute_detached(self, const inv_command *command, inv_reply *reply) except -1:
        if command.line_count > LINES_ON_LOOP_MAX:
            raise _TakesLong()
        raise _Busy()

    cdef int wait(self, uint64_t lsn, bint on_disk) except -1:
        self.lsn = max(self.lsn, lsn)
        return 0

    cdef int expect_levels(self, uint32_t count) except -1:
        if count > LEVELS_ON_LOOP_MAX:
            raise _TakesLong()
        return 0

    # ---- calls ------------------------------------------------------------------------------------

    def call(self, operation, tuple args, dict options, bint reads):
        """Run an operation of Store: its value, or a future of it where one must wait.

        A read is never too much for the core, so it does not wait behind changes that are.
        """
        cdef object future, outcome
        if reads or not self.busy:
            try:
                outcome = self.execute_now(operation, args, options)
                if self.lsn == 0:
                    return outcome
                future = self.loop.create_future()
                self.keep(future, outcome)
                return future
            except _Busy:
                pass
        future = self.loop.create_future()
        self.busy.append((future, operation, args, options))
        self.plan_retry()
        return future

    cdef object execute_now(self, object operation, tuple args, dict options):
        """The value, or the refusal where it must wait for `lsn`. Busy and TakesLong: nothing done.
        """
        self.lsn = 0
        try:
            return operation(self, *args, **options)
        except (_Busy, _TakesLong):
            raise
        except Exception as refusal:
            if self.lsn == 0:
                raise
            return refusal

    cdef int keep(self, object future, object outcome) except -1:
        """Queue an outcome. One that observed less than the one before waits for as much."""
        self.lsn_last = max(self.lsn_last, self.lsn)
        self.lsns.append(self.lsn_last)
        self.futures.append(future)
        self.outcomes.append(outcome)
        if len(self.lsns) == 1 and not self.scheduled:
            self.plan_turn(False)
        return 0

    # ---- turns of the loop ------------------------------------------------------------------------

    def woken(self):
        """The notifier rang."""
        cdef uint64_t count = 0
        if self.fd >= 0:
            eventfd_read(self.fd, &count)
        if not self.scheduled:
            self.woke_ns = 0
            self.turn()

    def waking(self):
        """Runs before the tasks that a turn wakes; the turn it plans runs behind them."""
        self.woke_ns = now_ns()

    def turn(self):
        """Resolve what is safe and try what was busy, some of it. True: nothing is left."""
        cdef bint more = True
        cdef uint64_t took_us
        self.scheduled = False
        if self.woke_ns != 0:
            took_us = (now_ns() - self.woke_ns) // 1000
            self.woke_ns = 0
            if took_us > ANSWERS_US:
                self.answers = max(self.answers // 2, ANSWERS_MIN)
            elif 2 * took_us < ANSWERS_US:
                self.answers = min(self.answers * 2, ANSWERS_MAX)
        try:
            more = self.resolve()
            more = self.execute_busy() or more
        finally:
            self.plan_turn(more)
        return not self.lsns and not self.busy

    cdef bint resolve(self) except -1:
        """Resolve futures whose lsn is safe. True: there may be more of them."""
        cdef object future, outcome
        cdef int code, i
        for i in range(self.answers):
            if not self.lsns:
                return False
            code = self.notifier.look(self.lsns[0])
            if code == invcore.INV_BUSY:
                return False
            if i == 0:
                self.loop.call_soon(self.waking)
            self.lsns.popleft()
            future = self.futures.popleft()
            outcome = self.outcomes.popleft()
            if code != invcore.INV_OK:
                outcome = _error_for(code)
            settle(future, outcome)
        return True

    cdef bint execute_busy(self) except -1:
        """Try calls for which the core was busy, in their order. True: there may be more."""
        cdef object future, operation, args, options, outcome
        cdef int left = BUSY_A_TURN
        while self.busy and left > 0:
            left -= 1
            future, operation, args, options = self.busy[0]
            if not future.done():          # else it was cancelled, and so withdrawn
                try:
                    outcome = self.execute_now(operation, args, options)
                except _Busy:
                    return False
                except Exception as refusal:
                    outcome = refusal
                    self.lsn = 0
                if self.lsn == 0:
                    settle(future, outcome)
                else:
                    self.keep(future, outcome)
            self.busy.popleft()
        return len(self.busy) > 0

    cdef int plan_turn(self, bint more) except -1:
        """Make sure that there is a next turn if there is work for one."""
        if self.scheduled:
            return 0
        if not more and self.lsns:
            more = not self.notifier.arm(self.seat, self.lsns[0])
        if more:
            self.scheduled = True
            self.loop.call_soon(self.turn)
        elif self.busy:
            self.plan_retry()
        elif self.notifier.ended and self.fd >= 0:   # the store has ended, all is answered
            self.loop.remove_reader(self.fd)
            self.give_up_seat()
        return 0

    cdef int plan_retry(self) except -1:
        if self.retry is None:
            self.retry = self.loop.call_later(BUSY_RETRY_MS / 1000, self.try_again)
        return 0

    def try_again(self):
        self.retry = None
        if not self.scheduled:
            self.woke_ns = 0
            self.turn()


cdef uint64_t now_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1_000_000_000 + <uint64_t>now.tv_nsec


cdef int settle(object future, object outcome) except -1:
    if future.done():                      # cancelled: the outcome stands, nobody asks for it
        return 0
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return 0
