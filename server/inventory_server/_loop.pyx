# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, freethreading_compatible=False
"""The native loop's handles: libzmq's functions, the server, its loops.

Contexts and sockets are pyzmq's. The functions the loop calls are looked up in the library that
pyzmq has loaded, so that a socket is used by the libzmq that made it, and nothing has to be installed
beside pyzmq. run() and watch() never take the GIL until they end.
"""

from inventory import errors as _errors
from inventory_server import config as _config

from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

cimport invcore
from inventory._core cimport Handle, Store, raise_for

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *path, int flags) noexcept
    void *dlsym(void *library, const char *name) noexcept
    int dlclose(void *library) noexcept
    int RTLD_NOLOAD
    int RTLD_NOW

cdef extern from "serve/inv_serve.h" nogil:
    ctypedef struct inv_zmq:
        pass

    ctypedef struct inv_serve_options:
        const char *version
        uint64_t message_bytes_max
        uint64_t silence_ms_max
        uint32_t requests_in_flight_max
        uint64_t reply_bytes_in_flight_max
        uint32_t busy_retry_ms
        uint32_t stuck_ms_max
        uint32_t stop_ms_max

    ctypedef struct inv_serve_counts:
        uint64_t messages
        uint64_t requests
        uint64_t replies
        uint64_t busy
        uint64_t refused_messages
        uint64_t dropped_gone
        uint64_t dropped_stuck
        uint64_t requests_parked
        uint64_t reply_bytes_parked

    ctypedef struct inv_serve
    ctypedef struct inv_serve_loop

    void inv_serve_options_init(inv_serve_options *options) noexcept
    invcore.inv_result inv_serve_create(invcore.inv_store *store, const inv_zmq *zmq,
                                        const inv_serve_options *options, inv_serve **out_serve,
                                        invcore.inv_error *error) noexcept
    void inv_serve_destroy(inv_serve *serve) noexcept
    invcore.inv_result inv_serve_add_loop(inv_serve *serve, void *socket, int event_fd,
                                          inv_serve_loop **out_loop,
                                          invcore.inv_error *error) noexcept
    invcore.inv_result inv_serve_run(inv_serve_loop *loop) noexcept
    void inv_serve_watch(inv_serve *serve) noexcept
    void inv_serve_stop(inv_serve *serve) noexcept
    void inv_serve_end_watch(inv_serve *serve) noexcept
    void inv_serve_counts_of(const inv_serve_loop *loop, inv_serve_counts *out) noexcept

cdef enum:
    LOOPS_MAX = 16


cdef extern from *:
    """
    #include <dlfcn.h>
    #include <string.h>

    static const char *const inv_zmq_names[10] = {
        "zmq_msg_init", "zmq_msg_init_size", "zmq_msg_recv", "zmq_msg_send", "zmq_msg_close",
        "zmq_msg_data", "zmq_msg_size", "zmq_msg_more", "zmq_poll", "zmq_errno"};

    /* The name that is missing, or NULL. The fields of inv_zmq are functions in this order. */
    static const char *inv_zmq_fill(void *library, inv_zmq *out) {
        _Static_assert(sizeof(inv_zmq) == sizeof inv_zmq_names, "a name for each function");
        for (size_t i = 0; i < 10; i++) {
            void *found = dlsym(library, inv_zmq_names[i]);
            if (found == NULL) return inv_zmq_names[i];
            memcpy((char *)out + i * sizeof found, &found, sizeof found);
        }
        return NULL;
    }

    static int inv_zmq_version(void *library, int *major, int *minor, int *patch) {
        void (*version)(int *, int *, int *);
        void *found = dlsym(library, "zmq_version");
        if (found == NULL) return -1;
        memcpy(&version, &found, sizeof version);
        version(major, minor, patch);
        return 0;
    }
    """
    const char *inv_zmq_fill(void *library, inv_zmq *out) noexcept nogil
    int inv_zmq_version(void *library, int *major, int *minor, int *patch) noexcept nogil


cdef tuple VERSION_LEAST = (4, 3, 4)   # what came before has holes that need no key


cdef object LibzmqError = _config.LibzmqError


cdef class Server:
    """Serves an open store over ROUTER sockets: one loop for each."""

    cdef Handle handle
    cdef inv_zmq zmq
    cdef inv_serve *serve
    cdef inv_serve_loop *loops[LOOPS_MAX]
    cdef int loop_count
    cdef bytes version                     # the options point into it

    def __cinit__(self):
        self.serve = NULL
        self.loop_count = 0

    def __init__(self, Store store not None, str library, *, str version,
                 uint64_t message_bytes_max, uint64_t silence_ms_max,
                 uint32_t requests_in_flight_max, uint64_t reply_bytes_in_flight_max):
        """`library`: a loaded library through which libzmq's symbols are found: pyzmq's own."""
        cdef inv_serve_options options
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        cdef Handle handle = store._handle
        memset(&error, 0, sizeof(error))
        self.find_functions(library)
        self.version = version.encode()
        inv_serve_options_init(&options)
        options.version = self.version
        options.message_bytes_max = message_bytes_max
        options.silence_ms_max = silence_ms_max
        options.requests_in_flight_max = requests_in_flight_max
        options.reply_bytes_in_flight_max = reply_bytes_in_flight_max
        handle.usable()
        code = inv_serve_create(handle.store, &self.zmq, &options, &self.serve, &error)
        if code != invcore.INV_OK:
            raise_for(code, &error)
        self.handle = handle
        handle.inside += 1                 # close() takes it back: until then the store is not freed

    cdef int find_functions(self, str library) except -1:
        cdef void *handle = dlopen(library.encode(), RTLD_NOW | RTLD_NOLOAD)
        cdef const char *missing
        cdef int major = 0, minor = 0, patch = 0
        if handle is NULL:
            raise LibzmqError(f"{library} is not loaded: import zmq first")
        # The handle is not given back: the functions must stay.
        if inv_zmq_version(handle, &major, &minor, &patch) != 0:
            raise LibzmqError("pyzmq's library has no symbol zmq_version; install pyzmq from a wheel")
        if (major, minor, patch) < VERSION_LEAST:
            raise LibzmqError(
                f"libzmq {major}.{minor}.{patch} is too old: a peer without a key can harm it; "
                "4.3.4 or later is needed: pip install --upgrade pyzmq")
        missing = inv_zmq_fill(handle, &self.zmq)
        if missing is not NULL:
            raise LibzmqError(f"libzmq has no symbol {missing.decode()}; install pyzmq from a wheel")
        return 0

    cdef int usable(self) except -1:
        if self.serve is NULL:
            raise _errors.error_for(invcore.INV_STORE_CLOSED)
        return 0

    def add_loop(self, uintptr_t socket, int event_fd):
        """Make a loop over a bound ROUTER socket (`Socket.underlying`); its number."""
        cdef invcore.inv_error error
        cdef invcore.inv_result code
        self.usable()
        memset(&error, 0, sizeof(error))
        code = inv_serve_add_loop(self.serve, <void *>socket, event_fd,
                                  &self.loops[self.loop_count], &error)
        if code != invcore.INV_OK:
            raise_for(code, &error)
        self.loop_count += 1
        return self.loop_count - 1

    def run(self, int loop):
        """Serve until stop(); the result code: 0 all is answered, 61 the store has failed."""
        cdef invcore.inv_result code
        self.usable()
        with nogil:
            code = inv_serve_run(self.loops[loop])
        return <int>code

    def watch(self):
        """Watch the disk until end_watch()."""
        self.usable()
        with nogil:
            inv_serve_watch(self.serve)

    def stop(self):
        """Answer STORE_CLOSED from now on; let loops end when what is under way is answered."""
        if self.serve is not NULL:
            inv_serve_stop(self.serve)

    def end_watch(self):
        if self.serve is not NULL:
            inv_serve_end_watch(self.serve)

    def counts(self, int loop):
        """Counters of a loop, by name."""
        cdef inv_serve_counts found
        self.usable()
        inv_serve_counts_of(self.loops[loop], &found)
        return {
            "messages": found.messages, "requests": found.requests, "replies": found.replies,
            "busy": found.busy, "refused_messages": found.refused_messages,
            "dropped_gone": found.dropped_gone, "dropped_stuck": found.dropped_stuck,
            "requests_parked": found.requests_parked,
            "reply_bytes_parked": found.reply_bytes_parked,
        }

    def close(self):
        """Free everything; all threads have come back."""
        if self.serve is not NULL:
            inv_serve_destroy(self.serve)
            self.serve = NULL
            self.handle.leave()
