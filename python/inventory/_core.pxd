# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""What the other compiled modules of the package see of the binding."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cimport invcore
from invcore cimport inv_command, inv_line, inv_reply, inv_reply_line, inv_stock_level, inv_text

cdef int raise_for(invcore.inv_result code, invcore.inv_error *error) except -1
cdef int text_of(object value, inv_text *out, str field, Py_ssize_t line_index=*) except -1
cdef object uuid_text(const uint8_t *bytes)


cdef class Lines:
    cdef inv_line *array
    cdef uint32_t count
    cdef list skus
    cdef list locations

    cdef int fill(self, object lines) except -1


cdef class Memory:
    cdef invcore.inv_memory *memory
    cdef object __weakref__


cdef class Handle:
    cdef invcore.inv_env *env
    cdef invcore.inv_store *store          # NULL: not open, or freed
    cdef Memory memory                     # keeps the disk alive
    cdef uint64_t manual_now_unix_ms
    cdef int64_t manual_wall_offset_ms
    cdef Py_ssize_t inside                 # calls under way; under the GIL
    cdef unsigned long generation
    cdef bint manual
    cdef bint closing                      # new calls are refused
    cdef bint stopped                      # nobody syncs any more: waiting is in vain
    cdef bint finished                     # the last one inside frees the store
    cdef readonly bint read_only

    cdef int usable(self) except -1
    cdef int leave(self) noexcept
    cdef int run_loop(self, int which) except -1
    cdef uint64_t manual_wall_unix_ms(self) noexcept


cdef class Store:
    cdef readonly Handle _handle
    cdef list location_names               # by number, filled as they are met
    cdef inv_reply_line *spare             # a buffer of REPLY_LINES for the next call, or NULL
    cdef uint32_t lines_attached_max       # a command of more is not tried with the GIL held

    cdef int begin(self, inv_reply *reply) except -1
    cdef int end(self, inv_reply *reply) noexcept
    cdef int execute(self, const inv_command *command, inv_reply *reply) except -1
    cdef int execute_detached(self, const inv_command *command, inv_reply *reply) except -1
    cdef int expect_levels(self, uint32_t count) except -1
    cdef int settle(self, uint64_t lsn) except -1
    cdef int wait(self, uint64_t lsn, bint on_disk) except -1
    cdef object name(self, invcore.inv_name_kind kind, uint32_t number)
    cdef object location_name(self, uint16_t number)
    cdef object line_of(self, const inv_reply_line *line, object sku, Lines asked)
    cdef tuple lines_of(self, const inv_reply *reply, object sku, Lines asked)
    cdef object reservation_of(self, const inv_reply *reply, object shown_id, object sku,
        Lines asked)
    cdef object level_of(self, const inv_stock_level *level, object sku, object location)
    cdef tuple short_of(self, const inv_reply *reply, object sku, object location, Lines asked,
        bint over_commit)
    cdef int raise_reply(self, const inv_reply *reply, object shown_id, object sku,
        object location, Lines asked) except -1
    cdef int texts_into(self, inv_command *command, object account, object seller, object reason,
        object reference) except -1
    cdef object id_into(self, object value, inv_text *out, invcore.bool *is_uuid, uint8_t *uuid,
        str field)
    cdef object new_id_into(self, inv_text *out, invcore.bool *is_uuid, uint8_t *uuid)
    cdef object run_reserve(self, inv_command *command, object reservation_id, object ttl_ms,
        bint use_safety_stock, object sku, object location, Lines asked)
    cdef int read_lines(self, const inv_command *command, inv_reply *reply) except -1
    cdef object run_by_id(self, inv_command *command, object reservation_id, object lines,
        object op_id, object account, object seller, object reason, object reference)
    cdef object run_stock(self, inv_command *command, object sku, object location, int64_t qty,
        object op_id, object account, object seller, object reason, object reference)
    cdef int raise_read(self, invcore.inv_result code, object sku, const inv_line *line,
        inv_text owner) except -1
    cdef object availability_of_sku(self, const inv_line *line, inv_text owner, object sku,
        bint wait)
