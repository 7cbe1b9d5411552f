/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_base.c: what happens when something goes wrong, and what it is called.
 *
 * Guarantees: inv_assert_failed never returns and needs no memory and no lock, so it is safe in any
 * state of the program. inv_fail never fails and always leaves a terminated message. All functions
 * may be called from any thread, under any lock.
 */
#include "inv_base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef INV_PLANTED_BUGS
int inv_planted_bug = INV_PLANT_NONE;
#endif

_Noreturn void inv_assert_failed(const char *condition, const char *file, int line) {
    char text[512];
    int length = snprintf(text, sizeof text, "inventory: assertion failed: %s (%s:%d)\n", condition,
                          file, line);
    if (length > (int)sizeof text - 1) {
        length = (int)sizeof text - 1;
        text[length - 1] = '\n';
    }
    /* One write(2), past the buffers of stdio: lines of threads that fail together stay whole. */
    if (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, (size_t)length);
        (void)written; /* there is nobody left to tell */
    }
    abort();
}

/* The positions (lsn, segment, offset) stay as they are: only the caller knows them. */
inv_result inv_fail(inv_error *error, inv_result code, int os_errno, const char *format, ...) {
    if (error == NULL) return code;
    error->code = (int)code;
    error->os_errno = os_errno;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (length < 0) error->message[0] = '\0';
    return code;
}

const char *inv_result_name(int code) {
    /* No default: a new code does not compile until it has a name here. */
    switch ((inv_result)code) {
    case INV_OK: return "OK";
    case INV_REPLAYED: return "REPLAYED";
    case INV_INSUFFICIENT: return "INSUFFICIENT";
    case INV_EXPIRED: return "EXPIRED";
    case INV_ALREADY_COMMITTED: return "ALREADY_COMMITTED";
    case INV_ALREADY_RELEASED: return "ALREADY_RELEASED";
    case INV_ALREADY_CANCELLED: return "ALREADY_CANCELLED";
    case INV_ALREADY_SHIPPED: return "ALREADY_SHIPPED";
    case INV_CLOSED: return "CLOSED";
    case INV_CAS_FAILED: return "CAS_FAILED";
    case INV_AS_OF_UNKNOWN: return "AS_OF_UNKNOWN";
    case INV_PREEMPTED: return "PREEMPTED";
    case INV_UNKNOWN_RESERVATION: return "UNKNOWN_RESERVATION";
    case INV_UNKNOWN_SKU: return "UNKNOWN_SKU";
    case INV_UNKNOWN_LOCATION: return "UNKNOWN_LOCATION";
    case INV_EVENTS_TRIMMED: return "EVENTS_TRIMMED";
    case INV_BAD_REQUEST: return "BAD_REQUEST";
    case INV_IDEMPOTENCY_MISMATCH: return "IDEMPOTENCY_MISMATCH";
    case INV_OVER_COMMIT: return "OVER_COMMIT";
    case INV_QTY_OUT_OF_RANGE: return "QTY_OUT_OF_RANGE";
    case INV_LIMIT_EXCEEDED: return "LIMIT_EXCEEDED";
    case INV_STALE_ID: return "STALE_ID";
    case INV_UNAUTHENTICATED: return "UNAUTHENTICATED";
    case INV_FORBIDDEN: return "FORBIDDEN";
    case INV_RATE_LIMITED: return "RATE_LIMITED";
    case INV_BUSY: return "BUSY";
    case INV_LAGGING: return "LAGGING";
    case INV_NOT_LEADER: return "NOT_LEADER";
    case INV_DISK_FULL: return "DISK_FULL";
    case INV_NO_MEMORY: return "NO_MEMORY";
    case INV_STORE_CLOSED: return "STORE_CLOSED";
    case INV_STORE_FAILED: return "STORE_FAILED";
    case INV_LOG_CORRUPT: return "LOG_CORRUPT";
    case INV_STORE_LOCKED: return "STORE_LOCKED";
    case INV_FORMAT_UNKNOWN: return "FORMAT_UNKNOWN";
    case INV_IO_ERROR: return "IO_ERROR";
    }
    return "UNKNOWN_CODE";
}
