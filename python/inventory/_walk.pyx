# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, freethreading_compatible=False
"""Walks of an open store into numpy columns, and the log of a closed one as frozen structs.

``inventory.export`` makes the columns and gives them their names; ``inventory.log`` opens logs.
"""

from inventory import errors as _errors
from inventory import models as _models

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

cimport invcore
from invcore cimport inv_text, inv_walk, inv_walk_holds, inv_walk_rows
from inventory._core cimport Store, raise_for, uuid_text

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *bytes, Py_ssize_t size, const char *on_error)

cdef object _error_for = _errors.error_for
cdef object _LogCorrupt = _errors.LogCorrupt
cdef object _LogEntry = _models.LogEntry
cdef object _LogLine = _models.LogLine
cdef object _LogRecord = _models.LogRecord
cdef object _LogTail = _models.LogTail
cdef object _FsckItem = _models.FsckItem
cdef object _FsckReport = _models.FsckReport
cdef object _StoreFormat = _models.StoreFormat
cdef tuple _STATES = (None, *_models.State)   # by inv_state


cdef inline object text_of_id(inv_text text, bint is_uuid):
    if text.bytes is NULL:
        return None
    if is_uuid:
        return uuid_text(<const uint8_t *>text.bytes)
    return PyUnicode_DecodeUTF8(text.bytes, text.length, NULL)


# ---- walks ---------------------------------------------------------------------------------------


cdef class Walk:
    """Where a walk of one store stands. For one thread at a time, and for one kind of walk."""

    cdef Store store
    cdef inv_walk walk

    def __init__(self, Store store not None):
        self.store = store

    @property
    def done(self):
        """Whether everything has been given."""
        return self.walk.done

    @property
    def progress(self):
        """How much of the store has been walked, 0.0 to 1.0."""
        return self.walk.stripe / self.walk.stripe_count if self.walk.stripe_count else 0.0

    def rows(self, uint32_t[::1] sku not None, uint16_t[::1] location not None,
             uint16_t[::1] seller not None, int64_t[:, ::1] figures not None,
             uint64_t[::1] lsn not None):
        """Fill columns of one length, figures [8, n]; return how many rows. 0: the walk is done."""
        cdef inv_walk_rows out
        cdef invcore.inv_result code = invcore.INV_OK
        cdef Py_ssize_t n = sku.shape[0]
        if (n < 1 or location.shape[0] != n or seller.shape[0] != n or lsn.shape[0] != n
                or figures.shape[0] != 8 or figures.shape[1] != n):
            raise ValueError("columns must be of one length, 1 or more")
        memset(&out, 0, sizeof(out))
        out.room_count = <uint32_t>n
        out.sku = &sku[0]
        out.location = &location[0]
        out.seller = &seller[0]
        out.on_hand = &figures[0, 0]
        out.held = &figures[1, 0]
        out.allocated = &figures[2, 0]
        out.reserved = &figures[3, 0]
        out.available = &figures[4, 0]
        out.available_to_promise = &figures[5, 0]
        out.safety_stock = &figures[6, 0]
        out.short_qty = &figures[7, 0]
        out.lsn = &lsn[0]
        self.store._handle.usable()
        self.store._handle.inside += 1
        try:
            while code == invcore.INV_OK and out.count == 0 and not self.walk.done:
                with nogil:
                    code = invcore.inv_store_walk_rows(self.store._handle.store, &self.walk, &out)
                PyErr_CheckSignals()
            return self.end(code, out.count, out.room_needed, n)
        finally:
            self.store._handle.leave()

    def reservations(self, bint ended, uint8_t[:, ::1] reservation_id not None,
                     uint8_t[:, ::1] small not None, uint16_t[:, ::1] short not None,
                     uint32_t[:, ::1] numbers not None, uint64_t[:, ::1] times not None,
                     int64_t[:, ::1] figures not None):
        """As rows, a line each: reservation_id [n, 64]; small [3, n]: id length, whether it is a
        UUID, state; short [4, n]: seller, line index, line count, location; numbers [2, n]:
        account, SKU; times [3, n]: deadline, end, lsn; figures [5, n]: units, qty, held,
        allocated, shipped."""
        cdef inv_walk_holds out
        cdef invcore.inv_result code = invcore.INV_OK
        cdef Py_ssize_t n = reservation_id.shape[0]
        if (n < 1 or reservation_id.shape[1] != invcore.INV_ID_BYTES_MAX
                or small.shape[0] != 3 or small.shape[1] != n
                or short.shape[0] != 4 or short.shape[1] != n
                or numbers.shape[0] != 2 or numbers.shape[1] != n
                or times.shape[0] != 3 or times.shape[1] != n
                or figures.shape[0] != 5 or figures.shape[1] != n):
            raise ValueError("columns must be of one length, 1 or more")
        memset(&out, 0, sizeof(out))
        out.room_count = <uint32_t>n
        out.id = <uint8_t (*)[64]>&reservation_id[0, 0]
        out.id_length = &small[0, 0]
        out.id_is_uuid = &small[1, 0]
        out.state = &small[2, 0]
        out.seller = &short[0, 0]
        out.line_index = &short[1, 0]
        out.line_count = &short[2, 0]
        out.location = &short[3, 0]
        out.account = &numbers[0, 0]
        out.sku = &numbers[1, 0]
        out.expires_at_unix_ms = &times[0, 0]
        out.ended_at_unix_ms = &times[1, 0]
        out.lsn = &times[2, 0]
        out.units = &figures[0, 0]
        out.qty = &figures[1, 0]
        out.held = &figures[2, 0]
        out.allocated = &figures[3, 0]
        out.shipped = &figures[4, 0]
        self.store._handle.usable()
        self.store._handle.inside += 1
        try:
            while code == invcore.INV_OK and out.count == 0 and not self.walk.done:
                with nogil:
                    code = invcore.inv_store_walk_reservations(
                        self.store._handle.store, &self.walk, ended, &out)
                PyErr_CheckSignals()
            return self.end(code, out.count, out.room_needed, n)
        finally:
            self.store._handle.leave()

    cdef object end(self, invcore.inv_result code, uint32_t count, uint32_t room_needed,
                    Py_ssize_t n):
        """Wait until what was given is safe to show."""
        if code == invcore.INV_LIMIT_EXCEEDED:
            raise _error_for(
                code, f"chunk_rows is {n:,}, but there are {room_needed:,} rows that come in one "
                "piece; make chunk_rows at least that", field="chunk_rows", figure=room_needed,
                limit=n)
        if code != invcore.INV_OK:
            raise_for(code, NULL)
        self.store.settle(self.walk.lsn)
        return count

    def names(self, invcore.inv_name_kind kind, const uint32_t[::1] numbers not None):
        """The texts of numbers that a walk gave, as a list of str."""
        cdef list found = []
        cdef Py_ssize_t i
        self.store._handle.usable()
        self.store._handle.inside += 1
        try:
            for i in range(numbers.shape[0]):
                found.append(self.store.name(kind, numbers[i]))
            return found
        finally:
            self.store._handle.leave()


def reservation_ids(const uint8_t[:, ::1] reservation_id not None,
                    const uint8_t[:, ::1] small not None, Py_ssize_t count):
    """The ids of the first `count` places as a list of str; lines of one share theirs."""
    cdef list found = []
    cdef Py_ssize_t i
    cdef inv_text text
    for i in range(count):
        text.bytes = <const char *>&reservation_id[i, 0]
        text.length = small[0, i]
        found.append(text_of_id(text, small[1, i]))
    return found


# ---- the log -------------------------------------------------------------------------------------


cdef class LogReader:
    """Reads the log of a closed store; knows each name once its NAME entry was read."""

    cdef invcore.inv_env *env
    cdef invcore.inv_log *log
    cdef dict skus                          # by number: places in a stripe leave gaps
    cdef dict references                    # of the record at hand: used once, right where named
    cdef list locations, sellers, accounts, reasons
    cdef object ended                       # a LogTail once there are no more records

    def __cinit__(self):
        self.env = NULL
        self.log = NULL

    def __dealloc__(self):
        self.free()

    cdef int free(self) noexcept:
        invcore.inv_log_close(self.log)
        self.log = NULL
        if self.env is not NULL:
            invcore.inv_env_destroy(self.env)
        self.env = NULL
        return 0

    def __init__(self, bytes path not None):
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef const char *directory = path
        if self.env is not NULL:
            raise RuntimeError("a LogReader opens one log, once")
        self.skus, self.references = {}, {}
        self.locations, self.reasons = [], []
        self.sellers, self.accounts = ["default"], [""]
        memset(&error, 0, sizeof(error))
        self.env = invcore.inv_env_create()
        if self.env is NULL:
            raise _error_for(invcore.INV_NO_MEMORY)
        with nogil:
            code = invcore.inv_env_use_directory(self.env, directory, True, &error)
            if code == invcore.INV_OK:
                code = invcore.inv_log_open(self.env, &self.log, &error)
        if code != invcore.INV_OK:
            raise_for(code, &error)
        self.learn_forgotten()

    cdef int learn_forgotten(self) except -1:
        """Learn the names that a trimmed log does not tell any more."""
        cdef invcore.inv_log_name name
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef invcore.bool more = True
        cdef uint32_t count = 0
        while more:
            memset(&error, 0, sizeof(error))
            code = invcore.inv_log_next_name(self.log, &name, &more, &error)
            if code != invcore.INV_OK:
                raise_for(code, &error)
            if more:
                self.learn(name.kind, name.number, name.text)
            count += 1
            if count % 65536 == 0:
                PyErr_CheckSignals()
        return 0

    def close(self):
        """Free the reader's memory; there are no more records then."""
        self.free()

    @property
    def tail(self):
        """How the log ended: a LogTail, None as long as there may be more records."""
        return self.ended

    def next(self, uint64_t after_lsn):
        """The next LogRecord with changes that ends after that lsn; None: there are no more."""
        cdef invcore.inv_log_record record
        cdef invcore.inv_log_tail tail
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef invcore.bool more = True
        cdef tuple entries
        while self.log is not NULL and self.ended is None:
            memset(&error, 0, sizeof(error))
            with nogil:
                code = invcore.inv_log_next(self.log, &record, &more, &error)
            if code != invcore.INV_OK:
                raise_for(code, &error)
            if not more:
                invcore.inv_log_tail_of(self.log, &tail)
                self.ended = _LogTail(tail.lsn_end, tail.durable, tail.torn_bytes,
                                      tail.torn_records, tail.skipped_records)
                break
            PyErr_CheckSignals()
            if record.kind != invcore.INV_LOG_CHANGES:
                continue
            self.references.clear()
            entries = self.entries(&record, record.lsn_end > after_lsn)
            if record.lsn_end > after_lsn:
                return _LogRecord(record.lsn, record.lsn_end, record.now_unix_ms, record.epoch,
                                  record.segment, record.offset, entries)
        return None

    cdef tuple entries(self, const invcore.inv_log_record *record, bint wanted):
        """The record's entries; when they are not wanted, only the names in them are learned."""
        cdef invcore.inv_log_entry entry
        cdef invcore.inv_error error
        cdef invcore.bool more = True
        cdef list found = []
        while True:
            memset(&error, 0, sizeof(error))
            code = invcore.inv_log_next_entry(self.log, &entry, &more, &error)
            if code != invcore.INV_OK:
                raise_for(code, &error)
            if not more:
                return tuple(found)
            if entry.name_kind:
                self.learn(entry.name_kind, entry.number, entry.name)
            if wanted:
                found.append(self.entry(record, &entry))

    cdef int learn(self, uint8_t kind, uint32_t number, invcore.inv_text name) except -1:
        cdef object text = PyUnicode_DecodeUTF8(name.bytes, name.length, "replace")
        cdef list texts
        if kind == invcore.INV_NAME_SKU:
            self.skus[number] = text
            return 0
        if kind == invcore.INV_NAME_REFERENCE:
            self.references[number] = text
            return 0
        if kind == invcore.INV_NAME_LOCATION:
            texts = self.locations
        elif kind == invcore.INV_NAME_SELLER:
            texts = self.sellers
        elif kind == invcore.INV_NAME_ACCOUNT:
            texts = self.accounts
        else:
            texts = self.reasons
        if number == <uint32_t>len(texts):  # given out in order; a snapshot may have told it
            texts.append(text)
        return 0

    cdef object entry(self, const invcore.inv_log_record *record,
                      const invcore.inv_log_entry *entry):
        cdef object name = None, number = None, name_kind = None
        cdef uint32_t i
        cdef list lines = []
        try:
            if entry.name_kind:
                name_kind = _NAME_KINDS[entry.name_kind]
                number = entry.number
                name = PyUnicode_DecodeUTF8(entry.name.bytes, entry.name.length, "replace")
            for i in range(entry.line_count):
                lines.append(_LogLine(
                    self.skus[entry.lines[i].sku],
                    None if entry.lines[i].location == invcore.INV_LOCATION_NONE
                    else self.locations[entry.lines[i].location],
                    entry.lines[i].qty,
                    (<bytes>invcore.inv_log_op_name(entry.lines[i].op)).decode(),
                    entry.lines[i].free))
            return _LogEntry(
                (<bytes>invcore.inv_log_entry_name(entry.kind)).decode(),
                entry.lsn_end,
                text_of_id(entry.id, entry.id_is_uuid),
                text_of_id(entry.op_id, entry.op_id_is_uuid),
                _STATES[entry.state] if entry.state else None,
                tuple(lines),
                entry.expires_at_unix_ms if entry.expires_at_unix_ms else None,
                entry.whole,
                self.sellers[entry.seller],
                self.accounts[entry.account],
                "" if entry.reason == invcore.INV_NUMBER_NONE else self.reasons[entry.reason],
                "" if entry.reference == invcore.INV_NUMBER_NONE
                else self.references[entry.reference],
                name_kind, name, number,
                entry.wall_unix_ms if entry.wall_unix_ms else None,
                _StoreFormat(entry.format.major, entry.format.minor, entry.format.features)
                if entry.format.major else None)
        except (LookupError, UnicodeDecodeError) as error:
            raise _LogCorrupt(
                f"segment {record.segment} offset {record.offset}: record at lsn {record.lsn}: an "
                "entry uses a number or text that is none", segment=record.segment,
                offset=record.offset, lsn=record.lsn, lsn_end=record.lsn_end) from error


# ---- files of a closed store ----------------------------------------------------------------------

cdef tuple _FSCK_KINDS = (None, "state", "snapshot", "segment")


cdef invcore.bool note_item(void *argument, const invcore.inv_fsck_item *item) noexcept with gil:
    try:
        PyErr_CheckSignals()
        (<list>argument).append(_FsckItem(
            _FSCK_KINDS[item.kind], (<bytes>item.name).decode(), item.ok,
            (<bytes>item.problem).decode("utf-8", "replace"), item.bytes, item.lsn, item.lsn_end,
            item.records, item.epoch))
        return True
    except BaseException as error:  # given on by fsck_files
        (<list>argument).append(error)
        return False


def fsck_files(bytes path not None):
    """Look at the files of a closed store; a FsckReport."""
    cdef invcore.inv_env *env = invcore.inv_env_create()
    cdef invcore.inv_fsck_report found
    cdef invcore.inv_error error
    cdef invcore.inv_result code
    cdef const char *directory = path
    cdef list items = []
    cdef void *argument = <void *>items
    if env is NULL:
        raise _error_for(invcore.INV_NO_MEMORY)
    memset(&error, 0, sizeof(error))
    memset(&found, 0, sizeof(found))
    with nogil:
        code = invcore.inv_env_use_directory(env, directory, True, &error)
        if code == invcore.INV_OK:
            code = invcore.inv_fsck(env, note_item, argument, &found, &error)
        invcore.inv_env_destroy(env)
    if code == invcore.INV_BUSY:  # stopped by note_item
        raise items.pop()
    if code != invcore.INV_OK:
        raise_for(code, &error)
    return _FsckReport(
        found.ok, (<bytes>found.problem).decode("utf-8", "replace"), found.lsn_end, found.durable,
        found.torn_bytes, found.torn_records, found.snapshot_lsn, found.snapshots,
        found.snapshots_damaged, found.segments, found.segments_damaged, found.segments_void,
        found.accept_loss_lsn, tuple(items))


cdef tuple _NAME_KINDS = (None, "sku", "location", "seller", "account", "reason", "reference")
