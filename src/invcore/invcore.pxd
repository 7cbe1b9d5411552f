# SPDX-License-Identifier: Apache-2.0
#
# invcore.pxd: the only Cython view of the C core. Mirrors invcore.h, in its order; structs by the
# fields the binding reads. Every function is nogil and noexcept: an error is an inv_result.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>" nogil:
    ctypedef bint bool "_Bool"

cdef extern from "invcore.h" nogil:
    # ---- limits
    enum:
        INV_SKU_BYTES_MAX
        INV_LOCATION_BYTES_MAX
        INV_SELLER_BYTES_MAX
        INV_ACCOUNT_BYTES_MAX
        INV_ID_BYTES_MAX
        INV_REASON_BYTES_MAX
        INV_REFERENCE_BYTES_MAX
        INV_LOCATION_COUNT_MAX
        INV_SELLER_COUNT_MAX
        INV_QTY_MAX
        INV_LINE_COUNT_MAX
        INV_ALTERNATIVE_COUNT_MAX
        INV_LOCATION_NONE
    uint64_t INV_TTL_MS_MAX
    uint32_t INV_NUMBER_NONE

    # ---- result codes
    ctypedef enum inv_result:
        INV_OK
        INV_REPLAYED
        INV_INSUFFICIENT
        INV_EXPIRED
        INV_ALREADY_COMMITTED
        INV_ALREADY_RELEASED
        INV_ALREADY_CANCELLED
        INV_ALREADY_SHIPPED
        INV_CLOSED
        INV_CAS_FAILED
        INV_AS_OF_UNKNOWN
        INV_PREEMPTED
        INV_UNKNOWN_RESERVATION
        INV_UNKNOWN_SKU
        INV_UNKNOWN_LOCATION
        INV_EVENTS_TRIMMED
        INV_BAD_REQUEST
        INV_IDEMPOTENCY_MISMATCH
        INV_OVER_COMMIT
        INV_QTY_OUT_OF_RANGE
        INV_LIMIT_EXCEEDED
        INV_STALE_ID
        INV_UNAUTHENTICATED
        INV_FORBIDDEN
        INV_RATE_LIMITED
        INV_BUSY
        INV_LAGGING
        INV_NOT_LEADER
        INV_DISK_FULL
        INV_NO_MEMORY
        INV_STORE_CLOSED
        INV_STORE_FAILED
        INV_LOG_CORRUPT
        INV_STORE_LOCKED
        INV_FORMAT_UNKNOWN
        INV_IO_ERROR

    const char *inv_result_name(int code) noexcept

    ctypedef struct inv_error:
        int code
        int os_errno
        uint64_t lsn
        uint64_t lsn_end
        uint64_t segment
        uint64_t offset
        char message[256]

    ctypedef struct inv_text:
        const char *bytes
        uint32_t length

    # ---- environment
    ctypedef struct inv_env:
        pass
    ctypedef struct inv_memory:
        pass

    inv_env *inv_env_create() noexcept
    void inv_env_destroy(inv_env *env) noexcept
    inv_result inv_env_use_directory(inv_env *env, const char *path, bool read_only,
                                     inv_error *error) noexcept
    void inv_env_use_memory(inv_env *env, inv_memory *memory) noexcept
    void inv_env_use_manual_clock(inv_env *env, uint64_t start_unix_ms) noexcept
    void inv_env_set_clock(inv_env *env, uint64_t now_unix_ms) noexcept
    void inv_env_set_wall_offset(inv_env *env, int64_t wall_offset_ms) noexcept

    inv_memory *inv_memory_create() noexcept
    void inv_memory_destroy(inv_memory *memory) noexcept
    void inv_memory_power_cut(inv_memory *memory, uint64_t seed) noexcept
    void inv_memory_set_capacity(inv_memory *memory, uint64_t bytes) noexcept

    # ---- opening
    ctypedef struct inv_store:
        pass

    ctypedef enum inv_durability:
        INV_DURABLE
        INV_INTERVAL
        INV_MEMORY

    ctypedef struct inv_options:
        inv_durability durability
        uint32_t interval_ms
        uint64_t segment_bytes
        uint64_t id_retention_ms
        uint64_t ended_ids_max
        uint64_t default_ttl_ms
        uint64_t restart_grace_ms
        uint64_t downtime_ms_max
        bool clock_slew
        uint32_t stripe_bits
        uint32_t segments_ahead_max
        uint64_t snapshot_log_bytes
        uint64_t consumer_log_bytes_max
        bool read_only
        uint64_t upto_lsn
        uint64_t accept_loss_lsn

    void inv_options_init(inv_options *options) noexcept

    ctypedef struct inv_format:
        uint16_t major
        uint16_t minor
        uint64_t features

    ctypedef struct inv_recovery:
        uint64_t records_replayed
        uint64_t records_skipped
        uint64_t entries_replayed
        uint64_t digests_checked
        uint64_t lsn_first
        uint64_t lsn_end
        uint64_t torn_bytes_dropped
        uint64_t torn_records_dropped
        uint64_t relogged_bytes
        uint64_t durable_proven
        uint64_t epoch
        uint64_t segments_read
        uint64_t snapshot_lsn
        uint64_t snapshot_end_lsn
        uint64_t snapshot_bytes
        uint64_t snapshots_damaged
        uint64_t loss_lsn_end
        uint64_t downtime_ms
        int64_t wall_difference_ms
        bool clock_alarm
        uint64_t duration_ns
        inv_format format
        bool created
        bool clean_shutdown

    inv_result inv_store_open(inv_env *env, const inv_options *options, inv_store **out_store,
                              inv_error *error) noexcept
    inv_result inv_store_close(inv_store *store, inv_error *error) noexcept
    void inv_store_destroy(inv_store *store) noexcept
    void inv_store_recovery(const inv_store *store, inv_recovery *out) noexcept
    void inv_store_failure(inv_store *store, inv_error *out) noexcept

    # ---- the loops
    void inv_store_run_flusher(inv_store *store) noexcept
    void inv_store_run_timekeeper(inv_store *store) noexcept
    void inv_store_run_housekeeper(inv_store *store) noexcept
    void inv_store_stop(inv_store *store) noexcept

    inv_result inv_store_flush(inv_store *store) noexcept
    inv_result inv_store_advance(inv_store *store, uint32_t expire_count_max,
                                 bool *out_more) noexcept
    inv_result inv_store_prepare(inv_store *store, bool *out_more) noexcept
    inv_result inv_store_snapshot(inv_store *store, uint32_t timeout_ms,
                                  inv_error *error) noexcept
    inv_result inv_store_finalize(inv_store *store, uint32_t timeout_ms, inv_format *out_format,
                                  inv_error *error) noexcept

    # ---- changes
    ctypedef enum inv_command_kind:
        INV_CMD_RESERVE
        INV_CMD_COMMIT
        INV_CMD_SHIP
        INV_CMD_RELEASE
        INV_CMD_CANCEL
        INV_CMD_EXTEND
        INV_CMD_RECEIVE
        INV_CMD_ISSUE
        INV_CMD_ADJUST
        INV_CMD_SET_ON_HAND
        INV_CMD_SET_POLICY

    ctypedef struct inv_line:
        inv_text sku
        inv_text location
        uint32_t sku_number
        uint16_t location_number
        int64_t qty

    ctypedef struct inv_command:
        uint8_t kind
        bool partial
        bool keep_rest
        bool rehold
        bool shorten
        bool tombstone
        bool strict
        bool use_safety_stock
        bool id_is_uuid
        bool op_id_is_uuid
        inv_text seller
        inv_text account
        inv_text id
        inv_text op_id
        inv_text reason
        inv_text reference
        const inv_line *lines
        uint32_t line_count
        uint64_t ttl_ms
        int64_t if_on_hand
        int64_t safety_stock

    ctypedef enum inv_state:
        INV_STATE_NONE
        INV_STATE_HELD
        INV_STATE_BACKORDERED
        INV_STATE_ALLOCATED
        INV_STATE_SHIPPED
        INV_STATE_RELEASED
        INV_STATE_CANCELLED
        INV_STATE_EXPIRED
        INV_STATE_CANCELLED_SHORT
        INV_STATE_PREEMPTED

    ctypedef struct inv_reply_line:
        uint32_t sku
        uint16_t location
        uint8_t closed
        uint8_t alternative_count
        uint32_t line_index
        uint32_t qty
        uint32_t held
        uint32_t allocated
        uint32_t shipped
        uint32_t backordered
        int64_t available_to_promise
        uint16_t alternatives[8]

    ctypedef struct inv_stock_level:
        uint32_t sku
        uint16_t location
        bool known
        int64_t on_hand
        int64_t held
        int64_t allocated
        int64_t reserved
        int64_t unsellable
        int64_t available
        int64_t available_to_promise
        int64_t safety_stock
        int64_t short_qty
        int64_t backordered
        int64_t incoming
        uint64_t lsn
        uint64_t now_unix_ms

    enum:
        INV_FIELD_LINES
        INV_FIELD_ACCOUNT
        INV_FIELD_TTL_MS
        INV_FIELD_BODY
        INV_FIELD_KIND

    ctypedef struct inv_reply:
        int code
        uint8_t state
        bool reheld
        uint64_t lsn
        uint64_t observed_lsn
        uint64_t now_unix_ms
        uint64_t expires_at_unix_ms
        uint64_t ended_at_unix_ms
        uint64_t units
        uint64_t retry_after_ms
        const char *field
        int64_t figure
        int64_t limit
        uint32_t mismatch
        uint32_t line_index
        inv_stock_level level
        uint32_t line_count
        uint32_t lines_max
        inv_reply_line *lines

    inv_result inv_store_execute(inv_store *store, const inv_command *commands, size_t count,
                                 inv_reply *replies) noexcept
    inv_result inv_store_try_execute(inv_store *store, const inv_command *commands, size_t count,
                                     inv_reply *replies) noexcept

    ctypedef struct inv_batch:
        uint8_t kind
        size_t count
        inv_text seller
        inv_text account
        inv_text reason
        const uint32_t *skus
        const uint16_t *locations
        const int64_t *qtys
        const uint8_t *ids
        const uint32_t *ttls_ms
        uint64_t ttl_ms

    inv_result inv_store_execute_batch(inv_store *store, const inv_batch *batch, uint8_t *out_codes,
                                       uint64_t *out_observed_lsn, inv_error *error) noexcept
    inv_result inv_store_try_execute_batch(inv_store *store, const inv_batch *batch,
                                           uint8_t *out_codes, uint64_t *out_observed_lsn,
                                           inv_error *error) noexcept

    ctypedef struct inv_batch_level:
        int64_t on_hand
        int64_t held
        int64_t allocated
        int64_t available_to_promise
        int64_t safety_stock
        uint8_t known
        uint8_t pad[7]

    inv_result inv_store_availability_batch(inv_store *store, const uint32_t *skus,
                                            const uint16_t *locations, size_t count,
                                            inv_batch_level *out_levels,
                                            uint64_t *out_observed_lsn) noexcept

    inv_result inv_store_wait(inv_store *store, uint64_t lsn, uint32_t timeout_ms) noexcept
    inv_result inv_store_barrier(inv_store *store, uint64_t lsn, uint32_t timeout_ms) noexcept

    # ---- reads
    inv_result inv_store_availability(inv_store *store, inv_text seller, const inv_line *line,
                                      inv_stock_level *out) noexcept
    inv_result inv_store_availability_sku(inv_store *store, inv_text seller, const inv_line *line,
                                          inv_stock_level *levels, uint32_t levels_max,
                                          uint32_t *out_count,
                                          inv_stock_level *out_total) noexcept
    inv_result inv_store_reservation(inv_store *store, inv_text seller, inv_text id,
                                     bool id_is_uuid, inv_reply *out) noexcept

    ctypedef enum inv_name_kind:
        INV_NAME_SKU
        INV_NAME_LOCATION
        INV_NAME_SELLER
        INV_NAME_ACCOUNT
        INV_NAME_REASON
        INV_NAME_REFERENCE

    inv_result inv_store_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                                 const inv_text *names, size_t count, bool create,
                                 uint32_t *out_numbers, uint64_t *out_lsn,
                                 size_t *out_bad_index) noexcept
    inv_result inv_store_try_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                                     const inv_text *names, size_t count, bool create,
                                     uint32_t *out_numbers, uint64_t *out_lsn,
                                     size_t *out_bad_index) noexcept
    bool inv_store_name(inv_store *store, inv_name_kind kind, uint32_t number, char *out_bytes,
                        uint32_t *out_length) noexcept

    # ---- proof and figures
    ctypedef struct inv_check_report:
        bool ok
        uint64_t skus
        uint64_t rows
        uint64_t holds
        uint64_t ended
        uint64_t timers
        uint64_t problem_count
        uint64_t lsn
        int64_t on_hand
        int64_t held
        int64_t allocated
        char problem[256]

    inv_result inv_store_check(inv_store *store, inv_check_report *out) noexcept

    ctypedef struct inv_metrics:
        uint64_t lsn_appended
        uint64_t lsn_durable
        uint64_t commands
        uint64_t records
        uint64_t groups
        uint64_t syncs
        uint64_t sync_ns_total
        uint64_t sync_ns_max
        uint64_t reserved_ok
        uint64_t refused
        uint64_t replayed
        uint64_t expired
        uint64_t ended_ids
        uint64_t live_holds
        uint64_t now_unix_ms
        uint64_t lag_ms
        uint64_t id_window_ms
        int64_t clock_drift_ms
        uint64_t clock_alarms
        uint64_t clock_slewed_ms
        int64_t wall_offset_ms
        uint64_t segments_ready
        uint64_t segment_waits
        uint64_t probe_max
        uint64_t bytes_in_use
        uint64_t snapshots
        uint64_t snapshot_failures
        uint64_t snapshot_lsn
        uint64_t snapshot_bytes
        uint64_t snapshot_ns
        uint64_t consumers
        uint64_t consumers_cut_off
        uint64_t consumer_lag_bytes
        uint64_t disk_state
        uint64_t disk_full_count
        uint64_t disk_read_only_count
        uint64_t disk_recovered_count
        uint64_t reserve_segments

    void inv_store_metrics(inv_store *store, inv_metrics *out) noexcept

    # ---- walks
    enum:
        INV_WALK_STEP
        INV_SKU_ROW_COUNT_MAX

    ctypedef struct inv_walk:
        uint64_t lsn
        bool done
        uint32_t stripe
        uint32_t stripe_count
        uint32_t place
        uint32_t slot
        uint32_t chunk_drops
        uint64_t chunk_number

    ctypedef struct inv_walk_rows:
        uint32_t room_count
        uint32_t count
        uint32_t room_needed
        uint32_t *sku
        uint16_t *location
        uint16_t *seller
        int64_t *on_hand
        int64_t *held
        int64_t *allocated
        int64_t *reserved
        int64_t *available
        int64_t *available_to_promise
        int64_t *safety_stock
        int64_t *short_qty
        uint64_t *lsn

    inv_result inv_store_walk_rows(inv_store *store, inv_walk *walk, inv_walk_rows *out) noexcept

    ctypedef struct inv_walk_holds:
        uint32_t room_count
        uint32_t count
        uint32_t room_needed
        uint8_t (*id)[64]
        uint8_t *id_length
        uint8_t *id_is_uuid
        uint8_t *state
        uint16_t *seller
        uint32_t *account
        uint64_t *expires_at_unix_ms
        uint64_t *ended_at_unix_ms
        uint64_t *lsn
        int64_t *units
        uint16_t *line_index
        uint16_t *line_count
        uint32_t *sku
        uint16_t *location
        int64_t *qty
        int64_t *held
        int64_t *allocated
        int64_t *shipped

    inv_result inv_store_walk_reservations(inv_store *store, inv_walk *walk, bool ended,
                                           inv_walk_holds *out) noexcept

    # ---- events
    ctypedef struct inv_events:
        pass

    ctypedef enum inv_event_type:
        INV_EVENT_RESERVATION_HELD
        INV_EVENT_POLICY_CHANGED

    enum:
        INV_EVENT_INDEX_ALL
        INV_CONSUMER_COUNT_MAX

    ctypedef struct inv_event_line:
        uint32_t sku
        uint32_t qty
        uint16_t location
        uint8_t op
        int64_t on_hand_delta
        int64_t held_delta
        int64_t allocated_delta

    ctypedef struct inv_event:
        uint8_t type
        uint8_t state
        bool whole
        bool id_is_uuid
        bool op_id_is_uuid
        uint16_t seller
        uint32_t account
        uint32_t reason
        uint32_t index
        uint64_t lsn
        uint64_t now_unix_ms
        uint64_t expires_at_unix_ms
        inv_text id
        inv_text op_id
        inv_text reference
        uint32_t line_count
        const inv_event_line *lines

    inv_result inv_events_open(inv_store *store, uint64_t after_lsn, uint32_t after_index,
                               inv_events **out_events, inv_error *error) noexcept
    void inv_events_close(inv_events *events) noexcept
    inv_result inv_events_next(inv_events *events, inv_event *out, bool *out_more,
                               inv_error *error) noexcept
    inv_result inv_events_fill(inv_events *events, uint32_t timeout_ms, bool *out_ready,
                               inv_error *error) noexcept
    uint64_t inv_events_lsn(const inv_events *events) noexcept
    const char *inv_event_type_name(uint8_t type) noexcept
    void inv_store_uuid(const inv_store *store, uint8_t out_uuid[16]) noexcept

    # ---- consumers
    ctypedef enum inv_consumer_state:
        INV_CONSUMER_NONE
        INV_CONSUMER_LIVE
        INV_CONSUMER_CUT_OFF
        INV_CONSUMER_DAMAGED

    ctypedef struct inv_consumer_info:
        uint8_t state
        char name[33]
        uint64_t lsn
        uint32_t index
        uint64_t lag_bytes

    inv_result inv_store_consumer_open(inv_store *store, inv_text name, uint64_t after_lsn,
                                       inv_error *error) noexcept
    inv_result inv_store_consumer_acknowledge(inv_store *store, inv_text name, uint64_t lsn,
                                              uint32_t index, inv_error *error) noexcept
    inv_result inv_store_consumer_reset(inv_store *store, inv_text name, uint64_t after_lsn,
                                        inv_error *error) noexcept
    inv_result inv_store_consumer_remove(inv_store *store, inv_text name,
                                         inv_error *error) noexcept
    uint32_t inv_store_consumers(inv_store *store, inv_consumer_info *out) noexcept
    inv_result inv_events_open_consumer(inv_store *store, inv_text name, inv_events **out_events,
                                        inv_error *error) noexcept

    # ---- the log of a closed store
    ctypedef struct inv_log:
        pass

    ctypedef enum inv_log_kind:
        INV_LOG_CHANGES
        INV_LOG_PAD
        INV_LOG_SEAL

    ctypedef struct inv_log_record:
        uint8_t kind
        uint64_t lsn
        uint64_t lsn_end
        uint64_t now_unix_ms
        uint64_t epoch
        uint64_t segment
        uint64_t offset

    ctypedef struct inv_log_line:
        uint32_t sku
        uint32_t qty
        uint16_t location
        uint8_t op
        bool free

    ctypedef struct inv_log_entry:
        uint8_t kind
        uint8_t state
        bool whole
        bool id_is_uuid
        bool op_id_is_uuid
        uint16_t seller
        uint32_t account
        uint32_t reason
        uint32_t reference
        uint64_t lsn_end
        uint64_t expires_at_unix_ms
        inv_text id
        inv_text op_id
        uint8_t name_kind
        uint32_t number
        inv_text name
        uint64_t wall_unix_ms
        uint64_t window_start_ms
        inv_format format
        uint32_t line_count
        const inv_log_line *lines

    ctypedef struct inv_log_tail:
        uint64_t lsn_end
        uint64_t durable
        uint64_t torn_bytes
        uint64_t torn_records
        uint64_t skipped_records

    inv_result inv_log_open(inv_env *env, inv_log **out_log, inv_error *error) noexcept
    void inv_log_close(inv_log *log) noexcept
    ctypedef struct inv_log_name:
        uint8_t kind
        uint16_t seller
        uint32_t number
        inv_text text

    inv_result inv_log_next_name(inv_log *log, inv_log_name *out, bool *out_more,
                                 inv_error *error) noexcept
    inv_result inv_log_next(inv_log *log, inv_log_record *out, bool *out_more,
                            inv_error *error) noexcept
    inv_result inv_log_next_entry(inv_log *log, inv_log_entry *out, bool *out_more,
                                  inv_error *error) noexcept
    void inv_log_tail_of(const inv_log *log, inv_log_tail *out) noexcept
    ctypedef struct inv_fsck_item:
        uint8_t kind
        bool ok
        const char *name
        const char *problem
        uint64_t bytes
        uint64_t lsn
        uint64_t lsn_end
        uint64_t records
        uint64_t epoch

    ctypedef struct inv_fsck_report:
        bool ok
        uint64_t lsn_end
        uint64_t durable
        uint64_t torn_bytes
        uint64_t torn_records
        uint64_t snapshot_lsn
        uint64_t snapshots
        uint64_t snapshots_damaged
        uint64_t segments
        uint64_t segments_damaged
        uint64_t segments_void
        uint64_t accept_loss_lsn
        char problem[256]

    ctypedef bool (*inv_fsck_visit)(void *argument, const inv_fsck_item *item) noexcept

    inv_result inv_fsck(inv_env *env, inv_fsck_visit visit, void *argument, inv_fsck_report *out,
                        inv_error *error) noexcept

    const char *inv_log_entry_name(uint8_t kind) noexcept
    const char *inv_log_op_name(uint8_t op) noexcept
