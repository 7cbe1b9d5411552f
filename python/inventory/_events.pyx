# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, freethreading_compatible=False
"""Events of an open store as frozen structs, and its consumers. ``inventory.events`` opens them."""

from inventory import errors as _errors
from inventory import models as _models

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport getpid

cimport invcore
from invcore cimport inv_event, inv_text
from inventory._core cimport Handle, Store, raise_for, text_of, uuid_text

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *bytes, Py_ssize_t size, const char *on_error)

cdef enum:
    WAIT_SLICE_MS = 100       # of a wait, between two looks for a signal
    NAMES_KEPT_MAX = 65536    # SKUs a reader remembers the names of, before it begins anew
    LINE_OPS = 12

cdef object _Event = _models.Event
cdef object _EventLine = _models.EventLine
cdef object _ConsumerInfo = _models.ConsumerInfo
cdef object _error_for = _errors.error_for
cdef object _StoreClosed = _errors.StoreClosed
cdef tuple _STATES = (None, *_models.State)   # by inv_state
cdef tuple _CONSUMER_STATES = (None, "live", "cut_off", "damaged")   # by inv_consumer_state
cdef tuple _TYPES = tuple([(<bytes>invcore.inv_event_type_name(i)).decode()
                           for i in range(invcore.INV_EVENT_POLICY_CHANGED + 1)])
cdef tuple _OPS = tuple([(<bytes>invcore.inv_log_op_name(i)).decode() for i in range(LINE_OPS)])

EVENT_TYPES = _TYPES[1:]


cdef inline object text_or(inv_text text, bint is_uuid, object otherwise):
    if text.bytes is NULL:
        return otherwise
    if is_uuid:
        return uuid_text(<const uint8_t *>text.bytes)
    return PyUnicode_DecodeUTF8(text.bytes, text.length, "replace")


# no_gc_clear: freeing needs the environment, which the handle owns. The store would not do to keep
# it: the collector may take its handle from it first.
@cython.no_gc_clear
cdef class EventReader:
    """Reads events of one store from a position on. For one thread at a time; close() for any."""

    cdef Store store
    cdef Handle handle
    cdef invcore.inv_events *events
    cdef dict skus, accounts, sellers, reasons
    cdef str store_id
    cdef uint64_t until_lsn          # events above are not given; UINT64_MAX: none is
    cdef bint busy, closing
    cdef readonly bint ended         # there is nothing more up to until_lsn
    cdef int process                 # memory of a forked child's parent is not touched

    def __cinit__(self):
        self.events = NULL

    def __dealloc__(self):
        self.free()

    cdef int free(self) noexcept:
        if self.events is not NULL and self.process == getpid():
            invcore.inv_events_close(self.events)
        self.events = NULL
        return 0

    def __init__(self, Store store not None, uint64_t after_lsn, object after_index,
                 object consumer, bint follow):
        """consumer: a name, which has its own position; else None."""
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef invcore.inv_metrics metrics
        cdef inv_text name
        cdef uint8_t uuid[16]
        cdef uint32_t index = invcore.INV_EVENT_INDEX_ALL
        if self.events is not NULL:
            raise RuntimeError("an EventReader is opened once")
        self.store = store
        self.handle = store._handle
        self.process = getpid()
        self.skus, self.accounts, self.sellers, self.reasons = {}, {}, {}, {}
        memset(&name, 0, sizeof(name))
        memset(&error, 0, sizeof(error))
        if after_index is not None:
            index = after_index
        if consumer is not None:
            text_of(consumer, &name, "name")
        store._handle.usable()
        store._handle.inside += 1
        try:
            self.until_lsn = <uint64_t>0xFFFFFFFFFFFFFFFF
            if not follow:
                invcore.inv_store_metrics(store._handle.store, &metrics)
                self.until_lsn = metrics.lsn_durable
            with nogil:
                if name.bytes is NULL:
                    code = invcore.inv_events_open(store._handle.store, after_lsn, index,
                                                   &self.events, &error)
                else:
                    code = invcore.inv_events_open_consumer(store._handle.store, name,
                                                            &self.events, &error)
            if code != invcore.INV_OK:
                raise_for(code, &error)
            invcore.inv_store_uuid(store._handle.store, uuid)
            self.store_id = uuid_text(uuid)
        finally:
            store._handle.leave()

    def close(self):
        """End a take() under way in another thread, and free the memory."""
        self.closing = True
        if not self.busy:
            self.free()

    def take(self, Py_ssize_t most, uint64_t timeout_ms):
        """Give the next events, at most so many; wait at most so long until there is one."""
        cdef list found = []
        if self.busy:
            raise RuntimeError("events are for one thread at a time")
        if self.closing or self.ended:
            return found
        self.store._handle.usable()
        self.store._handle.inside += 1
        self.busy = True
        try:
            self.fill(found, most, timeout_ms)
        finally:
            self.busy = False
            if self.closing:
                self.free()
            self.store._handle.leave()
        return found

    cdef int fill(self, list found, Py_ssize_t most, uint64_t timeout_ms) except -1:
        cdef inv_event event
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef invcore.bool more = False, ready = True
        cdef uint32_t slice_ms = 0
        memset(&error, 0, sizeof(error))
        while len(found) < most and not self.closing and not self.ended:
            code = invcore.inv_events_next(self.events, &event, &more, &error)
            if code != invcore.INV_OK:
                if found:          # first what is whole; the next call meets it again
                    return 0
                raise_for(code, &error)
            if more:
                if event.lsn > self.until_lsn:
                    self.ended = True
                else:
                    found.append(self.event_of(&event))
                continue
            if found:
                return 0
            if self.store._handle.closing:
                raise _StoreClosed()
            if invcore.inv_events_lsn(self.events) >= self.until_lsn:
                self.ended = True
                return 0
            if not ready:
                if timeout_ms == 0:
                    return 0
                timeout_ms -= slice_ms
            slice_ms = <uint32_t>min(timeout_ms, <uint64_t>WAIT_SLICE_MS)
            with nogil:
                code = invcore.inv_events_fill(self.events, slice_ms, &ready, &error)
            if code != invcore.INV_OK:
                raise_for(code, &error)
            PyErr_CheckSignals()
        return 0

    cdef object name_of(self, dict known, invcore.inv_name_kind kind, uint32_t number):
        cdef object name = known.get(number)
        if name is None:
            name = self.store.name(kind, number)
            if len(known) >= NAMES_KEPT_MAX:
                known.clear()
            known[number] = name
        return name

    cdef tuple lines_of(self, const inv_event *event):
        cdef list found = []
        cdef uint32_t i
        cdef const invcore.inv_event_line *line
        for i in range(event.line_count):
            line = &event.lines[i]
            found.append(_EventLine(
                self.name_of(self.skus, invcore.INV_NAME_SKU, line.sku),
                self.store.location_name(line.location), line.qty, _OPS[line.op],
                line.on_hand_delta, line.held_delta, line.allocated_delta))
        return tuple(found)

    cdef object event_of(self, const inv_event *event):
        return _Event(
            _TYPES[event.type],
            event.lsn,
            event.index,
            event.now_unix_ms,
            self.name_of(self.sellers, invcore.INV_NAME_SELLER, event.seller),
            self.name_of(self.accounts, invcore.INV_NAME_ACCOUNT, event.account),
            text_or(event.id, event.id_is_uuid, None),
            text_or(event.op_id, event.op_id_is_uuid, None),
            "" if event.reason == invcore.INV_NUMBER_NONE
            else self.name_of(self.reasons, invcore.INV_NAME_REASON, event.reason),
            text_or(event.reference, False, ""),
            _STATES[event.state] if event.state else None,
            event.expires_at_unix_ms if event.expires_at_unix_ms else None,
            event.whole,
            self.lines_of(event),
            self.store_id,
        )


# ---- consumers -----------------------------------------------------------------------------------


def consumer_open(Store store not None, name, uint64_t after_lsn):
    call_consumer(store, name, 0, after_lsn, 0)


def consumer_acknowledge(Store store not None, name, uint64_t lsn, index):
    call_consumer(store, name, 1, lsn,
                  invcore.INV_EVENT_INDEX_ALL if index is None else <uint32_t>index)


def consumer_reset(Store store not None, name, uint64_t after_lsn):
    call_consumer(store, name, 2, after_lsn, 0)


def consumer_remove(Store store not None, name):
    call_consumer(store, name, 3, 0, 0)


cdef int call_consumer(Store store, object name, int what, uint64_t lsn, uint32_t index) except -1:
    cdef inv_text text
    cdef invcore.inv_error error
    cdef invcore.inv_result code
    memset(&text, 0, sizeof(text))
    memset(&error, 0, sizeof(error))
    text_of(name, &text, "name")
    store._handle.usable()
    store._handle.inside += 1
    try:
        with nogil:
            if what == 0:
                code = invcore.inv_store_consumer_open(store._handle.store, text, lsn, &error)
            elif what == 1:
                code = invcore.inv_store_consumer_acknowledge(store._handle.store, text, lsn, index,
                                                              &error)
            elif what == 2:
                code = invcore.inv_store_consumer_reset(store._handle.store, text, lsn, &error)
            else:
                code = invcore.inv_store_consumer_remove(store._handle.store, text, &error)
        if code != invcore.INV_OK:
            raise_for(code, &error)
    finally:
        store._handle.leave()
    return 0


def consumers(Store store not None):
    """All there are, as ConsumerInfo, by name."""
    cdef invcore.inv_consumer_info infos[64]
    cdef uint32_t count, i
    cdef list found = []
    store._handle.usable()
    store._handle.inside += 1
    with nogil:
        count = invcore.inv_store_consumers(store._handle.store, infos)
    store._handle.leave()
    for i in range(count):
        found.append(_ConsumerInfo(
            (<bytes>infos[i].name).decode(), _CONSUMER_STATES[infos[i].state], infos[i].lsn,
            None if infos[i].index == invcore.INV_EVENT_INDEX_ALL else infos[i].index,
            infos[i].lag_bytes))
    return sorted(found, key=lambda info: info.name)
