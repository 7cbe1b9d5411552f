# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, freethreading_compatible=False
"""Batches: numpy columns in, codes out.

Columns are checked for dtype, shape and length while attached, then the core judges the rows with
the GIL released, 65,536 of them between two looks for Ctrl-C. numpy is imported at the first call.
"""

from inventory import errors as _errors

from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

cimport invcore
from invcore cimport inv_batch, inv_batch_level, inv_text
from inventory._core cimport Store, raise_for, text_of

cdef enum:
    PIECE_ROWS = 65536   # rows between two looks for a signal
    PIECE_NAMES = 1024   # texts viewed at once

cdef object _BadRequest = _errors.BadRequest
cdef object _error_for = _errors.error_for
cdef str _DEFAULT_SELLER = "default"
cdef object _numpy = None

# The Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface.html).
cdef extern from *:
    """
    struct ArrowSchema { const char *format; };
    struct ArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void **buffers;
    };
    """
    struct ArrowSchema:
        const char *format
    struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        const void **buffers


cdef object numpy():
    global _numpy
    if _numpy is None:
        import numpy as module
        _numpy = module
    return _numpy


cdef object level_dtype():
    return numpy().dtype({
        "names": ["on_hand", "held", "allocated", "available_to_promise", "safety_stock", "known"],
        "formats": ["i8", "i8", "i8", "i8", "i8", "?"],
        "offsets": [0, 8, 16, 24, 32, 40],
        "itemsize": sizeof(inv_batch_level),
    })


cdef object column(object value, str field, str dtype, Py_ssize_t count=-1):
    """The value as a contiguous array of that dtype; `count` rows, or any number when negative."""
    np = numpy()
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise _BadRequest(f"{field}: has masked values", field=field)
    array = np.asarray(value)
    shape = "[n, 16]" if field.endswith("_ids") and dtype == "uint8" else "[n]"
    if array.dtype != dtype:
        raise TypeError(f"{field} must be {dtype}{shape}, not of dtype {array.dtype}")
    if array.ndim != (2 if shape == "[n, 16]" else 1) or (array.ndim == 2 and array.shape[1] != 16):
        raise _BadRequest(f"{field}: must be {dtype}{shape}, not of shape {array.shape}",
                          field=field)
    if count >= 0 and len(array) != count:
        raise _BadRequest(f"{field}: {len(array)} rows, and {count} in the first column",
                          field=field, figure=len(array), limit=count)
    return np.ascontiguousarray(array)


cdef inline const void *data_of(object array):
    """Where a contiguous array's bytes are. It must outlive their use."""
    cdef const uint8_t[::1] view
    if array.nbytes == 0:
        return NULL
    view = array.reshape(-1).view("uint8")
    return &view[0]


cdef bint has_nulls(const ArrowArray *array) noexcept:
    """The count, or where the producer has not counted (-1) the bitmap: 1 = there."""
    cdef const uint8_t *there = <const uint8_t *>array.buffers[0]
    cdef int64_t row
    if array.null_count >= 0 or there is NULL:
        return array.null_count > 0
    for row in range(array.offset, array.offset + array.length):
        if not there[row >> 3] >> (row & 7) & 1:
            return True
    return False


cdef class BatchStore(Store):
    """The batch forms of the operations. Part of ``Inventory``."""

    # ---- names and numbers ------------------------------------------------------------------------

    cdef int number(self, invcore.inv_name_kind kind, inv_text owner, const inv_text *texts,
                    Py_ssize_t at, Py_ssize_t count, bint create, uint32_t *numbers) except -1:
        """Numbers of `count` texts, the first of which is name `at` of the call."""
        cdef invcore.inv_result code
        cdef uint64_t lsn = 0
        cdef size_t bad_index = 0
        cdef Py_ssize_t i
        cdef invcore.inv_store *store = self._handle.store
        with nogil:
            code = invcore.inv_store_numbers(store, kind, owner, texts, count, create, numbers,
                                             &lsn, &bad_index)
        if code == invcore.INV_BAD_REQUEST:
            limit = (invcore.INV_SKU_BYTES_MAX if kind == invcore.INV_NAME_SKU
                     else invcore.INV_LOCATION_BYTES_MAX)
            raise _BadRequest(field=f"names[{at + <Py_ssize_t>bad_index}]",
                              figure=texts[bad_index].length, limit=limit)
        if code == invcore.INV_FORBIDDEN and self._handle.read_only:
            raise _error_for(code, "the store was opened with read_only=True; open it for writing")
        if code != invcore.INV_OK:
            raise _error_for(code, field=f"names[{at + <Py_ssize_t>bad_index}]")
        PyErr_CheckSignals()
        self.settle(lsn)
        for i in range(count if kind == invcore.INV_NAME_LOCATION else 0):
            if numbers[i] == invcore.INV_NUMBER_NONE:
                raise _error_for(invcore.INV_UNKNOWN_LOCATION, field=f"names[{at + i}]",
                                 location=texts[i].bytes[:texts[i].length].decode())
        return 0

    cdef int number_texts(self, invcore.inv_name_kind kind, inv_text owner, list names,
                          bint create, uint32_t *numbers) except -1:
        cdef inv_text texts[PIECE_NAMES]
        cdef Py_ssize_t at, i, count, n = len(names)
        for at in range(0, n, PIECE_NAMES):
            count = min(n - at, PIECE_NAMES)
            for i in range(count):
                if type(names[at + i]) is not str:
                    raise TypeError(
                        f"names[{at + i}] must be str, not {type(names[at + i]).__name__}")
                text_of(names[at + i], &texts[i], f"names[{at + i}]")
            self.number(kind, owner, texts, at, count, create, numbers + at)
        return 0

    cdef int number_arrow(self, invcore.inv_name_kind kind, inv_text owner, ArrowArray *array,
                          bint large, bint create, uint32_t *numbers) except -1:
        cdef inv_text texts[PIECE_NAMES]
        cdef const int32_t *narrow = <const int32_t *>array.buffers[1]
        cdef const int64_t *wide = <const int64_t *>array.buffers[1]
        cdef const char *data = <const char *>array.buffers[2]
        cdef Py_ssize_t at, i, row, count, n = array.length
        cdef int64_t begin, end
        for at in range(0, n, PIECE_NAMES):
            count = min(n - at, PIECE_NAMES)
            for i in range(count):
                row = array.offset + at + i
                begin = wide[row] if large else narrow[row]
                end = wide[row + 1] if large else narrow[row + 1]
                texts[i].bytes = data + begin
                texts[i].length = <uint32_t>min(end - begin, <int64_t>0xFFFFFFFF)
            self.number(kind, owner, texts, at, count, create, numbers + at)
        return 0

    cdef object numbers(self, invcore.inv_name_kind kind, object names, object seller,
                        object create):
        """uint32[n]: the numbers of names given as an Arrow string array or a sequence of str."""
        cdef inv_text owner
        cdef uint32_t *numbers
        cdef ArrowArray *array = NULL
        cdef bytes format = b""
        memset(&owner, 0, sizeof(owner))
        if not isinstance(create, bool):
            raise TypeError(f"create must be bool, not {type(create).__name__}")
        if seller is not _DEFAULT_SELLER:
            text_of(seller, &owner, "seller")
        if isinstance(names, (str, bytes)):
            raise TypeError(f"names must be a sequence of str, not {type(names).__name__}")
        arrow = getattr(names, "__arrow_c_array__", None)
        if arrow is None:
            names = names.tolist() if hasattr(names, "tolist") else list(names)
            found = numpy().empty(len(names), "uint32")
        else:
            schema_capsule, array_capsule = arrow()
            array = <ArrowArray *>PyCapsule_GetPointer(array_capsule, "arrow_array")
            format = (<ArrowSchema *>PyCapsule_GetPointer(schema_capsule, "arrow_schema")).format
            if format != b"u" and format != b"U":
                raise TypeError("names must be an Arrow array of type string or large_string; "
                                "cast it first")
            if has_nulls(array):
                raise _BadRequest("names: has nulls", field="names")
            found = numpy().empty(array.length, "uint32")
        numbers = <uint32_t *>data_of(found)
        self._handle.usable()  # after the caller's code has run, which may have closed the store
        self._handle.inside += 1
        try:
            if arrow is None:
                self.number_texts(kind, owner, names, create, numbers)
            else:
                self.number_arrow(kind, owner, array, format == b"U", create, numbers)
        finally:
            self._handle.leave()
        return found

    def sku_ids(self, names, *, seller="default", create=False):
        """Return the numbers of SKUs, for batches.

        Args:
            names: n names of 1 to 128 bytes: a sequence of str, a numpy array of them, or an Arrow
                array of type string or large_string (read in place).
            seller: whose SKUs.
            create: make the unknown ones known.

        Returns:
            uint32[n]: a number holds for the store's life. Unknown: 0xFFFFFFFF.

        Raises:
            BadRequest: a name is empty, too long or not UTF-8. TypeError, StoreClosed, DiskFull.

        Durability: new names are as safe as the store promises.

        >>> inv.sku_ids(["TEE", "NO-SUCH"]).tolist()[1] == 0xFFFFFFFF
        True
        """
        return self.numbers(invcore.INV_NAME_SKU, names, seller, create)

    def location_ids(self, names, *, create=False):
        """Return the numbers of locations, for batches.

        Args:
            names: n names of 1 to 64 bytes, as in :meth:`sku_ids`.
            create: make the unknown ones known, at most 65,535 in all.

        Returns:
            uint16[n]: a number holds for the store's life.

        Raises:
            UnknownLocation: one is not known (and ``create`` is false; 0xFFFF would mean "let the
            engine choose"). BadRequest, LimitExceeded, TypeError, StoreClosed, DiskFull.

        Durability: new names are as safe as the store promises.

        >>> inv.location_ids(["LON", "LON"]).tolist()
        [0, 0]
        """
        return self.numbers(
            invcore.INV_NAME_LOCATION, names, _DEFAULT_SELLER, create).astype("uint16")

    def sku_names(self, sku_ids):
        """Return the names of SKU numbers uint32[n], as a list of str.

        Raises:
            BadRequest: there is no such number.

        >>> inv.sku_names(inv.sku_ids(["TEE", "MUG"]))
        ['TEE', 'MUG']
        """
        return self.texts(invcore.INV_NAME_SKU, column(sku_ids, "sku_ids", "uint32"), "sku_ids")

    def location_names(self, location_ids):
        """Return the names of location numbers uint16[n], as a list of str.

        Raises:
            BadRequest: there is no such number.

        >>> inv.location_names(inv.location_ids(["LON"]))
        ['LON']
        """
        return self.texts(invcore.INV_NAME_LOCATION,
                          column(location_ids, "location_ids", "uint16"), "location_ids")

    cdef list texts(self, invcore.inv_name_kind kind, object ids, str field):
        cdef char text[128]
        cdef uint32_t length = 0
        cdef list found = []
        self._handle.usable()
        self._handle.inside += 1
        try:
            for i, number in enumerate(ids.tolist()):
                if not invcore.inv_store_name(self._handle.store, kind, number, text, &length):
                    raise _BadRequest(f"{field}[{i}]: there is no number {number}",
                                      field=f"{field}[{i}]", figure=number)
                found.append(text[:length].decode())
        finally:
            self._handle.leave()
        return found

    # ---- changes ----------------------------------------------------------------------------------

    cdef object run(self, inv_batch *batch, Py_ssize_t count, object account, object reason,
                    object seller):
        """Judge the rows and wait until what they observed is safe; uint8[count] codes."""
        cdef invcore.inv_error error
        cdef invcore.inv_result code = invcore.INV_OK
        cdef invcore.inv_store *store
        cdef uint64_t lsn = 0, observed = 0
        cdef inv_batch piece
        cdef Py_ssize_t at
        cdef uint8_t *codes
        if account != "":
            text_of(account, &batch.account, "account")
        if reason != "":
            text_of(reason, &batch.reason, "reason")
        if seller is not _DEFAULT_SELLER:
            text_of(seller, &batch.seller, "seller")
        found = numpy().empty(count, "uint8")
        codes = <uint8_t *>data_of(found)
        memset(&error, 0, sizeof(error))
        self._handle.usable()
        if self._handle.read_only:
            raise _error_for(invcore.INV_FORBIDDEN,
                             "the store was opened with read_only=True; open it for writing")
        store = self._handle.store
        self._handle.inside += 1
        try:
            for at in range(0, max(count, 1), PIECE_ROWS):
                piece = batch[0]
                piece.count = min(count - at, PIECE_ROWS)
                if batch.skus is not NULL:
                    piece.skus += at
                    piece.locations += at
                    piece.qtys += at
                if batch.ids is not NULL:
                    piece.ids += 16 * at
                if batch.ttls_ms is not NULL:
                    piece.ttls_ms += at
                lsn = 0
                with nogil:
                    code = invcore.inv_store_execute_batch(store, &piece, codes + at, &lsn, &error)
                observed = max(observed, lsn)
                if code != invcore.INV_OK:
                    raise_for(code, &error if error.code else NULL)
                PyErr_CheckSignals()
            self.settle(observed)
        finally:
            self._handle.leave()
        return found

    cdef object run_lines(self, invcore.inv_command_kind kind, object sku_ids, object location_ids,
                          object qty, str qty_field, object ids, str ids_field, object ttl_ms,
                          object account, object reason, object seller):
        cdef inv_batch batch
        cdef Py_ssize_t count
        memset(&batch, 0, sizeof(batch))
        batch.kind = kind
        sku_ids = column(sku_ids, "sku_ids", "uint32")
        count = len(sku_ids)
        location_ids = column(location_ids, "location_ids", "uint16", count)
        qty = column(qty, qty_field, "int64", count)
        batch.skus = <const uint32_t *>data_of(sku_ids)
        batch.locations = <const uint16_t *>data_of(location_ids)
        batch.qtys = <const int64_t *>data_of(qty)
        if ids is not None:
            ids = column(ids, ids_field, "uint8", count)
            batch.ids = <const uint8_t *>data_of(ids)
        ttl_ms = self.ttl_into(&batch, ttl_ms, count)
        return self.run(&batch, count, account, reason, seller)

    cdef object ttl_into(self, inv_batch *batch, object ttl_ms, Py_ssize_t count):
        """Set ttl_ms or ttls_ms; returns the array to be kept alive."""
        if ttl_ms is None:
            return None
        if isinstance(ttl_ms, bool) or not (isinstance(ttl_ms, int) or hasattr(ttl_ms, "dtype")):
            raise TypeError(f"ttl_ms must be int or uint32[n], not {type(ttl_ms).__name__}")
        if isinstance(ttl_ms, int):
            if not 1 <= ttl_ms <= invcore.INV_TTL_MS_MAX:
                raise _BadRequest(field="ttl_ms", figure=ttl_ms,
                                  limit=1 if ttl_ms < 1 else invcore.INV_TTL_MS_MAX)
            batch.ttl_ms = ttl_ms
            return None
        ttl_ms = column(ttl_ms, "ttl_ms", "uint32", count)
        batch.ttls_ms = <const uint32_t *>data_of(ttl_ms)
        return ttl_ms

    cdef object run_ids(self, invcore.inv_command_kind kind, object reservation_ids,
                        object ttl_ms, object seller):
        cdef inv_batch batch
        memset(&batch, 0, sizeof(batch))
        batch.kind = kind
        reservation_ids = column(reservation_ids, "reservation_ids", "uint8")
        batch.ids = <const uint8_t *>data_of(reservation_ids)
        ttl_ms = self.ttl_into(&batch, ttl_ms, len(reservation_ids))
        return self.run(&batch, len(reservation_ids), "", "", seller)

    def reserve_batch(self, sku_ids, location_ids, qty, reservation_ids, *, ttl_ms, account="",
                      seller="default"):
        """Reserve n single lines, judged in array order; one bad row hurts no other.

        Args:
            sku_ids: uint32[n] of :meth:`sku_ids`.
            location_ids: uint16[n] of :meth:`location_ids`; 0xFFFF lets the engine choose.
            qty: int64[n], units, each 1 to 2,147,483,647.
            reservation_ids: uint8[n, 16], the bytes of UUIDs, yours.
            ttl_ms: one int or uint32[n], each 1 ms to 30 days.
            account, seller: of all rows.

        Returns:
            uint8[n] codes of SEMANTICS section 7: 0 OK; 1 the same id again, and its promise stands;
            10 INSUFFICIENT; 11, 13, 14 the same id again, and it has expired, was released or
            cancelled; 30 a figure out of range; 31 the id belongs to another request; ...

        Raises:
            BadRequest: a column of another length or shape, a text that can't be one; nothing was
            judged. TypeError: another dtype. StoreClosed, StoreFailed. After KeyboardInterrupt some
            rows may have been judged: send all again with the same ids.

        Durability: everything the codes say is as safe as the store promises.

        >>> import numpy as np, uuid
        >>> skus = inv.sku_ids(["TEE", "MUG"])
        >>> places = inv.location_ids(["LON", "LON"])
        >>> ids = np.frombuffer(b"".join(uuid.uuid4().bytes for _ in skus), "uint8").reshape(-1, 16)
        >>> inv.reserve_batch(skus, places, np.array([2, 6]), ids, ttl_ms=60_000).tolist()
        [0, 10]
        """
        if ttl_ms is None:
            raise TypeError("ttl_ms must be int or uint32[n], not NoneType")
        if reservation_ids is None:
            raise TypeError("reservation_ids must be uint8[n, 16], not NoneType")
        return self.run_lines(invcore.INV_CMD_RESERVE, sku_ids, location_ids, qty, "qty",
                              reservation_ids, "reservation_ids", ttl_ms, account, "", seller)

    def receive_batch(self, sku_ids, location_ids, qty, *, op_ids=None, account="", reason="",
                      seller="default"):
        """Receive units at n rows, judged in array order; as :meth:`Inventory.receive`.

        Args:
            sku_ids, location_ids: uint32[n] and uint16[n]; rows are made as needed.
            qty: int64[n], units, each 1 to 2,147,483,647.
            op_ids: uint8[n, 16] idempotency keys, or none: then a repeat receives again.
            account, reason, seller: of all rows.

        Returns:
            uint8[n] codes: 0 OK, 1 the same op_id again, 21 no such SKU number, 22 no such location
            number, 30 and 33 figures out of range, 31 the op_id belongs to another request.

        Raises:
            As :meth:`reserve_batch`.

        Durability: as :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.receive_batch(inv.sku_ids(["CAP"], create=True), inv.location_ids(["LON"]),
        ...                   np.array([7])).tolist()
        [0]
        """
        return self.run_lines(invcore.INV_CMD_RECEIVE, sku_ids, location_ids, qty, "qty", op_ids,
                              "op_ids", None, account, reason, seller)

    def issue_batch(self, sku_ids, location_ids, qty, *, op_ids=None, account="", reason="",
                    seller="default"):
        """Issue units from n rows, judged in array order; as :meth:`Inventory.issue`.

        Arguments and codes are those of :meth:`receive_batch`, and 10 INSUFFICIENT.

        Raises:
            As :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.issue_batch(inv.sku_ids(["TEE"]), inv.location_ids(["LON"]), np.array([3])).tolist()
        [0]
        """
        return self.run_lines(invcore.INV_CMD_ISSUE, sku_ids, location_ids, qty, "qty", op_ids,
                              "op_ids", None, account, reason, seller)

    def adjust_batch(self, sku_ids, location_ids, delta, *, op_ids=None, account="", reason="",
                     seller="default"):
        """Correct n rows by signed differences, judged in array order; as :meth:`Inventory.adjust`.

        Arguments and codes are those of :meth:`receive_batch`; ``delta`` is int64[n], units, each
        -2,147,483,647 to 2,147,483,647 and not 0. It may leave a row short, as a count does.

        Raises:
            As :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.adjust_batch(inv.sku_ids(["TEE"]), inv.location_ids(["LON"]),
        ...                  np.array([-3]), reason="damage").tolist()
        [0]
        """
        return self.run_lines(invcore.INV_CMD_ADJUST, sku_ids, location_ids, delta, "delta", op_ids,
                              "op_ids", None, account, reason, seller)

    def commit_batch(self, reservation_ids, *, seller="default"):
        """Commit n whole reservations, judged in array order; as :meth:`Inventory.commit`.

        Args:
            reservation_ids: uint8[n, 16].
            seller: of all rows.

        Returns:
            uint8[n] codes: 0 OK, 1 done before, 11 EXPIRED, 13 to 15 it has ended otherwise,
            20 UNKNOWN_RESERVATION.

        Raises:
            As :meth:`reserve_batch`.

        Durability: as :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.commit_batch(np.zeros((1, 16), "uint8")).tolist()
        [20]
        """
        return self.run_ids(invcore.INV_CMD_COMMIT, reservation_ids, None, seller)

    def ship_batch(self, reservation_ids, *, seller="default"):
        """Ship n whole reservations; as :meth:`Inventory.ship`, codes as :meth:`commit_batch`.

        Raises:
            As :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.ship_batch(np.zeros((1, 16), "uint8")).tolist()
        [20]
        """
        return self.run_ids(invcore.INV_CMD_SHIP, reservation_ids, None, seller)

    def release_batch(self, reservation_ids, *, seller="default"):
        """Release n whole reservations; as :meth:`Inventory.release`, codes as :meth:`commit_batch`.

        Raises:
            As :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.release_batch(np.zeros((1, 16), "uint8")).tolist()
        [20]
        """
        return self.run_ids(invcore.INV_CMD_RELEASE, reservation_ids, None, seller)

    def cancel_batch(self, reservation_ids, *, seller="default"):
        """Cancel n whole reservations; as :meth:`Inventory.cancel`, codes as :meth:`commit_batch`.

        Raises:
            As :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.cancel_batch(np.zeros((1, 16), "uint8")).tolist()
        [20]
        """
        return self.run_ids(invcore.INV_CMD_CANCEL, reservation_ids, None, seller)

    def extend_batch(self, reservation_ids, *, ttl_ms, seller="default"):
        """Extend n holds; as :meth:`Inventory.extend`, codes as :meth:`commit_batch`.

        Args:
            reservation_ids: uint8[n, 16].
            ttl_ms: one int or uint32[n], from now on, each 1 ms to 30 days.
            seller: of all rows.

        Raises:
            As :meth:`reserve_batch`.

        >>> import numpy as np
        >>> inv.extend_batch(np.zeros((1, 16), "uint8"), ttl_ms=60_000).tolist()
        [20]
        """
        if ttl_ms is None:
            raise TypeError("ttl_ms must be int or uint32[n], not NoneType")
        return self.run_ids(invcore.INV_CMD_EXTEND, reservation_ids, ttl_ms, seller)

    # ---- reading ----------------------------------------------------------------------------------

    def availability_batch(self, sku_ids, location_ids):
        """Return the stock of n rows; each is read at one moment, not all at the same.

        Args:
            sku_ids, location_ids: uint32[n] and uint16[n].

        Returns:
            A structured array[n] with int64 fields on_hand, held, allocated, available_to_promise
            and safety_stock (units) and bool known; a row that does not exist is all zeros.

        Raises:
            BadRequest, TypeError, StoreClosed, StoreFailed.

        Durability: what it shows is as safe as the store promises.

        >>> inv.availability_batch(inv.sku_ids(["TEE"]), inv.location_ids(["LON"]))["on_hand"]
        array([10])
        """
        cdef uint64_t lsn = 0, observed = 0
        cdef Py_ssize_t at, piece, count
        cdef const uint32_t *skus
        cdef const uint16_t *locations
        cdef inv_batch_level *levels
        cdef invcore.inv_result code
        cdef invcore.inv_store *store
        sku_ids = column(sku_ids, "sku_ids", "uint32")
        count = len(sku_ids)
        location_ids = column(location_ids, "location_ids", "uint16", count)
        found = numpy().empty(count, level_dtype())
        skus = <const uint32_t *>data_of(sku_ids)
        locations = <const uint16_t *>data_of(location_ids)
        levels = <inv_batch_level *>data_of(found)
        self._handle.usable()
        store = self._handle.store
        self._handle.inside += 1
        try:
            for at in range(0, count, PIECE_ROWS):
                piece = min(count - at, PIECE_ROWS)
                with nogil:
                    code = invcore.inv_store_availability_batch(
                        store, skus + at, locations + at, piece, levels + at, &lsn)
                observed = max(observed, lsn)
                if code != invcore.INV_OK:
                    raise_for(code, NULL)
                PyErr_CheckSignals()
            self.settle(observed)
        finally:
            self._handle.leave()
        return found
