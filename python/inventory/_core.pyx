# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, freethreading_compatible=False
"""The binding: converts arguments, calls one C function, turns a reply into a value or exception.

Three handles. ``Memory`` is a disk in memory. ``Handle`` owns an environment and the store opened
over it, and knows how many calls are inside; the background loops hold it and nothing else, so that
a forgotten store can be found and freed. ``Store`` has the operations: ``inventory.Inventory`` is
this class plus opening, closing and threads, so that no Python layer stands between a caller and
the core.

GIL. A call of one line tries the core while attached: it may take a stripe lock for nanoseconds and
never waits for the disk. It detaches when the core is busy, to wait until its lsn is safe, and for
everything long (calls of many lines, open, close, check, loops).

NEVER WAITING. A subclass serves an event loop with the same operations: it overrides the three
places where a call would wait or take long (``execute_detached``, ``wait``, ``expect_levels``).

CLOSING. ``inside`` counts calls under way; the GIL protects it. A closed store is freed by the
closer, or by the last call that leaves. A forked child sees every store as closed and never touches
the memory behind it: its locks may have been held by threads that do not exist there.
"""

import os
from operator import index as _index

from inventory import errors as _errors
from inventory import models as _models

from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

cimport invcore
from invcore cimport inv_command, inv_line, inv_reply, inv_reply_line, inv_stock_level, inv_text

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) noexcept
    object PyUnicode_DecodeUTF8(const char *bytes, Py_ssize_t size, const char *on_error)
    object PyUnicode_FromKindAndData(int kind, const void *bytes, Py_ssize_t size)
    bint PyLong_CheckExact(object value) noexcept
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) noexcept
    int PyUnicode_1BYTE_KIND

cdef enum:
    SNAPSHOT_WAIT_S_MAX = 86400  # one day
    REPLY_LINES = 4096        # lines of a reply asked for at first: as many as a call may name
    LEVELS_AT_FIRST = 64      # rows of a SKU asked for with the GIL held
    ADVANCE_STEP = 4096       # holds expired between two looks at the clock
    WAIT_SLICE_MS = 100       # of a wait, between two looks for a signal
    RANDOM_BYTES = 4096       # entropy fetched at once, for ids
    ID_RANDOM_BYTES = 10
    UUID_CHARS = 36

cdef object _Line = _models.Line
cdef object _Metrics = _models.Metrics
cdef object _PolicyChange = _models.PolicyChange
cdef object _Recovery = _models.Recovery
cdef object _Snapshot = _models.Snapshot
cdef object _StoreFormat = _models.StoreFormat
cdef object _RemainingLine = _models.RemainingLine
cdef object _Reservation = _models.Reservation
cdef object _ReservationLine = _models.ReservationLine
cdef object _ShortLine = _models.ShortLine
cdef object _SkuAvailability = _models.SkuAvailability
cdef object _StockChange = _models.StockChange
cdef object _StockLevel = _models.StockLevel
cdef object _StockTotals = _models.StockTotals
cdef object _VerifyReport = _models.VerifyReport
cdef object _BadRequest = _errors.BadRequest
cdef object _StoreClosed = _errors.StoreClosed
cdef object _error_for = _errors.error_for
cdef tuple _STATES = (None, *_models.State)   # by inv_state; a test holds both orders together
cdef str _EMPTY = ""
cdef str _DEFAULT_SELLER = "default"
cdef str _ALL_OR_NOTHING = "all_or_nothing"

cdef unsigned long _fork_generation = 0
cdef uint8_t _random[RANDOM_BYTES]
cdef Py_ssize_t _random_left = 0


def _forget_parent() -> None:
    """Make every store of the parent closed, and every id of this child its own."""
    global _fork_generation, _random_left
    _fork_generation += 1
    _random_left = 0


os.register_at_fork(after_in_child=_forget_parent)


# ---- errors ---------------------------------------------------------------------------------------


cdef int raise_for(invcore.inv_result code, invcore.inv_error *error) except -1:
    """Raise what a failure of the world is called in Python."""
    cdef str message
    if error is NULL:
        raise _error_for(<int>code)
    message = (<bytes>error.message).decode("utf-8", "replace")
    raise _error_for(
        <int>code, message, field=message.partition(" ")[0].rstrip(":"), os_errno=error.os_errno,
        lsn=error.lsn, lsn_end=error.lsn_end, segment=error.segment, offset=error.offset,
    )


cdef object bad_request(str field, object figure, object limit):
    return _BadRequest(field=field, figure=figure, limit=limit)


cdef tuple mismatch_of(uint32_t bits):
    cdef list fields = []
    if bits & invcore.INV_FIELD_LINES:
        fields.append("lines")
    if bits & invcore.INV_FIELD_ACCOUNT:
        fields.append("account")
    if bits & invcore.INV_FIELD_TTL_MS:
        fields.append("ttl_ms")
    if bits & invcore.INV_FIELD_BODY:
        fields.append("body")
    if bits & invcore.INV_FIELD_KIND:
        fields.append("kind")
    return tuple(fields)


cdef int refuse_option(str field) except -1:
    raise _BadRequest(
        f"{field}: not supported by this release; leave the option out", field=field
    )


# ---- arguments ------------------------------------------------------------------------------------


cdef inline str path_of(str field, Py_ssize_t line_index):
    return field if line_index < 0 else f"lines[{line_index}].{field}"


cdef int text_of(object value, inv_text *out, str field, Py_ssize_t line_index=-1) except -1:
    """View a str as UTF-8. The view lives as long as the str."""
    cdef Py_ssize_t size = 0
    cdef const char *view
    if not isinstance(value, str):
        raise TypeError(f"{path_of(field, line_index)} must be str, not {type(value).__name__}")
    view = PyUnicode_AsUTF8AndSize(value, &size)
    if view is NULL:
        PyErr_Clear()
        raise _BadRequest(f"{path_of(field, line_index)}: not text that UTF-8 can carry",
                          field=path_of(field, line_index))
    out.bytes = view
    out.length = <uint32_t>size if size < 0xFFFFFFFF else 0xFFFFFFFF
    return 0


cdef inline int int_of(object value, int64_t *out, str field, object limit,
                       Py_ssize_t line_index=-1) except -1:
    """Convert a whole number; `limit` is for the message when it does not fit 64 bits."""
    cdef int overflow = 0
    if not PyLong_CheckExact(value):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(
                f"{path_of(field, line_index)} must be int, not {type(value).__name__}")
        value = _index(value)
    out[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        raise bad_request(path_of(field, line_index), value, limit)
    return 0


cdef inline int ttl_of(object value, uint64_t *out) except -1:
    cdef int64_t ttl_ms = 0
    int_of(value, &ttl_ms, "ttl_ms", invcore.INV_TTL_MS_MAX)
    if ttl_ms < 1:
        raise bad_request("ttl_ms", ttl_ms, 1)
    out[0] = <uint64_t>ttl_ms
    return 0


cdef uint8_t[256] _hex_digits          # value of a digit; 16: upper case (add 0 to 15); 255: none
cdef uint8_t[16] _uuid_at              # where the digits of byte n stand


cdef int fill_tables() except -1:
    cdef int i
    memset(_hex_digits, 0xFF, 256)
    for i in range(10):
        _hex_digits[c'0' + i] = <uint8_t>i
    for i in range(6):
        _hex_digits[c'a' + i] = <uint8_t>(10 + i)
        _hex_digits[c'A' + i] = <uint8_t>(26 + i)
    for i in range(16):
        _uuid_at[i] = <uint8_t>(2 * i + (i >= 4) + (i >= 6) + (i >= 8) + (i >= 10))
    return 0


fill_tables()


cdef enum:
    NO_UUID = 0
    UUID_AS_WRITTEN = 1                # lower case, as we write it
    UUID_OTHERWISE = 2                 # some digits in upper case


cdef int uuid_of(const char *text, uint8_t *out) noexcept nogil:
    """Read the 36 characters of a version 4 or 7 UUID; other text is no UUID to us."""
    cdef int n
    cdef uint8_t high, low, seen = 0
    if (text[8] != c'-' or text[13] != c'-' or text[18] != c'-' or text[23] != c'-'
            or (text[14] != c'4' and text[14] != c'7')):
        return NO_UUID
    for n in range(16):
        high = _hex_digits[<uint8_t>text[_uuid_at[n]]]
        low = _hex_digits[<uint8_t>text[_uuid_at[n] + 1]]
        seen |= high | low
        out[n] = <uint8_t>(high << 4 | (low & 15))
    if seen & 0xE0 or out[8] >> 6 != 2:
        return NO_UUID
    return UUID_OTHERWISE if seen & 0x10 else UUID_AS_WRITTEN


cdef object uuid_text(const uint8_t *bytes):
    """Write 16 bytes as a UUID in lower case."""
    cdef char text[UUID_CHARS]
    cdef const char *digits = "0123456789abcdef"
    cdef int i, n = 0
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            text[n] = c'-'
            n += 1
        text[n] = digits[bytes[i] >> 4]
        text[n + 1] = digits[bytes[i] & 15]
        n += 2
    return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, text, UUID_CHARS)


cdef int uuid7_into(uint8_t *out, uint64_t now_unix_ms) except -1:
    """Make a version 7 UUID (RFC 9562): 48 bits of milliseconds, 74 random bits."""
    global _random_left
    cdef bytes fresh
    cdef int i
    if _random_left < ID_RANDOM_BYTES:
        fresh = os.urandom(RANDOM_BYTES)
        memcpy(_random, <const char *>fresh, RANDOM_BYTES)
        _random_left = RANDOM_BYTES
    _random_left -= ID_RANDOM_BYTES
    memcpy(out + 6, _random + _random_left, ID_RANDOM_BYTES)
    for i in range(6):
        out[i] = <uint8_t>(now_unix_ms >> (40 - 8 * i))
    out[6] = (out[6] & 0x0F) | 0x70
    out[8] = (out[8] & 0x3F) | 0x80
    return 0


cdef class Lines:
    """Lines of a request: the C array and the str objects its texts point into."""

    def __cinit__(self):
        self.array = NULL
        self.count = 0

    def __dealloc__(self):
        free(self.array)

    cdef int fill(self, object lines) except -1:
        cdef list items = list(lines)
        cdef Py_ssize_t i, n = len(items)
        cdef object item, sku, location, qty
        if n > 0xFFFFFFFF:
            raise _error_for(invcore.INV_LIMIT_EXCEEDED, field="lines", figure=n,
                             limit=invcore.INV_LINE_COUNT_MAX)
        self.array = <inv_line *>calloc(n + 1, sizeof(inv_line))
        if self.array is NULL:
            raise _error_for(invcore.INV_NO_MEMORY)
        self.count = <uint32_t>n
        self.skus = [None] * n
        self.locations = [None] * n
        for i in range(n):
            item = items[i]
            if isinstance(item, _Line):
                sku, location, qty = item.sku, item.location, item.qty
                if item.min_qty is not None:
                    refuse_option(f"lines[{i}].min_qty")
                if item.split is not True:
                    refuse_option(f"lines[{i}].split")
            elif isinstance(item, (tuple, list)) and len(item) == 3:
                sku, location, qty = item
            else:
                raise TypeError(
                    f"lines[{i}] must be (sku, location, qty) or inventory.Line, "
                    f"not {type(item).__name__}")
            self.skus[i] = sku
            self.locations[i] = location
            text_of(sku, &self.array[i].sku, "sku", i)
            self.array[i].location_number = invcore.INV_LOCATION_NONE
            if location is not None:
                text_of(location, &self.array[i].location, "location", i)
            int_of(qty, &self.array[i].qty, "qty", invcore.INV_QTY_MAX, i)
        return 0


# ---- handles --------------------------------------------------------------------------------------


cdef class Memory:
    """A disk in memory that survives the stores on it. See ``inventory.testing.MemoryStorage``."""

    def __cinit__(self):
        self.memory = invcore.inv_memory_create()
        if self.memory is NULL:
            raise _error_for(invcore.INV_NO_MEMORY)

    def __dealloc__(self):
        if self.memory is not NULL:
            invcore.inv_memory_destroy(self.memory)

    def _power_cut(self, uint64_t seed):
        with nogil:
            invcore.inv_memory_power_cut(self.memory, seed)

    def _set_capacity(self, uint64_t capacity_bytes):
        with nogil:
            invcore.inv_memory_set_capacity(self.memory, capacity_bytes)


cdef class Handle:
    """Owns one environment and the store opened over it."""

    def __cinit__(self):
        self.env = NULL
        self.store = NULL
        self.generation = _fork_generation

    def __dealloc__(self):
        if self.generation != _fork_generation:
            return
        if self.store is not NULL:
            invcore.inv_store_destroy(self.store)
        if self.env is not NULL:
            invcore.inv_env_destroy(self.env)

    def open(self, *, bytes path, Memory memory, object clock_unix_ms, int durability,
             uint32_t interval_ms, uint64_t segment_bytes, uint64_t id_retention_ms,
             uint64_t ended_ids_max, uint64_t default_ttl_ms, uint64_t restart_grace_ms,
             uint64_t downtime_ms_max, bint clock_slew, int64_t wall_offset_ms,
             uint32_t segments_ahead_max, uint64_t snapshot_log_bytes,
             uint64_t consumer_log_bytes_max, bint read_only, uint64_t upto_lsn,
             uint64_t accept_loss_lsn):
        """Open or create the store; recover first. Called once."""
        cdef invcore.inv_options options
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef invcore.inv_store *store = NULL
        cdef const char *directory = NULL
        memset(&error, 0, sizeof(error))
        self.env = invcore.inv_env_create()
        if self.env is NULL:
            raise _error_for(invcore.INV_NO_MEMORY)
        if path is not None:
            directory = path
            with nogil:
                code = invcore.inv_env_use_directory(self.env, directory, read_only, &error)
            if code != invcore.INV_OK:
                raise_for(code, &error)
        elif memory is not None:
            self.memory = memory
            invcore.inv_env_use_memory(self.env, memory.memory)
        if clock_unix_ms is not None:
            self.manual = True
            self.manual_now_unix_ms = clock_unix_ms
            invcore.inv_env_use_manual_clock(self.env, self.manual_now_unix_ms)
            self.set_wall_offset(wall_offset_ms)
        invcore.inv_options_init(&options)
        options.durability = <invcore.inv_durability>durability
        options.interval_ms = interval_ms
        options.segment_bytes = segment_bytes
        options.id_retention_ms = id_retention_ms
        options.ended_ids_max = ended_ids_max
        options.default_ttl_ms = default_ttl_ms
        options.restart_grace_ms = restart_grace_ms
        options.downtime_ms_max = downtime_ms_max
        options.clock_slew = clock_slew
        options.segments_ahead_max = segments_ahead_max
        options.snapshot_log_bytes = snapshot_log_bytes
        options.consumer_log_bytes_max = consumer_log_bytes_max
        options.read_only = read_only
        options.upto_lsn = upto_lsn
        options.accept_loss_lsn = accept_loss_lsn
        with nogil:
            code = invcore.inv_store_open(self.env, &options, &store, &error)
        if code != invcore.INV_OK:
            raise_for(code, &error)
        self.store = store
        self.read_only = read_only

    cdef int usable(self) except -1:
        if self.closing or self.store is NULL or self.generation != _fork_generation:
            raise _StoreClosed()
        return 0

    cdef int leave(self) noexcept:
        """Count a call out; free a finished store after the last one."""
        cdef invcore.inv_store *store = self.store
        self.inside -= 1
        if self.finished and self.inside == 0 and store is not NULL:
            self.store = NULL
            with nogil:
                invcore.inv_store_destroy(store)
        return 0

    def is_open(self):
        return not self.closing and self.store is not NULL and not self.is_forked()

    def is_forked(self):
        return self.generation != _fork_generation

    def run_flusher(self):
        self.run_loop(0)

    def run_timekeeper(self):
        self.run_loop(1)

    def run_housekeeper(self):
        self.run_loop(2)

    cdef int run_loop(self, int which) except -1:
        """Run a loop of the core until the store stops or fails."""
        if not self.is_open():
            return 0
        self.inside += 1
        with nogil:
            if which == 0:
                invcore.inv_store_run_flusher(self.store)
            elif which == 1:
                invcore.inv_store_run_timekeeper(self.store)
            else:
                invcore.inv_store_run_housekeeper(self.store)
        self.leave()
        return 0

    def stop(self):
        """Tell the loops to end; nothing is synced."""
        if not self.is_forked() and self.store is not NULL:
            self.stopped = True
            invcore.inv_store_stop(self.store)

    def close(self):
        """Refuse new calls, wait for those inside, sync, and free as soon as nobody is inside."""
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        if self.closing or self.is_forked() or self.store is NULL:
            return
        memset(&error, 0, sizeof(error))
        self.closing = True
        self.inside += 1
        with nogil:
            code = invcore.inv_store_close(self.store, &error)
        self.finished = True
        self.leave()
        if code != invcore.INV_OK:
            raise_for(code, &error)

    def begin_abandon(self):
        """Refuse new calls; say how many calls and loops are inside."""
        if self.is_forked():
            return 0
        self.closing = True
        return self.inside

    def finish_abandon(self):
        """Free the store as a crash would leave it: nothing is synced."""
        if not self.is_forked():
            self.finished = True
            self.inside += 1
            self.leave()

    def set_wall_offset(self, int64_t wall_offset_ms):
        """Set the wall clock of a manual clock: so far from the time it counts."""
        self.manual_wall_offset_ms = wall_offset_ms
        if not self.is_forked() and self.env is not NULL:
            invcore.inv_env_set_wall_offset(self.env, wall_offset_ms)

    cdef uint64_t manual_wall_unix_ms(self) noexcept:
        return <uint64_t>max(0, <int64_t>self.manual_now_unix_ms + self.manual_wall_offset_ms)

    def advance_to(self, uint64_t now_unix_ms):
        """Move a manual clock, and expire all that is due by then."""
        cdef invcore.inv_result code = invcore.INV_OK
        cdef invcore.bool more = True
        if not self.is_open():
            return
        self.manual_now_unix_ms = now_unix_ms
        self.inside += 1
        with nogil:
            invcore.inv_env_set_clock(self.env, now_unix_ms)
            while more and code == invcore.INV_OK:
                code = invcore.inv_store_advance(self.store, ADVANCE_STEP, &more)
        self.leave()
        if code != invcore.INV_OK and code != invcore.INV_STORE_CLOSED:
            raise_for(code, NULL)

    def recovery(self):
        cdef invcore.inv_recovery found
        self.usable()
        invcore.inv_store_recovery(self.store, &found)
        return _Recovery(
            found.records_replayed, found.records_skipped, found.entries_replayed,
            found.digests_checked, found.lsn_first, found.lsn_end, found.torn_bytes_dropped, found.torn_records_dropped,
            found.relogged_bytes,
            found.durable_proven, found.epoch, found.segments_read, found.snapshot_lsn,
            found.snapshot_end_lsn, found.snapshot_bytes, found.snapshots_damaged,
            found.loss_lsn_end, found.downtime_ms, found.wall_difference_ms, found.clock_alarm,
            found.duration_ns,
            _StoreFormat(found.format.major, found.format.minor, found.format.features),
            found.created, found.clean_shutdown,
        )


cdef class Store:
    """The operations of an open store. Made by :func:`inventory.open`, as ``Inventory``."""

    def __cinit__(self):
        self.spare = NULL
        self.lines_attached_max = 1

    def __init__(self, Handle handle not None):
        self._handle = handle
        self.location_names = []

    def __dealloc__(self):
        free(self.spare)

    # ---- replies ----------------------------------------------------------------------------------

    cdef int begin(self, inv_reply *reply) except -1:
        """Enter the store with an empty reply; end() must follow."""
        self._handle.usable()
        memset(reply, 0, sizeof(inv_reply))
        reply.lines = self.spare
        self.spare = NULL
        if reply.lines is NULL:
            reply.lines = <inv_reply_line *>malloc(REPLY_LINES * sizeof(inv_reply_line))
            if reply.lines is NULL:
                raise _error_for(invcore.INV_NO_MEMORY)
        reply.lines_max = REPLY_LINES
        self._handle.inside += 1
        return 0

    cdef int end(self, inv_reply *reply) noexcept:
        if self.spare is NULL and reply.lines_max == REPLY_LINES:
            self.spare = reply.lines
        else:
            free(reply.lines)
        self._handle.leave()
        return 0

    cdef int execute(self, const inv_command *command, inv_reply *reply) except -1:
        """Judge one command and wait until what it observed is safe."""
        cdef int code = invcore.INV_BUSY
        cdef uint32_t lines_max = reply.lines_max
        if command.line_count <= self.lines_attached_max:
            code = invcore.inv_store_try_execute(self._handle.store, command, 1, reply)
            if code == invcore.INV_OK:
                code = reply.code
        if code == invcore.INV_BUSY:
            reply.lines_max = lines_max
            code = self.execute_detached(command, reply)
        reply.code = code
        if code == invcore.INV_STORE_CLOSED or code == invcore.INV_STORE_FAILED:
            raise_for(<invcore.inv_result>code, NULL)
        self.settle(reply.observed_lsn)
        return 0

    cdef int execute_detached(self, const inv_command *command, inv_reply *reply) except -1:
        """Judge a long command, or one for which the core was busy, and say its code."""
        cdef invcore.inv_result code
        with nogil:
            code = invcore.inv_store_execute(self._handle.store, command, 1, reply)
        return reply.code if code == invcore.INV_OK else code

    cdef int expect_levels(self, uint32_t count) except -1:
        """An answer of many rows follows. A store on an event loop may decline here."""
        return 0

    cdef int settle(self, uint64_t lsn) except -1:
        if invcore.inv_store_wait(self._handle.store, lsn, 0) == invcore.INV_OK:
            return 0
        return self.wait(lsn, False)

    cdef int wait(self, uint64_t lsn, bint on_disk) except -1:
        """Wait in slices, so that Ctrl-C gets through."""
        cdef invcore.inv_store *store = self._handle.store
        cdef invcore.inv_result code = invcore.INV_BUSY
        while True:
            with nogil:
                if on_disk:
                    code = invcore.inv_store_barrier(store, lsn, WAIT_SLICE_MS)
                else:
                    code = invcore.inv_store_wait(store, lsn, WAIT_SLICE_MS)
            if code == invcore.INV_OK:
                return 0
            if code != invcore.INV_BUSY:
                raise_for(code, NULL)
            if self._handle.stopped:
                raise _StoreClosed()
            PyErr_CheckSignals()

    # ---- names ------------------------------------------------------------------------------------

    cdef object name(self, invcore.inv_name_kind kind, uint32_t number):
        cdef char text[128]
        cdef uint32_t length = 0
        if not invcore.inv_store_name(self._handle.store, kind, number, text, &length):
            raise _StoreClosed()      # the core gave the number: it only ever refuses when closing
        return PyUnicode_DecodeUTF8(text, length, NULL)

    cdef object location_name(self, uint16_t number):
        cdef Py_ssize_t known = len(self.location_names)
        cdef object name
        if number < known:
            name = self.location_names[number]
            if name is not None:
                return name
        if number == invcore.INV_LOCATION_NONE:
            return None
        name = self.name(invcore.INV_NAME_LOCATION, number)
        if number >= known:
            self.location_names.extend([None] * (number + 1 - known))
        self.location_names[number] = name
        return name

    # ---- answers ----------------------------------------------------------------------------------

    cdef object line_of(self, const inv_reply_line *line, object sku, Lines asked):
        if asked is not None and line.line_index < asked.count:
            sku = asked.skus[line.line_index]
        elif sku is None:
            sku = self.name(invcore.INV_NAME_SKU, line.sku)
        return _ReservationLine(
            sku, self.location_name(line.location), line.qty, line.held, line.allocated,
            line.shipped, line.backordered,
        )

    cdef tuple lines_of(self, const inv_reply *reply, object sku, Lines asked):
        cdef uint32_t n = min(reply.line_count, reply.lines_max)
        if n == 1:
            return (self.line_of(&reply.lines[0], sku, asked),)
        return tuple([self.line_of(&reply.lines[i], sku, asked) for i in range(n)])

    cdef object reservation_of(self, const inv_reply *reply, object shown_id, object sku,
                               Lines asked):
        return _Reservation(
            shown_id,
            _STATES[reply.state],
            self.lines_of(reply, sku, asked),
            reply.expires_at_unix_ms if reply.expires_at_unix_ms else None,
            reply.ended_at_unix_ms if reply.ended_at_unix_ms else None,
            reply.lsn,
            reply.code == invcore.INV_REPLAYED,
            reply.reheld,
            reply.now_unix_ms,
            reply.units,
        )

    cdef object level_of(self, const inv_stock_level *level, object sku, object location):
        return _StockLevel(
            sku,
            location if location is not None else self.location_name(level.location),
            level.on_hand, level.held, level.allocated, level.reserved, level.available,
            level.available_to_promise, level.safety_stock, level.short_qty, level.backordered,
            level.incoming, level.unsellable, level.lsn, level.now_unix_ms,
        )

    cdef tuple short_of(self, const inv_reply *reply, object sku, object location, Lines asked,
                        bint over_commit):
        """Lines of a refusal; names the store does not know are the caller's own."""
        cdef uint32_t i
        cdef const inv_reply_line *line
        cdef list found = []
        cdef object line_sku, line_location, alternatives
        for i in range(min(reply.line_count, reply.lines_max)):
            line = &reply.lines[i]
            line_sku, line_location = sku, location
            if asked is not None and line.line_index < asked.count:
                line_sku = asked.skus[line.line_index]
                line_location = asked.locations[line.line_index]
            if line_sku is None:
                line_sku = self.name(invcore.INV_NAME_SKU, line.sku)
            if line_location is None:
                line_location = self.location_name(line.location)
            if over_commit:
                found.append(_RemainingLine(
                    line_sku, line_location, line.qty, line.available_to_promise))
                continue
            alternatives = tuple([
                self.location_name(line.alternatives[k])
                for k in range(min(line.alternative_count, invcore.INV_ALTERNATIVE_COUNT_MAX))])
            found.append(_ShortLine(
                line_sku, line_location, line.qty, line.available_to_promise,
                <bint>(line.closed != 0), alternatives))
        return tuple(found)

    cdef int raise_reply(self, const inv_reply *reply, object shown_id, object sku,
                         object location, Lines asked) except -1:
        """Raise what a reply says: the one place where a result code becomes an exception."""
        cdef int code = reply.code
        cdef dict details = {}
        cdef str field
        if code == invcore.INV_INSUFFICIENT or code == invcore.INV_CLOSED:
            details["short"] = self.short_of(reply, sku, location, asked, False)
            details["retry_after_ms"] = reply.retry_after_ms if reply.retry_after_ms else None
        elif code == invcore.INV_OVER_COMMIT:
            details["remaining"] = self.short_of(reply, sku, location, asked, True)
        elif (code == invcore.INV_BAD_REQUEST or code == invcore.INV_QTY_OUT_OF_RANGE
                or code == invcore.INV_LIMIT_EXCEEDED):
            field = "" if reply.field is NULL else (<bytes>reply.field).decode()
            if asked is None:
                details["field"] = field.removeprefix("lines[].")
            else:
                details["field"] = field.replace("[]", f"[{reply.line_index}]")
            if reply.figure or reply.limit:
                details["figure"] = reply.figure
                details["limit"] = reply.limit
        elif code == invcore.INV_FORBIDDEN and self._handle.read_only:
            raise _error_for(code, "the store was opened with read_only=True; open it for writing")
        elif code == invcore.INV_IDEMPOTENCY_MISMATCH:
            details["fields"] = mismatch_of(reply.mismatch)
        else:
            details["reservation_id"] = shown_id
            details["state"] = _STATES[reply.state]
            details["units"] = reply.units
            details["lsn"] = reply.lsn
            details["ended_at_unix_ms"] = (
                reply.ended_at_unix_ms if reply.ended_at_unix_ms else None)
            details["expired_at_unix_ms"] = reply.ended_at_unix_ms
            details["now_unix_ms"] = reply.now_unix_ms
            details["actual"] = reply.figure
            details["oldest_lsn"] = reply.figure
            details["sku"] = sku
            details["location"] = location
            details["retry_after_ms"] = reply.retry_after_ms if reply.retry_after_ms else None
            if reply.line_count > 0:
                details["lines"] = self.lines_of(reply, sku, None)
        raise _error_for(code, "", **details)

    # ---- commands ---------------------------------------------------------------------------------

    cdef int texts_into(self, inv_command *command, object account, object seller, object reason,
                        object reference) except -1:
        if account is not _EMPTY:
            text_of(account, &command.account, "account")
        if seller is not _DEFAULT_SELLER:
            text_of(seller, &command.seller, "seller")
        if reason is not _EMPTY:
            text_of(reason, &command.reason, "reason")
        if reference is not _EMPTY:
            text_of(reference, &command.reference, "reference")
        return 0

    cdef object id_into(self, object value, inv_text *out, invcore.bool *is_uuid, uint8_t *uuid,
                        str field):
        """View an id; a UUID as its 16 bytes, kept in `uuid`. Returns the id as it is shown."""
        cdef int form
        text_of(value, out, field)
        if out.length == UUID_CHARS:
            form = uuid_of(out.bytes, uuid)
            if form != NO_UUID:
                out.bytes = <const char *>uuid
                out.length = 16
                is_uuid[0] = True
                return value if form == UUID_AS_WRITTEN and type(value) is str else uuid_text(uuid)
        return value

    cdef object new_id_into(self, inv_text *out, invcore.bool *is_uuid, uint8_t *uuid):
        cdef timespec now
        cdef uint64_t now_unix_ms = self._handle.manual_wall_unix_ms()
        if not self._handle.manual:
            clock_gettime(CLOCK_REALTIME, &now)
            now_unix_ms = <uint64_t>now.tv_sec * 1000 + <uint64_t>now.tv_nsec // 1000000
        uuid7_into(uuid, now_unix_ms)
        out.bytes = <const char *>uuid
        out.length = 16
        is_uuid[0] = True
        return uuid_text(uuid)

    cdef object run_reserve(self, inv_command *command, object reservation_id, object ttl_ms,
                            bint use_safety_stock, object sku, object location, Lines asked):
        cdef inv_reply reply
        cdef uint8_t uuid[16]
        cdef object shown_id
        command.kind = invcore.INV_CMD_RESERVE
        command.use_safety_stock = use_safety_stock
        if ttl_ms is not None:
            ttl_of(ttl_ms, &command.ttl_ms)
        if reservation_id is None:
            shown_id = self.new_id_into(&command.id, &command.id_is_uuid, uuid)
        else:
            shown_id = self.id_into(reservation_id, &command.id, &command.id_is_uuid, uuid,
                                    "reservation_id")
        self.begin(&reply)
        try:
            self.execute(command, &reply)
            if reply.code > invcore.INV_REPLAYED:
                self.raise_reply(&reply, shown_id, sku, location, asked)
            if reply.line_count > reply.lines_max:
                self.read_lines(command, &reply)
                asked, sku = None, None
            if reply.code == invcore.INV_REPLAYED:  # lines of the first request, in its order
                asked = None
            return self.reservation_of(&reply, shown_id, sku, asked)
        finally:
            self.end(&reply)

    cdef int read_lines(self, const inv_command *command, inv_reply *reply) except -1:
        """Fetch lines that did not fit: a reservation split over very many places."""
        cdef inv_reply more
        cdef invcore.inv_result code
        cdef uint32_t wanted = reply.line_count
        while True:
            more.lines = <inv_reply_line *>malloc(wanted * sizeof(inv_reply_line))
            if more.lines is NULL:
                raise _error_for(invcore.INV_NO_MEMORY)
            more.lines_max = wanted
            with nogil:
                code = invcore.inv_store_reservation(
                    self._handle.store, command.seller, command.id, command.id_is_uuid, &more)
            if code == invcore.INV_OK and more.line_count > wanted:
                wanted = more.line_count
                free(more.lines)
                continue
            if code != invcore.INV_OK or more.line_count == 0:
                free(more.lines)      # ended meanwhile: what came with the answer must do
                return 0
            free(reply.lines)
            reply.lines = more.lines
            reply.lines_max = more.lines_max
            reply.line_count = more.line_count
            return 0

    cdef object run_by_id(self, inv_command *command, object reservation_id, object lines,
                          object op_id, object account, object seller, object reason,
                          object reference):
        """Commit, ship, release, cancel, extend."""
        cdef inv_reply reply
        cdef uint8_t uuid[16]
        cdef uint8_t op_uuid[16]
        cdef object shown_id
        cdef Lines asked = None
        self.texts_into(command, account, seller, reason, reference)
        shown_id = self.id_into(reservation_id, &command.id, &command.id_is_uuid, uuid,
                                "reservation_id")
        if op_id is not None:
            self.id_into(op_id, &command.op_id, &command.op_id_is_uuid, op_uuid, "op_id")
        if lines is not None:
            asked = Lines()
            asked.fill(lines)
            command.partial = True
            command.lines = asked.array
            command.line_count = asked.count
        self.begin(&reply)
        try:
            self.execute(command, &reply)
            if reply.code > invcore.INV_REPLAYED:
                self.raise_reply(&reply, shown_id, None, None, asked)
            if reply.line_count > reply.lines_max:
                self.read_lines(command, &reply)
            return self.reservation_of(&reply, shown_id, None, None)
        finally:
            self.end(&reply)

    cdef object run_stock(self, inv_command *command, object sku, object location, int64_t qty,
                          object op_id, object account, object seller, object reason,
                          object reference):
        """Receive, issue, adjust, set_on_hand, set_policy."""
        cdef inv_reply reply
        cdef inv_line line
        cdef uint8_t uuid[16]
        cdef object level
        memset(&line, 0, sizeof(line))
        text_of(sku, &line.sku, "sku")
        line.location_number = invcore.INV_LOCATION_NONE
        if location is not None:
            text_of(location, &line.location, "location")
        line.qty = qty
        command.lines = &line
        command.line_count = 1
        self.texts_into(command, account, seller, reason, reference)
        if op_id is not None:
            self.id_into(op_id, &command.op_id, &command.op_id_is_uuid, uuid, "op_id")
        self.begin(&reply)
        try:
            self.execute(command, &reply)
            if reply.code > invcore.INV_REPLAYED:
                self.raise_reply(&reply, op_id, sku, location, None)
            if command.kind == invcore.INV_CMD_SET_POLICY:
                return _PolicyChange(
                    sku, location, command.safety_stock, reply.lsn,
                    reply.code == invcore.INV_REPLAYED, reply.now_unix_ms)
            level = self.level_of(&reply.level, sku, location)
            return _StockChange(
                level, reply.lsn, reply.code == invcore.INV_REPLAYED, reply.now_unix_ms)
        finally:
            self.end(&reply)

    # ---- reservations -----------------------------------------------------------------------------

    def reserve(self, sku, qty, *, location=None, ttl_ms=None, reservation_id=None, account="",
                seller="default", mode="all_or_nothing", min_qty=None, backorder=False, split=True,
                backorder_ttl_ms=None, soft_ttl_ms=None, priority=0, promised_unix_ms=None,
                locations=None, strategy=None, region=None, max_splits=None, replaces=(),
                use_safety_stock=False, wait_ms=0, reason="", reference=""):
        """Hold units of one SKU until a deadline.

        Args:
            sku: 1 to 128 bytes of UTF-8.
            qty: units, 1 to 2,147,483,647.
            location: 1 to 64 bytes of UTF-8; ``None`` lets the engine choose (over several
                locations if need be) and the answer says where.
            ttl_ms: how long the hold lasts, 1 ms to 30 days (2,592,000,000); ``None`` is the
                store's ``default_ttl_ms``. The deadline is engine time at the decision plus this.
            reservation_id: the caller's idempotency key, 1 to 64 bytes; a UUID of version 4 or 7 in
                any letter case is one id, shown in lower case. ``None`` makes a new UUIDv7.
            account, seller: who asks, and whose SKU it is; up to 64 bytes each.
            use_safety_stock: go into units that policy keeps out of promises.
            reason, reference: up to 64 and 128 bytes, for the log.
            mode, min_qty, backorder, split, backorder_ttl_ms, soft_ttl_ms, priority,
                promised_unix_ms, locations, strategy, region, max_splits, replaces, wait_ms: of
                later releases; anything but the default is refused.

        Returns:
            The Reservation. The same id and body again give the first answer with
            ``replayed=True`` and the present state.

        Raises:
            InsufficientStock: ``short`` lists every short line; nothing changed. An unknown SKU is
                one with 0 available.
            IdempotencyMismatch: the id is known with another body.
            BadRequest, LimitExceeded, StaleId, AlreadyReleased (a tombstone), DiskFull, StoreClosed,
                StoreFailed; TypeError for a wrong type.

        Durability: on disk in ``durable`` mode; in the page cache, synced within ``interval_ms``, in
        ``interval`` mode. Interrupted while waiting (Ctrl-C), the outcome is unknown: ask again with
        the same id.

        >>> hold = inv.reserve("TEE", 2, location="LON", ttl_ms=900_000, reservation_id="cart-1")
        >>> hold.state, hold.units, hold.lines[0].location
        (<State.HELD: 'HELD'>, 2, 'LON')
        """
        cdef inv_command command
        cdef inv_line line
        memset(&command, 0, sizeof(command))
        memset(&line, 0, sizeof(line))
        if (mode is not _ALL_OR_NOTHING or min_qty is not None or backorder is not False
                or split is not True or backorder_ttl_ms is not None or soft_ttl_ms is not None
                or priority is not 0 or promised_unix_ms is not None or locations is not None
                or strategy is not None or region is not None or max_splits is not None
                or replaces is not () or wait_ms is not 0):
            refuse_later_options(mode, min_qty, backorder, split, backorder_ttl_ms, soft_ttl_ms,
                                 priority, promised_unix_ms, locations, strategy, region,
                                 max_splits, replaces, wait_ms)
        text_of(sku, &line.sku, "sku")
        int_of(qty, &line.qty, "qty", invcore.INV_QTY_MAX)
        line.location_number = invcore.INV_LOCATION_NONE
        if location is not None:
            text_of(location, &line.location, "location")
        command.lines = &line
        command.line_count = 1
        self.texts_into(&command, account, seller, reason, reference)
        return self.run_reserve(&command, reservation_id, ttl_ms,
                                flag_of(use_safety_stock, "use_safety_stock"), sku, location, None)

    def reserve_lines(self, lines, *, ttl_ms=None, reservation_id=None, account="",
                      seller="default", mode="all_or_nothing", min_qty=None, backorder=False,
                      split=True, backorder_ttl_ms=None, soft_ttl_ms=None, priority=0,
                      promised_unix_ms=None, locations=None, strategy=None, region=None,
                      max_splits=None, replaces=(), use_safety_stock=False, wait_ms=0, reason="",
                      reference=""):
        """Hold all lines of a cart, or none of them.

        Args:
            lines: 1 to 4,096 of ``(sku, location or None, qty)`` or :class:`Line`. Equal lines are
                summed; lines with a location are served before free lines of the same SKU.

        The rest is as in :meth:`reserve`: one id, one deadline, one entry in the log.

        Raises:
            InsufficientStock: ``short`` lists *every* short line.
            LimitExceeded: more than 4,096 lines. BadRequest names the line (``lines[3].qty``).

        Durability: as :meth:`reserve`.

        >>> cart = inv.reserve_lines([("TEE", None, 1), ("MUG", "LON", 2)], reservation_id="cart-2")
        >>> [(line.sku, line.location, line.held) for line in cart.lines]
        [('TEE', 'LON', 1), ('MUG', 'LON', 2)]
        """
        cdef inv_command command
        cdef Lines asked = Lines()
        memset(&command, 0, sizeof(command))
        refuse_later_options(mode, min_qty, backorder, split, backorder_ttl_ms, soft_ttl_ms,
                             priority, promised_unix_ms, locations, strategy, region, max_splits,
                             replaces, wait_ms)
        asked.fill(lines)
        command.lines = asked.array
        command.line_count = asked.count
        self.texts_into(&command, account, seller, reason, reference)
        return self.run_reserve(&command, reservation_id, ttl_ms,
                                flag_of(use_safety_stock, "use_safety_stock"), None, None, asked)

    def commit(self, reservation_id, *, lines=None, final=True, op_id=None, if_expired=None,
               account="", seller="default", reason="", reference=""):
        """Turn held units into allocated ones: the order is placed, no deadline any more.

        Args:
            reservation_id: 1 to 64 bytes.
            lines: a part, as ``(sku, location, qty)``; ``None`` is all that is held.
            final: with lines: give the rest back. ``False`` keeps it held under the old deadline.
            op_id: idempotency key of a partial call, 1 to 64 bytes.
            if_expired: ``"rehold"`` takes the units again after the deadline, if they are there.

        Returns:
            The Reservation; ``reheld`` says that the units were taken again. A whole commit that
            finds its own result is a replay.

        Raises:
            Expired: the deadline has passed. InsufficientStock: so it has, and the units are gone.
            OverCommit: a line names more than is held.
            AlreadyReleased, AlreadyCancelled, AlreadyShipped, UnknownReservation, BadRequest,
                IdempotencyMismatch (of the op_id), DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> hold = inv.reserve("TEE", 2, location="LON", reservation_id="cart-3")
        >>> order = inv.commit("cart-3")
        >>> order.state, order.lines[0].allocated, order.expires_at_unix_ms
        (<State.ALLOCATED: 'ALLOCATED'>, 2, None)
        """
        cdef inv_command command
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_COMMIT
        command.keep_rest = not flag_of(final, "final")
        if if_expired is not None:
            if if_expired != "rehold":
                raise _BadRequest("if_expired: None or 'rehold'", field="if_expired")
            command.rehold = True
        return self.run_by_id(&command, reservation_id, lines, op_id, account, seller, reason,
                              reference)

    def ship(self, reservation_id, *, lines=None, op_id=None, account="", seller="default",
             reason="", reference=""):
        """Let the units leave: ``on_hand`` falls. Units still held are committed in the same step.

        Args:
            reservation_id: 1 to 64 bytes.
            lines: a part, as ``(sku, location, qty)``; what is not named stays as it was.
                ``None`` is all that is left.
            op_id: idempotency key of a partial call, 1 to 64 bytes.

        Returns:
            The Reservation. A whole ship that finds its own result is a replay.

        Raises:
            InsufficientStock: the row is short (a count, damage): the units are not there.
            OverCommit, Expired, AlreadyReleased, AlreadyCancelled, AlreadyShipped,
                UnknownReservation, BadRequest, IdempotencyMismatch, DiskFull, StoreClosed,
                StoreFailed.

        Durability: as :meth:`reserve`.

        >>> hold = inv.reserve("TEE", 2, location="LON", reservation_id="till-1")
        >>> inv.ship("till-1").state
        <State.SHIPPED: 'SHIPPED'>
        """
        cdef inv_command command
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_SHIP
        return self.run_by_id(&command, reservation_id, lines, op_id, account, seller, reason,
                              reference)

    def release(self, reservation_id, *, lines=None, op_id=None, tombstone=False, account="",
                seller="default", reason="", reference=""):
        """Give held units back.

        Args:
            reservation_id: 1 to 64 bytes.
            lines: a part, as ``(sku, location, qty)``; ``None`` is all that is held.
            op_id: idempotency key of a partial call, 1 to 64 bytes.
            tombstone: remember an unknown id, so that a reserve that comes late is refused with
                AlreadyReleased.

        Returns:
            The Reservation. A whole release that finds its own result is a replay.

        Raises:
            AlreadyCommitted: nothing is held but something allocated; ``cancel`` gives that back.
            OverCommit, Expired, AlreadyCancelled, AlreadyShipped, UnknownReservation, BadRequest,
                IdempotencyMismatch, DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> hold = inv.reserve("TEE", 2, location="LON", reservation_id="cart-4")
        >>> inv.release("cart-4").state
        <State.RELEASED: 'RELEASED'>
        """
        cdef inv_command command
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_RELEASE
        command.tombstone = flag_of(tombstone, "tombstone")
        return self.run_by_id(&command, reservation_id, lines, op_id, account, seller, reason,
                              reference)

    def cancel(self, reservation_id, *, lines=None, op_id=None, account="", seller="default",
               reason="", reference=""):
        """Give back all that is held, queued and allocated.

        Args:
            reservation_id: 1 to 64 bytes.
            lines: a part, as ``(sku, location, qty)``; ``None`` is all that is left.
            op_id: idempotency key of a partial call, 1 to 64 bytes.

        Returns:
            The Reservation. A whole cancel that finds its own result is a replay.

        Raises:
            OverCommit, Expired, AlreadyReleased, AlreadyShipped, UnknownReservation, BadRequest,
                IdempotencyMismatch, DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> hold = inv.reserve("TEE", 2, location="LON", reservation_id="cart-5")
        >>> order = inv.commit("cart-5")
        >>> inv.cancel("cart-5").state
        <State.CANCELLED: 'CANCELLED'>
        """
        cdef inv_command command
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_CANCEL
        return self.run_by_id(&command, reservation_id, lines, op_id, account, seller, reason,
                              reference)

    def extend(self, reservation_id, *, ttl_ms, shorten=False, account="", seller="default",
               reason="", reference=""):
        """Move the deadline of a hold to now plus ``ttl_ms``.

        Args:
            reservation_id: 1 to 64 bytes.
            ttl_ms: 1 ms to 30 days (2,592,000,000), from now.
            shorten: let the deadline come nearer; without it the later one stands.

        Returns:
            The Reservation; ``expires_at_unix_ms`` is the deadline that stands.

        Raises:
            Expired: refused after the deadline. AlreadyCommitted, AlreadyReleased,
                AlreadyCancelled, AlreadyShipped, UnknownReservation, BadRequest, DiskFull,
                StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> hold = inv.reserve("TEE", 1, location="LON", ttl_ms=1_000, reservation_id="cart-6")
        >>> later = inv.extend("cart-6", ttl_ms=60_000)
        >>> later.expires_at_unix_ms > hold.expires_at_unix_ms
        True
        """
        cdef inv_command command
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_EXTEND
        command.shorten = flag_of(shorten, "shorten")
        ttl_of(ttl_ms, &command.ttl_ms)
        return self.run_by_id(&command, reservation_id, None, None, account, seller, reason,
                              reference)

    # ---- stock ------------------------------------------------------------------------------------

    def receive(self, sku, location, qty, *, op_id=None, reason="", reference="", account="",
                seller="default"):
        """Take goods in: ``on_hand`` rises. Creates the SKU, the location and the row.

        Args:
            sku: 1 to 128 bytes of UTF-8. location: 1 to 64 bytes.
            qty: units, 1 to 2,147,483,647.
            op_id: idempotency key, 1 to 64 bytes: the same call again moves nothing.
            reason, reference: up to 64 and 128 bytes, for the log.

        Returns:
            A StockChange: the row after it, the lsn, whether it was a replay.

        Raises:
            QtyOutOfRange: on_hand would leave 0 to 2,147,483,647. IdempotencyMismatch,
                LimitExceeded (locations), BadRequest, DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> inv.receive("PEN", "LON", 40, op_id="po-7").level.on_hand
        40
        >>> inv.receive("PEN", "LON", 40, op_id="po-7").replayed
        True
        """
        cdef inv_command command
        cdef int64_t units = 0
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_RECEIVE
        int_of(qty, &units, "qty", invcore.INV_QTY_MAX)
        return self.run_stock(&command, sku, required(location), units, op_id, account, seller,
                              reason, reference)

    def issue(self, sku, location, qty, *, op_id=None, reason="", reference="", account="",
              seller="default"):
        """Let goods leave without a reservation. Never takes promised units; may go into safety
        stock.

        Args: as :meth:`receive`.

        Returns:
            A StockChange.

        Raises:
            InsufficientStock: not so many unpromised units. UnknownSku, IdempotencyMismatch,
                BadRequest, DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> inv.issue("TEE", "LON", 3, reason="shop window").level.on_hand
        7
        """
        cdef inv_command command
        cdef int64_t units = 0
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_ISSUE
        int_of(qty, &units, "qty", invcore.INV_QTY_MAX)
        return self.run_stock(&command, sku, required(location), units, op_id, account, seller,
                              reason, reference)

    def adjust(self, sku, location, delta, *, reason="", strict=False, op_id=None, reference="",
               account="", seller="default"):
        """Correct ``on_hand`` by a signed difference. Physical truth wins over promises.

        Args:
            sku: 1 to 128 bytes of UTF-8. location: 1 to 64 bytes.
            delta: units, -2,147,483,647 to 2,147,483,647, not 0. A negative one is accepted down to
                on_hand 0; promises it breaks show as ``short``.
            reason: up to 64 bytes ("damage", "loss", "count").
            strict: refuse to break promises.
            op_id: idempotency key, 1 to 64 bytes.

        Returns:
            A StockChange.

        Raises:
            InsufficientStock: ``strict``, and promises would break. QtyOutOfRange: on_hand would
                leave 0 to 2,147,483,647. UnknownSku (a negative one), IdempotencyMismatch,
                BadRequest, DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> inv.adjust("TEE", "LON", -3, reason="damage", op_id="adj-1").level.on_hand
        7
        """
        cdef inv_command command
        cdef int64_t units = 0
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_ADJUST
        command.strict = flag_of(strict, "strict")
        int_of(delta, &units, "delta", invcore.INV_QTY_MAX)
        return self.run_stock(&command, sku, required(location), units, op_id, account, seller,
                              reason, reference)

    def set_on_hand(self, sku, location, qty, *, if_on_hand=None, as_of=None, reason="",
                    op_id=None, reference="", account="", seller="default"):
        """Set ``on_hand`` to a counted figure, if it still is what the caller thinks.

        Args:
            sku: 1 to 128 bytes of UTF-8. location: 1 to 64 bytes.
            qty: the counted units, 0 to 2,147,483,647.
            if_on_hand: what on_hand was when the count was taken; required in this release.
            as_of: of a later release; refused.
            op_id: idempotency key, 1 to 64 bytes.

        Returns:
            A StockChange. A figure equal to what is there moves nothing.

        Raises:
            CasFailed: ``actual`` is what on_hand is. QtyOutOfRange, IdempotencyMismatch,
                BadRequest, DiskFull, StoreClosed, StoreFailed.

        Durability: as :meth:`reserve`.

        >>> inv.set_on_hand("TEE", "LON", 12, if_on_hand=10, reason="count").level.on_hand
        12
        """
        cdef inv_command command
        cdef int64_t units = 0
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_SET_ON_HAND
        if as_of is not None:
            refuse_option("as_of")
        if if_on_hand is None:
            raise _BadRequest("if_on_hand: required; give the on_hand that was read before the "
                              "count", field="if_on_hand")
        int_of(qty, &units, "qty", invcore.INV_QTY_MAX)
        int_of(if_on_hand, &command.if_on_hand, "if_on_hand", invcore.INV_QTY_MAX)
        return self.run_stock(&command, sku, required(location), units, op_id, account, seller,
                              reason, reference)

    def set_policy(self, sku, location=None, *, safety_stock, op_id=None, reason="", reference="",
                   account="", seller="default"):
        """Set how many units are kept out of promises. Existing holds are never touched.

        Args:
            sku: 1 to 128 bytes of UTF-8; created if new.
            location: 1 to 64 bytes; ``None`` is every row of the SKU.
            safety_stock: units, 0 to 2,147,483,647.
            op_id: idempotency key, 1 to 64 bytes.

        Returns:
            A PolicyChange.

        Raises:
            IdempotencyMismatch, LimitExceeded (locations), BadRequest, DiskFull, StoreClosed,
                StoreFailed.

        Durability: as :meth:`reserve`.

        >>> change = inv.set_policy("TEE", "LON", safety_stock=4)
        >>> inv.availability("TEE", "LON").available_to_promise
        6
        """
        cdef inv_command command
        memset(&command, 0, sizeof(command))
        command.kind = invcore.INV_CMD_SET_POLICY
        int_of(safety_stock, &command.safety_stock, "safety_stock", invcore.INV_QTY_MAX)
        return self.run_stock(&command, sku, location, 0, op_id, account, seller, reason, reference)

    # ---- reads ------------------------------------------------------------------------------------

    def availability(self, sku, location=None, *, seller="default", relaxed=False):
        """Read stock, exactly: of one row, or of all rows of a SKU with totals at one lsn.

        Args:
            sku: 1 to 128 bytes of UTF-8.
            location: 1 to 64 bytes; ``None`` is the whole SKU.
            relaxed: don't wait until what was seen is durable.

        Returns:
            A StockLevel (zeros at a location without a row), or a SkuAvailability without location.

        Raises:
            UnknownSku: nothing was ever recorded for it. BadRequest, StoreClosed, StoreFailed.

        Durability: what the answer shows is as safe as the store promises, unless ``relaxed``.

        >>> inv.availability("TEE", "LON").available_to_promise
        10
        >>> inv.availability("TEE").totals.on_hand
        10
        """
        cdef inv_line line
        cdef inv_text owner
        cdef inv_stock_level level
        cdef invcore.inv_result code
        cdef bint wait = not flag_of(relaxed, "relaxed")
        memset(&line, 0, sizeof(line))
        memset(&owner, 0, sizeof(owner))
        text_of(sku, &line.sku, "sku")
        if seller is not _DEFAULT_SELLER:
            text_of(seller, &owner, "seller")
        if location is None:
            return self.availability_of_sku(&line, owner, sku, wait)
        text_of(location, &line.location, "location")
        self._handle.usable()
        self._handle.inside += 1
        try:
            memset(&level, 0, sizeof(level))
            code = invcore.inv_store_availability(self._handle.store, owner, &line, &level)
            if wait and (code == invcore.INV_OK or code == invcore.INV_UNKNOWN_SKU):
                self.settle(level.lsn)
            if code != invcore.INV_OK:
                self.raise_read(code, sku, &line, owner)
            return self.level_of(&level, sku, location)
        finally:
            self._handle.leave()

    cdef int raise_read(self, invcore.inv_result code, object sku, const inv_line *line,
                        inv_text owner) except -1:
        if code == invcore.INV_BAD_REQUEST:
            if owner.bytes is not NULL and (owner.length < 1
                                            or owner.length > invcore.INV_SELLER_BYTES_MAX):
                raise bad_request("seller", owner.length, invcore.INV_SELLER_BYTES_MAX)
            if line.sku.length < 1 or line.sku.length > invcore.INV_SKU_BYTES_MAX:
                raise bad_request("sku", line.sku.length, invcore.INV_SKU_BYTES_MAX)
            raise bad_request("location", line.location.length, invcore.INV_LOCATION_BYTES_MAX)
        raise _error_for(<int>code, "", sku=sku)

    cdef object availability_of_sku(self, const inv_line *line, inv_text owner, object sku,
                                    bint wait):
        cdef inv_stock_level few[LEVELS_AT_FIRST]
        cdef inv_stock_level total
        cdef inv_stock_level *levels = few
        cdef inv_stock_level *many = NULL
        cdef uint32_t count = 0, levels_max = LEVELS_AT_FIRST
        cdef invcore.inv_result code
        self._handle.usable()
        self._handle.inside += 1
        try:
            memset(&total, 0, sizeof(total))
            code = invcore.inv_store_availability_sku(self._handle.store, owner, line, levels,
                                                      levels_max, &count, &total)
            while code == invcore.INV_OK and count > levels_max:
                self.expect_levels(count)
                free(many)
                levels_max = count + LEVELS_AT_FIRST
                many = <inv_stock_level *>malloc(levels_max * sizeof(inv_stock_level))
                if many is NULL:
                    raise _error_for(invcore.INV_NO_MEMORY)
                levels = many
                with nogil:
                    code = invcore.inv_store_availability_sku(self._handle.store, owner, line,
                                                              levels, levels_max, &count, &total)
            if wait and (code == invcore.INV_OK or code == invcore.INV_UNKNOWN_SKU):
                self.settle(total.lsn)
            if code != invcore.INV_OK:
                self.raise_read(code, sku, line, owner)
            return _SkuAvailability(
                sku,
                tuple([self.level_of(&levels[i], sku, None) for i in range(count)]),
                _StockTotals(
                    total.on_hand, total.held, total.allocated, total.reserved, total.available,
                    total.available_to_promise, total.safety_stock, total.short_qty,
                    total.backordered, total.incoming, total.unsellable),
                total.lsn, total.now_unix_ms)
        finally:
            free(many)
            self._handle.leave()

    def reservation(self, reservation_id, *, seller="default"):
        """Look at a reservation.

        Args:
            reservation_id: 1 to 64 bytes.

        Returns:
            The Reservation as it stands. An ended one, while its id is remembered: state, units,
            when and at which lsn it ended, no lines.

        Raises:
            UnknownReservation: never made, refused, or forgotten. BadRequest, StoreClosed,
                StoreFailed.

        Durability: what the answer shows is as safe as the store promises.

        >>> hold = inv.reserve("TEE", 2, location="LON", reservation_id="cart-7")
        >>> inv.reservation("cart-7").state
        <State.HELD: 'HELD'>
        """
        cdef inv_command command
        cdef inv_reply reply
        cdef uint8_t uuid[16]
        cdef object shown_id
        memset(&command, 0, sizeof(command))
        self.texts_into(&command, _EMPTY, seller, _EMPTY, _EMPTY)
        shown_id = self.id_into(reservation_id, &command.id, &command.id_is_uuid, uuid,
                                "reservation_id")
        self.begin(&reply)
        try:
            reply.code = invcore.inv_store_reservation(
                self._handle.store, command.seller, command.id, command.id_is_uuid, &reply)
            if reply.code == invcore.INV_OK or reply.code == invcore.INV_UNKNOWN_RESERVATION:
                self.settle(reply.observed_lsn)
            if reply.code != invcore.INV_OK:
                self.raise_reply(&reply, shown_id, None, None, None)
            if reply.line_count > reply.lines_max:
                self.read_lines(&command, &reply)
            return self.reservation_of(&reply, shown_id, None, None)
        finally:
            self.end(&reply)

    # ---- proof and figures ------------------------------------------------------------------------

    def verify(self):
        """Walk everything with selling stopped, and verify every invariant.

        Returns:
            A VerifyReport: ``ok``, ``problems``, and what was walked. It takes about a second for
            ten million rows; other calls wait meanwhile.

        Raises:
            StoreClosed, StoreFailed.

        >>> inv.verify().ok
        True
        """
        cdef invcore.inv_check_report found
        cdef invcore.inv_result code
        memset(&found, 0, sizeof(found))
        self._handle.usable()
        self._handle.inside += 1
        try:
            with nogil:
                code = invcore.inv_store_check(self._handle.store, &found)
            if code != invcore.INV_OK:
                raise_for(code, NULL)
            return _VerifyReport(
                found.ok,
                ((<bytes>found.problem).decode("utf-8", "replace"),) if found.problem[0] else (),
                found.problem_count, found.skus, found.rows, found.holds, found.ended,
                found.timers, found.lsn, found.on_hand, found.held, found.allocated)
        finally:
            self._handle.leave()

    def metrics(self):
        """Read the counters of the store, summed over all threads.

        Returns:
            Metrics. Raises StoreClosed.

        >>> inv.metrics().live_holds
        0
        """
        cdef invcore.inv_metrics found
        self._handle.usable()
        memset(&found, 0, sizeof(found))
        invcore.inv_store_metrics(self._handle.store, &found)
        return _Metrics(
            found.lsn_appended, found.lsn_durable, found.commands, found.records, found.groups,
            found.syncs, found.sync_ns_total, found.sync_ns_max, found.reserved_ok, found.refused,
            found.replayed, found.expired, found.ended_ids, found.live_holds, found.now_unix_ms,
            found.lag_ms, found.id_window_ms, found.clock_drift_ms, found.clock_alarms,
            found.clock_slewed_ms, found.wall_offset_ms, found.segments_ready, found.segment_waits,
            found.probe_max, found.bytes_in_use, found.snapshots, found.snapshot_failures,
            found.snapshot_lsn, found.snapshot_bytes, found.snapshot_ns, found.consumers,
            found.consumers_cut_off, found.consumer_lag_bytes, found.disk_state,
            found.disk_full_count, found.disk_read_only_count, found.disk_recovered_count,
            found.reserve_segments)

    def snapshot(self, *, object timeout_s=3600):
        """Write the whole store to its directory while it goes on, and trim the log by it.

        The state comes back from the newest snapshot and the log behind it. Two are kept, each read
        back from the disk before it counts, so this frees log up to the one before. It happens by
        itself every ``snapshot_log_bytes`` of log too.

        Args:
            timeout_s: how long to wait, 0 to 86,400; it goes on without the caller after that.

        Returns:
            A Snapshot: its start lsn, its bytes, how long it took.

        Raises:
            Busy: not done in time. DiskFull, IoError, NoMemory: it failed, the store goes on and
            the last snapshot stays. Forbidden (read_only), BadRequest (memory mode, timeout_s),
            StoreClosed, StoreFailed.

        Durability: the snapshot is on disk when this returns.

        >>> with inventory.open(storage=inventory.testing.MemoryStorage()) as shop:
        ...     shop.snapshot().bytes > 4096
        True
        """
        cdef invcore.inv_metrics found
        cdef invcore.inv_error error
        cdef invcore.inv_result code = invcore.INV_BUSY
        cdef int64_t wait_s = 0
        int_of(timeout_s, &wait_s, "timeout_s", SNAPSHOT_WAIT_S_MAX)
        if wait_s < 0 or wait_s > SNAPSHOT_WAIT_S_MAX:
            raise bad_request("timeout_s", wait_s, 0 if wait_s < 0 else SNAPSHOT_WAIT_S_MAX)
        memset(&error, 0, sizeof(error))
        memset(&found, 0, sizeof(found))
        self._handle.usable()
        self._handle.inside += 1
        try:
            with nogil:
                code = invcore.inv_store_snapshot(
                    self._handle.store, <uint32_t>(wait_s * 1000), &error)
            if code == invcore.INV_BUSY and error.code == 0:
                raise _error_for(code)
            if code != invcore.INV_OK:
                raise_for(code, &error)
            invcore.inv_store_metrics(self._handle.store, &found)
            return _Snapshot(found.snapshot_lsn, found.snapshot_bytes, found.snapshot_ns)
        finally:
            self._handle.leave()

    def finalize(self, *, uint32_t timeout_s=60):
        """Put the newest file format that this release knows in force, for good.

        A release that brings a new format goes on writing the one before, so that the release
        before can still open the store: an upgrade can be undone until this is called, and not
        after. Calling it again, or with one format only (as in this release), changes nothing.

        Args:
            timeout_s: how long to wait for the disk.

        Returns:
            The StoreFormat in force: the newest this release knows.

        Raises:
            Busy: not done in time; call again. DiskFull, NoMemory: nothing has changed. Forbidden
            (read_only), BadRequest (memory mode), StoreClosed, StoreFailed.

        Durability: the format is in force on disk when this returns.

        >>> with inventory.open(storage=inventory.testing.MemoryStorage()) as shop:
        ...     print(shop.finalize())
        1.0
        """
        cdef invcore.inv_format found
        cdef invcore.inv_error error
        cdef invcore.inv_result code = invcore.INV_BUSY
        cdef uint64_t left_ms = <uint64_t>timeout_s * 1000
        cdef uint32_t slice_ms
        memset(&error, 0, sizeof(error))
        memset(&found, 0, sizeof(found))
        self._handle.usable()
        self._handle.inside += 1
        try:
            while True:
                slice_ms = <uint32_t>min(left_ms, <uint64_t>WAIT_SLICE_MS)
                with nogil:
                    code = invcore.inv_store_finalize(self._handle.store, slice_ms, &found, &error)
                left_ms -= slice_ms
                if code != invcore.INV_BUSY or left_ms == 0:
                    break
                PyErr_CheckSignals()
            if code != invcore.INV_OK:
                raise_for(code, &error if error.code != 0 else NULL)
            return _StoreFormat(found.major, found.minor, found.features)
        finally:
            self._handle.leave()

    def barrier(self):
        """Wait until all that was answered so far is on disk, in every mode.

        Returns:
            The lsn that is durable now. In memory mode there is no disk, and no wait.

        Raises:
            StoreClosed, StoreFailed.

        Durability: everything up to the lsn returned is on disk.

        >>> inv.barrier() == inv.metrics().lsn_appended
        True
        """
        cdef invcore.inv_metrics found
        self._handle.usable()
        self._handle.inside += 1
        try:
            invcore.inv_store_metrics(self._handle.store, &found)
            self.wait(found.lsn_appended, True)
            return found.lsn_appended
        finally:
            self._handle.leave()


cdef inline int flag_of(object value, str field) except -1:
    if value is True:
        return 1
    if value is False:
        return 0
    raise TypeError(f"{field} must be bool, not {type(value).__name__}")


cdef inline object required(object location):
    if location is None:
        raise TypeError("location must be str, not NoneType")
    return location


cdef int refuse_later_options(
        object mode, object min_qty, object backorder, object split, object backorder_ttl_ms,
        object soft_ttl_ms, object priority, object promised_unix_ms, object locations,
        object strategy, object region, object max_splits, object replaces,
        object wait_ms) except -1:
    """Refuse options of later releases; their defaults, spelled out, are fine."""
    if mode != _ALL_OR_NOTHING:
        refuse_option("mode")
    if min_qty is not None:
        refuse_option("min_qty")
    if backorder is not False:
        refuse_option("backorder")
    if split is not True:
        refuse_option("split")
    if backorder_ttl_ms is not None:
        refuse_option("backorder_ttl_ms")
    if soft_ttl_ms is not None:
        refuse_option("soft_ttl_ms")
    if priority != 0:
        refuse_option("priority")
    if promised_unix_ms is not None:
        refuse_option("promised_unix_ms")
    if locations is not None:
        refuse_option("locations")
    if strategy is not None and strategy != "priority":
        refuse_option("strategy")
    if region is not None:
        refuse_option("region")
    if max_splits is not None:
        refuse_option("max_splits")
    if isinstance(replaces, str) or len(replaces) != 0:
        refuse_option("replaces")
    if wait_ms != 0:
        refuse_option("wait_ms")
    return 0
