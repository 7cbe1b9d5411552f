# SPDX-License-Identifier: Apache-2.0
"""A second reader of a store's directory, written from docs/log-format.md and snapshot-format.md.

It shares nothing with the engine: the standard library, plain dictionaries, one pass. Where it and
the engine disagree, a page or the engine is wrong. `read` gives the state at the end of the log,
from the log alone or from a snapshot and the log behind it.
"""

from __future__ import annotations

import itertools
import struct
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LSN_FIRST = 4096
HEADER_BYTES = 4096
HEADER_COPY_BYTES = 2048
RECORD_BYTES = 40
PAYLOAD_BYTES_MAX = 1 << 20
NONE = 0xFFFFFFFF
NO_LOCATION = 0xFFFF
QTY_MAX = (1 << 31) - 1
FORMAT = (1, 0)

HELD, ALLOCATED, SHIPPED, RELEASED, CANCELLED, EXPIRED = 1, 3, 4, 5, 6, 7
RESERVE, COMMIT, SHIP, RELEASE, CANCEL, EXTEND, EXPIRE, TOMBSTONE = 1, 2, 3, 4, 5, 6, 9, 11
RECEIVE, ISSUE, ADJUST, COUNT, POLICY = 12, 13, 14, 16, 21
NAME, CLOCK_TICK, DIGEST, SNAPSHOT_MARK, FORMAT_GATE, OPERATOR_ACT = 27, 28, 29, 30, 31, 32
STOCK = frozenset((RECEIVE, ISSUE, ADJUST, COUNT, POLICY))
MOVES = frozenset((COMMIT, SHIP, RELEASE, CANCEL, EXPIRE))
NOTES = frozenset((CLOCK_TICK, DIGEST, SNAPSHOT_MARK, FORMAT_GATE, OPERATOR_ACT))
KINDS = STOCK | MOVES | NOTES | {RESERVE, EXTEND, TOMBSTONE, NAME}
SKU, LOCATION, SELLER, ACCOUNT, REASON, REFERENCE = 1, 2, 3, 4, 5, 6
SET_SAFETY = 11

# operation: what a quantity adds to on_hand, held, allocated, shipped
OPERATIONS = {
    0: (0, 0, 0, 0), 1: (0, 1, 0, 0), 2: (0, -1, 1, 0), 3: (-1, -1, 0, 1), 4: (-1, 0, -1, 1),
    5: (0, -1, 0, 0), 6: (0, 0, -1, 0), 7: (0, -1, 0, 0), 8: (0, 0, 1, 0), 9: (1, 0, 0, 0),
    10: (-1, 0, 0, 0), SET_SAFETY: (0, 0, 0, 0),
}  # fmt: skip


class Damage(Exception):
    """What the format calls damage: something that was durable can't be read."""


class Unknown(Exception):
    """Something of a newer format that a reader must not pass over."""


def need(condition: bool, what: str) -> None:
    if not condition:
        raise Damage(what)


# ---- checksums and hashes ------------------------------------------------------------------------


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _table()


def crc(before: int, data: bytes) -> int:
    value = before ^ 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def seed_of(store: bytes) -> int:
    return crc(0x01A75EED, store)


_M64 = (1 << 64) - 1


def _rotl(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _M64


def sip(key: tuple[int, int], tweak: int, message: bytes) -> int:
    """SipHash-1-3 with one block, the tweak, in front of the message."""
    v = [
        key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261, key[1] ^ 0x7465646279746573,
    ]  # fmt: skip

    def turn() -> None:
        v[0] = (v[0] + v[1]) & _M64
        v[1] = _rotl(v[1], 13) ^ v[0]
        v[0] = _rotl(v[0], 32)
        v[2] = (v[2] + v[3]) & _M64
        v[3] = _rotl(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & _M64
        v[3] = _rotl(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & _M64
        v[1] = _rotl(v[1], 17) ^ v[2]
        v[2] = _rotl(v[2], 32)

    whole = len(message) // 8 * 8
    last = int.from_bytes(message[whole:], "little") | (len(message) & 255) << 56
    blocks = [tweak, *struct.unpack(f"<{whole // 8}Q", message[:whole]), last]
    for block in blocks:
        v[3] ^= block
        turn()
        v[0] ^= block
    v[2] ^= 0xFF
    for _ in range(3):
        turn()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


# ---- STATE, HINT, segments -----------------------------------------------------------------------


WORD = (1 << 64) - 1
ODD = (
    0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)  # fmt: skip


def mix(first: int, *words: int) -> int:
    value = (first + sum(word * odd for word, odd in zip(words, ODD, strict=False))) & WORD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ value >> shift) * factor & WORD
    return value ^ value >> 31


def check_format(where: str, major: int, minor: int, features: int) -> None:
    if not 1 <= major <= FORMAT[0]:
        raise Unknown(f"{where}: format {major}.{minor}")
    if features:
        raise Unknown(f"{where}: feature bits {features:#x}")


@dataclass(frozen=True)
class Identity:
    store: bytes
    hash_key: bytes
    created_unix_ms: int
    stripe_bits: int

    @property
    def seed(self) -> int:
        return seed_of(self.store)


@dataclass(frozen=True)
class StateSlot:
    identity: Identity
    format: tuple[int, int]
    sequence: int
    epoch: int
    segment_highest: int
    snapshot_lsn: int
    clean_lsn: int


def state_slots(data: bytes) -> list[StateSlot]:
    slots = []
    for number in range(2):
        slot = data[number * 4096 : (number + 1) * 4096]
        if len(slot) < 4096 or slot[:8] != b"INVSTATE":
            continue
        if crc(0, slot[:4092]) != struct.unpack_from("<I", slot, 4092)[0]:
            continue
        major, minor, slot_bytes = struct.unpack_from("<HHI", slot, 8)
        check_format("STATE", major, minor, struct.unpack_from("<Q", slot, 104)[0])
        need(slot_bytes == 4096, "STATE: slot bytes")
        sequence, epoch, highest, snapshot, clean, bits, zero = struct.unpack_from(
            "<5Q2I", slot, 32
        )
        need(zero == 0 and not any(slot[120:4092]), "STATE: not zero")
        need(sequence % 2 == number, "STATE: a slot in the other's place")
        created = struct.unpack_from("<Q", slot, 96)[0]
        identity = Identity(slot[16:32], slot[80:96], created, bits)
        slots.append(StateSlot(identity, (major, minor), sequence, epoch, highest, snapshot, clean))
    return slots


def hint_of(data: bytes, seed: int) -> int:
    """The durable lsn that HINT proves, 0 if it says nothing."""
    if len(data) != 32 or data[:8] != b"INVHINT1":
        return 0
    if crc(seed, data[:28]) != struct.unpack_from("<I", data, 28)[0]:
        return 0
    return int(struct.unpack_from("<Q", data, 8)[0])


@dataclass
class Segment:
    name: str
    format: tuple[int, int]
    number: int
    base: int
    epoch: int
    prev_number: int
    prev_end: int
    prev_offset: int
    prev_crc: int
    exact: bool
    size: int
    data: bytes
    end: int = 0  # records end here: exactly, or at most
    end_exact: bool = False

    @property
    def capacity_end(self) -> int:
        return self.base + self.size - HEADER_BYTES

    def offset(self, lsn: int) -> int:
        return HEADER_BYTES + lsn - self.base


def segment_of(name: str, data: bytes, identity: Identity) -> Segment:
    for start in (0, HEADER_COPY_BYTES):
        copy = data[start : start + HEADER_COPY_BYTES]
        if len(copy) < HEADER_COPY_BYTES or copy[:8] != b"INVWAL\0\1":
            continue
        if crc(0, copy[:2044]) == struct.unpack_from("<I", copy, 2044)[0]:
            break
    else:
        raise Damage(f"{name}: both header copies are damaged")
    major, minor, header_bytes = struct.unpack_from("<HHI", copy, 8)
    must, _may = struct.unpack_from("<QQ", copy, 104)
    check_format(name, major, minor, must)
    number, base, epoch, prev, prev_end, prev_offset = struct.unpack_from("<6Q", copy, 32)
    prev_crc, flags, size, align, bits = struct.unpack_from("<IIQII", copy, 80)
    created = struct.unpack_from("<Q", copy, 144)[0]
    own = Identity(copy[16:32], copy[128:144], created, bits)
    need(own.store == identity.store, f"{name}: of another store")
    need(own == identity, f"{name}: another identity than STATE's")
    need(number == int(name[4:], 16), f"{name}: is segment {number}")
    need(header_bytes == 4096 and align == 8 and not any(copy[152:2044]), f"{name}: header")
    need(16384 <= size <= 1 << 30 and base >= LSN_FIRST and prev < number, f"{name}: header")
    return Segment(
        name, (major, minor), number, base, epoch, prev, prev_end, prev_offset, prev_crc,
        bool(flags & 1), size, data,
    )  # fmt: skip


def numbered(path: Path, prefix: str) -> dict[int, Path]:
    found = {}
    for file in path.iterdir():
        digits = file.name[len(prefix) :]
        named = file.name.startswith(prefix) and len(digits) == 16
        if named and set(digits) <= set("0123456789abcdef") and int(digits, 16):
            found[int(digits, 16)] = file
    return found


def chain_of(path: Path, state: StateSlot) -> list[Segment]:
    """The segments that are the log, oldest first."""
    files = numbered(path, "wal-")
    if not files:
        need(state.segment_highest == 0, "every segment is missing")
        return []
    wanted = max(files)
    need(wanted >= state.segment_highest, f"segment {state.segment_highest} is missing")
    chain: list[Segment] = []
    while wanted:
        if wanted not in files:
            need(
                bool(chain) and chain[0].base <= state.snapshot_lsn, f"segment {wanted} is missing"
            )
            break
        segment = segment_of(files[wanted].name, files[wanted].read_bytes(), state.identity)
        segment.end = segment.capacity_end
        if chain:
            newer = chain[0]
            join = newer.base == newer.prev_end and newer.epoch >= segment.epoch
            if newer.exact:
                join = join and segment.base <= newer.prev_end <= segment.capacity_end
            else:
                join = join and newer.prev_end == segment.capacity_end
            need(join, f"segments {segment.number} and {newer.number} do not join")
            need(newer.prev_offset == segment.offset(newer.prev_end), "previous end offset")
            segment.end, segment.end_exact = newer.prev_end, newer.exact
        chain.insert(0, segment)
        wanted = segment.prev_number
    first = chain[0].base
    need(first == LSN_FIRST or first <= state.snapshot_lsn, "the log does not begin where it must")
    return chain


def check_archive(chain: list[Segment]) -> int:
    """What opening does not look at: the CRC that a recovered segment gives of the one before.

    Returns how many there were.
    """
    count = 0
    for older, newer in itertools.pairwise(chain):
        if newer.exact:
            records = older.data[HEADER_BYTES : older.offset(newer.prev_end)]
            need(newer.prev_crc == crc(0, records), f"CRC of segment {older.number}")
            count += 1
    return count


# ---- records -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    type: int
    flags: int
    lsn: int
    end: int
    hint: int
    payload: bytes
    segment: Segment


def record_at(segment: Segment, lsn: int, seed: int) -> Record | None:
    offset = segment.offset(lsn)
    if offset + RECORD_BYTES > segment.size:
        return None
    head = segment.data[offset : offset + RECORD_BYTES]
    marker, kind, flags, length, start, hint, epoch, check, zero, own = struct.unpack(
        "<BBHIQQIIII", head
    )
    if marker != 0xE7 or start != lsn or zero or epoch != segment.epoch & NONE:
        return None
    if own != crc(seed, head[:36]) or length > PAYLOAD_BYTES_MAX:
        return None
    padded = (length + 7) // 8 * 8
    if offset + RECORD_BYTES + padded > segment.size:
        return None
    body = segment.data[offset + RECORD_BYTES : offset + RECORD_BYTES + padded]
    if check != crc(0, body):
        return None
    return Record(kind, flags, lsn, lsn + RECORD_BYTES + padded, hint, body[:length], segment)


def check_record(record: Record) -> bool:
    """May it be read? False: it is of an unknown type, and may be skipped."""
    where = f"record at lsn {record.lsn}"
    if record.flags & 0xFC:
        raise Unknown(f"{where}: flag bits {record.flags & 0xFC:#x}")
    if record.type not in (1, 2, 3):
        if record.flags & 1:
            raise Unknown(f"{where}: type {record.type}")
        return False
    if record.type == 1 and not record.flags & 2:
        raise Unknown(f"{where}: a batch of several records")
    if record.type == 3:
        need(not any(record.payload) and record.end == record.segment.capacity_end, "a SEAL")
    return True


@dataclass
class Log:
    """The records of a chain from a position on, and the verdict on where they end."""

    chain: list[Segment]
    seed: int
    durable: int
    end: int = 0
    torn: bool = False
    skipped: int = 0
    records: int = 0

    def read(self, start: int) -> Iterator[Record]:
        self.end = max(self.chain[0].base, start)
        at = 0
        while at + 1 < len(self.chain) and self.chain[at].end <= self.end:
            at += 1
        while True:
            segment = self.whole(at)
            record = record_at(segment, self.end, self.seed) if self.end < segment.end else None
            if record is not None and record.end <= segment.end:
                self.durable = max(self.durable, record.hint)
                self.records += 1
                if check_record(record):
                    yield record
                else:
                    self.skipped += 1
                self.end = record.end
            elif self.end == segment.end and at + 1 < len(self.chain):
                at += 1
            else:
                break
        self._judge(at)

    def whole(self, at: int) -> Segment:
        segment = self.chain[at]
        need(len(segment.data) >= segment.size, f"{segment.name}: shorter than it says")
        return segment

    def _judge(self, at: int) -> None:
        for number in range(len(self.chain) - at):
            segment = self.whole(at + number)
            start = self.end if number == 0 else segment.base
            rest = segment.data[segment.offset(start) : segment.size]
            self.torn = self.torn or any(rest)
            found = rest.find(b"\xe7")
            while found >= 0:
                if found % 8 == 0:
                    record = record_at(segment, start + found, self.seed)
                    if record is not None:
                        self.durable = max(self.durable, record.hint)
                found = rest.find(b"\xe7", found + 1)
        need(
            self.durable <= self.end,
            f"the log ends at {self.end}, but up to {self.durable} it was durable",
        )


# ---- entries -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    sku: int
    qty: int
    location: int
    op: int
    free: bool


@dataclass(frozen=True)
class Entry:
    kind: int
    state: int
    whole: bool
    seller: int
    account: int
    body: int
    deadline: int
    id: str | bytes | None
    op_id: str | bytes | None
    reason: int
    reference: int
    blob: bytes | None
    lines: tuple[Line, ...]
    lsn: int


def entries_of(record: Record) -> Iterator[Entry]:
    payload = record.payload
    need(len(payload) >= 16, "a CHANGES record without its prefix")
    at = 16
    while at < len(payload):
        entry, at = entry_at(payload, at, record.lsn + RECORD_BYTES)
        yield entry


def entry_at(payload: bytes, start: int, payload_lsn: int) -> tuple[Entry, int]:
    where = f"entry at lsn {payload_lsn + start}"
    need(len(payload) - start >= 36, f"{where}: too short")
    kind, flags, count, seller, state, more, account, body, deadline = struct.unpack_from(
        "<BBHHBBIII", payload, start
    )
    if kind not in KINDS:
        raise Unknown(f"{where}: kind {kind}")
    if flags & ~63 or more & ~1:
        raise Unknown(f"{where}: flags")
    at = start + 36
    need(count <= 8192 and at + 12 * count <= len(payload), f"{where}: lines")
    lines = []
    for sku, qty, location, op, line_flags in struct.iter_unpack(
        "<IIHBB", payload[at : at + 12 * count]
    ):
        if op not in OPERATIONS or line_flags & ~1:
            raise Unknown(f"{where}: operation {op}, line flags {line_flags}")
        need(qty <= QTY_MAX, f"{where}: quantity")
        lines.append(Line(sku, qty, location, op, bool(line_flags)))
    at += 12 * count

    def counted() -> bytes:
        nonlocal at
        need(at < len(payload), f"{where}: ends early")
        length = payload[at]
        end = at + (1 + length + 3) // 4 * 4
        need(1 <= length <= 64 and end <= len(payload), f"{where}: length of an id")
        text = payload[at + 1 : at + 1 + length]
        need(not any(payload[at + 1 + length : end]), f"{where}: padding")
        at = end
        return text

    own_id: str | bytes | None = None
    op_id: str | bytes | None = None
    reason = reference = NONE
    blob = None
    if flags & 1:
        own_id = counted().decode()
    elif flags & 32:
        own_id = payload[start + 20 : start + 36]
    if flags & 2:
        raw = counted()
        need(not flags & 4 or len(raw) == 16, f"{where}: op_id")
        op_id = raw if flags & 4 else raw.decode()
    if flags & 8:
        need(at + 8 <= len(payload), f"{where}: ends early")
        reason, reference = struct.unpack_from("<II", payload, at)
        at += 8
    if flags & 16:
        need(at + 2 <= len(payload), f"{where}: ends early")
        length = struct.unpack_from("<H", payload, at)[0]
        end = at + (2 + length + 3) // 4 * 4
        need(end <= len(payload), f"{where}: ends early")
        blob = payload[at + 2 : at + 2 + length]
        need(not any(payload[at + 2 + length : end]), f"{where}: padding")
        at = end
    entry = Entry(
        kind, state, bool(more), seller, account, body, deadline, own_id, op_id, reason, reference,
        blob, tuple(lines), payload_lsn + at,
    )  # fmt: skip
    return entry, at


# ---- the state -----------------------------------------------------------------------------------


@dataclass
class HoldLine:
    sku: int
    location: int
    free: bool
    qty: int
    held: int = 0
    allocated: int = 0
    shipped: int = 0

    def move(self, op: int, qty: int) -> None:
        _, held, allocated, shipped = OPERATIONS[op]
        self.held += held * qty
        self.allocated += allocated * qty
        self.shipped += shipped * qty
        figures = (self.held, self.allocated, self.shipped)
        need(min(figures) >= 0 and sum(figures) <= self.qty, "a figure of a line")


@dataclass
class Hold:
    """A reservation, or (op) an op_id."""

    seller: int
    id: str | bytes
    home: int
    op: bool = False
    kind: int = 0  # op: of its entry
    state: int = 0
    account: int = 0
    body: int = 0
    deadline: int = 0
    ended_ms: int = 0
    lsn: int = 0
    units: int = 0
    lines: list[HoldLine] | None = field(default_factory=list)  # None: gone
    whole: bool = False  # committed, all of it that was left

    @property
    def ended(self) -> bool:
        return self.op or self.state not in (HELD, ALLOCATED)


@dataclass
class Row:
    on_hand: int = 0
    held: int = 0
    allocated: int = 0


@dataclass
class Store:
    identity: Identity
    format: tuple[int, int] = FORMAT
    rows: dict[tuple[int, int], Row] = field(default_factory=dict)
    policies: dict[tuple[int, int], int] = field(default_factory=dict)
    holds: dict[tuple[bool, int, str | bytes], Hold] = field(default_factory=dict)
    queues: dict[int, deque[Hold]] = field(default_factory=dict)
    skus: dict[int, tuple[int, str]] = field(default_factory=dict)
    sku_counts: dict[int, int] = field(default_factory=dict)
    names: dict[int, list[str]] = field(
        default_factory=lambda: {LOCATION: [], SELLER: ["default"], ACCOUNT: [""], REASON: []}
    )
    references_next: int = 0
    engine_ms: int = 0
    tick: tuple[int, int, int, int, int] | None = None
    tick_ms: int = 0
    snapshot_lsn: int = 0
    floors: dict[int, int] = field(default_factory=dict)  # by stripe: it is exact as of
    fuzzy_end: int = 0
    log: Log | None = None
    digest: int = 0  # by what the records say they add
    digests: int = 0  # compared

    # ---- numbers and hashes

    @property
    def stripe_mask(self) -> int:
        return (1 << self.identity.stripe_bits) - 1

    def _sip(self, tweak: int, message: bytes) -> int:
        low, high = struct.unpack("<QQ", self.identity.hash_key)
        return sip((low, high), tweak, message)

    def seller_tweak(self, seller: int) -> int:
        return self._sip(0x73656C6C6572, self.names[SELLER][seller].encode())

    def id_stripe(self, seller: int, own_id: str | bytes) -> int:
        tweak = self.seller_tweak(seller)
        if isinstance(own_id, str):
            return self._sip(tweak ^ 1, own_id.encode()) & self.stripe_mask
        return self._sip(tweak, own_id) & self.stripe_mask

    def sku_hash(self, seller: int, name: str) -> int:
        return self._sip(self.seller_tweak(seller), name.encode())

    # ---- digests

    def hold_digest(self, hold: Hold) -> int:
        if hold.ended:
            return 0
        text = isinstance(hold.id, str)
        if isinstance(hold.id, str):
            name = hold.id.encode()
            first, second = self._sip(self.seller_tweak(hold.seller) ^ 1, name), len(name)
        else:
            first, second = struct.unpack("<QQ", hold.id)
        lines = hold.lines or []
        head = hold.seller | hold.state << 16 | text << 24 | hold.account << 32
        body = hold.body | len(lines) << 32 | (4 if hold.whole else 0) << 48
        deadline = hold.deadline if hold.state == HELD else 0
        return sum(
            mix(
                3, first, second, head, body, deadline,
                line.sku | line.qty << 32,
                line.held | line.allocated << 32,
                line.shipped | line.location << 32 | line.free << 48,
            )
            for line in lines
        )  # fmt: skip

    def full_digest(self, stripe: int | None = None) -> int:
        """Of what there is, in one stripe or in all."""

        def mine(number: int) -> bool:
            return stripe is None or number & self.stripe_mask == stripe

        rows = sum(
            mix(
                1,
                sku | self.sku_hash(*self.skus[sku]) >> 32 << 32,
                row.on_hand | row.held << 32,
                row.allocated | location << 32,
            )
            for (sku, location), row in self.rows.items()
            if mine(sku) and (row.on_hand or row.held or row.allocated)
        )
        policies = sum(
            mix(2, sku | location << 32, safety)
            for (sku, location), safety in self.policies.items()
            if mine(sku)
        )
        holds = sum(self.hold_digest(hold) for hold in self.holds.values() if mine(hold.home))
        return (rows + policies + holds) & WORD

    def apply_digest(self, entry: Entry, record: Record) -> None:
        blob = entry.blob or b""
        need(len(blob) == 16, "DIGEST")
        value, before = struct.unpack("<QQ", blob)
        need(before < record.lsn and (before > 0 or value == 0), "DIGEST")
        if before == 0 or record.lsn < self.fuzzy_end:
            return
        need(self.full_digest() == value, "the digest of what there is")
        # Behind a snapshot the sum begins with the first that is told.
        if self.digests > 0 or self.snapshot_lsn == 0:
            need(self.digest == value, "the sum of the digests' deltas")
        self.digest = value
        self.digests += 1

    # ---- replay

    def in_copy(self, stripe: int, record: Record) -> bool:
        return record.end <= self.floors.get(stripe, 0)

    def apply(self, record: Record) -> None:
        time = struct.unpack_from("<Q", record.payload)[0]
        self.engine_ms = max(self.engine_ms, time)
        for entry in entries_of(record):
            if entry.kind == NAME:
                self.apply_name(entry, record)
            elif entry.kind == CLOCK_TICK:
                self.apply_tick(entry, time)
            elif entry.kind == FORMAT_GATE:
                self.apply_gate(entry)
            elif entry.kind == DIGEST:
                self.apply_digest(entry, record)
            elif entry.kind == SNAPSHOT_MARK:
                need(entry.blob is not None and len(entry.blob) == 16, "SNAPSHOT_MARK")
            elif entry.kind == OPERATOR_ACT:
                need(entry.blob is not None and len(entry.blob) == 24, "OPERATOR_ACT")
            elif entry.kind in STOCK:
                self.apply_stock(entry, record, time)
            else:
                self.apply_hold(entry, record, time)
        self.digest = self.digest + struct.unpack_from("<Q", record.payload, 8)[0] & WORD

    def apply_name(self, entry: Entry, record: Record) -> None:
        need(entry.blob is not None, "NAME without a text")
        text, number, kind = (entry.blob or b"").decode(), entry.account, entry.body
        if kind == SKU:
            stripe = self.sku_hash(entry.seller, text) & self.stripe_mask
            if not self.in_copy(stripe, record):
                self.add_sku(stripe, entry.seller, text, number)
        elif kind == REFERENCE:
            self.references_next = max(self.references_next, number + 1)
        elif kind in self.names:
            known = self.names[kind]
            if number < len(known) and record.end <= self.fuzzy_end:
                need(known[number] == text, "a name that has changed")
                return
            need(number == len(known), "a name out of order")
            known.append(text)
        else:
            raise Unknown(f"a name of kind {kind}")

    def add_sku(self, stripe: int, seller: int, text: str, number: int | None = None) -> int:
        place = self.sku_counts.get(stripe, 0)
        own = place << self.identity.stripe_bits | stripe
        need(number is None or number == own, "number of a SKU")
        self.sku_counts[stripe] = place + 1
        self.skus[own] = (seller, text)
        return own

    def apply_gate(self, entry: Entry) -> None:
        blob = entry.blob or b""
        need(len(blob) == 16, "FORMAT_GATE")
        major, minor, _, features = struct.unpack("<HHIQ", blob)
        check_format("FORMAT_GATE", major, minor, features)
        self.format = max(self.format, (major, minor))

    def apply_tick(self, entry: Entry, time: int) -> None:
        blob = entry.blob or b""
        need(len(blob) == 40, "CLOCK_TICK")
        self.forget()
        self.tick = struct.unpack("<5Q", blob)
        self.tick_ms = time

    def forget(self) -> None:
        """What the last tick says."""
        if self.tick is None:
            return
        _, window_start, forgotten_lsn, _, _ = self.tick
        for queue in self.queues.values():
            while queue and (queue[0].ended_ms < window_start or queue[0].lsn <= forgotten_lsn):
                gone = queue.popleft()
                key = (gone.op, gone.seller, gone.id)
                if self.holds.get(key) is gone:
                    del self.holds[key]

    def apply_line(self, line: Line, record: Record) -> None:
        need(line.sku in self.skus, "an unknown SKU number")
        if line.location != NO_LOCATION:
            need(line.location < len(self.names[LOCATION]), "an unknown location number")
        if self.in_copy(line.sku & self.stripe_mask, record):
            return
        key = (line.sku, line.location)
        if line.op == SET_SAFETY:
            if line.location == NO_LOCATION:
                for other in self.policies:
                    if other[0] == line.sku:
                        self.policies[other] = line.qty
            else:
                self.rows.setdefault(key, Row())
            self.policies[key] = line.qty
            return
        need(line.location != NO_LOCATION, "a line without a location")
        row = self.rows.setdefault(key, Row())
        on_hand, held, allocated, _ = OPERATIONS[line.op]
        row.on_hand += on_hand * line.qty
        row.held += held * line.qty
        row.allocated += allocated * line.qty
        figures = (row.on_hand, row.held, row.allocated)
        need(min(figures) >= 0 and max(figures) <= QTY_MAX, "a figure of a row")

    def open_hold(self, hold: Hold) -> Hold:
        key = (hold.op, hold.seller, hold.id)
        old = self.holds.get(key)
        need(old is None or old.ended, "an id that is taken")
        self.holds[key] = hold  # an ended one was forgotten live: it waits in its queue
        return hold

    def enqueue(self, hold: Hold) -> None:
        self.queues.setdefault(hold.home, deque()).append(hold)

    def open_op(self, entry: Entry, op_id: str | bytes, home: int, time: int) -> None:
        hold = Hold(entry.seller, op_id, home, op=True, kind=entry.kind, lines=None)
        hold.account, hold.body = entry.account, entry.body
        hold.ended_ms, hold.lsn = time, entry.lsn
        self.enqueue(self.open_hold(hold))

    def apply_stock(self, entry: Entry, record: Record, time: int) -> None:
        need(len(entry.lines) == 1, "a stock change of one line")
        self.apply_line(entry.lines[0], record)
        stripe = entry.lines[0].sku & self.stripe_mask
        if entry.id is not None and not self.in_copy(stripe, record):
            self.open_op(entry, entry.id, stripe, time)

    def home_of(self, entry: Entry) -> int:
        if entry.lines:
            return min(line.sku & self.stripe_mask for line in entry.lines)
        assert entry.id is not None
        return self.id_stripe(entry.seller, entry.id)

    def apply_hold(self, entry: Entry, record: Record, time: int) -> None:
        need(entry.id is not None, "an entry without an id")
        assert entry.id is not None
        need(entry.seller < len(self.names[SELLER]), "an unknown seller number")
        need(entry.account < len(self.names[ACCOUNT]), "an unknown account number")
        hold = self.holds.get((False, entry.seller, entry.id))
        if entry.kind in (RESERVE, TOMBSTONE):
            home = self.home_of(entry)
            if not self.in_copy(home, record):
                hold = self.open_hold(Hold(entry.seller, entry.id, home))
        else:
            need(hold is not None, "an unknown reservation")
            assert hold is not None
            home = hold.home
        for line in entry.lines:
            self.apply_line(line, record)
        if self.in_copy(home, record):
            return
        assert hold is not None
        if entry.kind == RESERVE:
            hold.lines = [HoldLine(x.sku, x.location, x.free, x.qty, x.qty) for x in entry.lines]
            hold.account, hold.body = entry.account, entry.body
            hold.units = sum(line.qty for line in entry.lines)
            hold.state, hold.deadline = HELD, time + entry.deadline
        elif entry.kind == EXTEND:
            need(hold.state == HELD, "EXTEND")
            hold.deadline = time + entry.deadline
        elif entry.kind == TOMBSTONE:
            hold.state, hold.ended_ms, hold.lines = RELEASED, time, None
            self.enqueue(hold)
        else:
            self.move(hold, entry, time)
        need(hold.state == entry.state, "the state an entry says")
        hold.lsn = entry.lsn
        if entry.op_id is not None:
            self.open_op(entry, entry.op_id, home, time)

    def move(self, hold: Hold, entry: Entry, time: int) -> None:
        if hold.ended:
            need(hold.state == EXPIRED and entry.kind == COMMIT, "a change of an ended one")
            self.queues[hold.home].remove(hold)
        need(hold.lines is not None, "lines of an ended one")
        lines = hold.lines or []
        for change in entry.lines:
            where = (change.sku, change.location, change.free)
            mine = [x for x in lines if (x.sku, x.location, x.free) == where]
            need(len(mine) == 1, "a line that the reservation has not")
            mine[0].move(change.op, change.qty)
        hold.whole |= entry.kind == COMMIT and entry.whole
        if any(line.held for line in lines):
            hold.state = HELD
        elif any(line.allocated for line in lines):
            hold.state = ALLOCATED
        elif any(line.shipped for line in lines):
            hold.state = SHIPPED
        else:
            hold.state = {CANCEL: CANCELLED, EXPIRE: EXPIRED}.get(entry.kind, RELEASED)
        if hold.ended:
            hold.ended_ms = hold.deadline if entry.kind == EXPIRE else time
            self.enqueue(hold)

    # ---- answers

    def safety_stock(self, sku: int, location: int) -> int:
        own = self.policies.get((sku, location))
        return self.policies.get((sku, NO_LOCATION), 0) if own is None else own

    def levels(self) -> dict[tuple[str, str, str], tuple[int, int, int, int]]:
        """(seller, SKU, location): on_hand, held, allocated, safety stock."""
        found = {}
        for (sku, location), row in self.rows.items():
            seller, name = self.skus[sku]
            key = (self.names[SELLER][seller], name, self.names[LOCATION][location])
            safety = self.safety_stock(sku, location)
            found[key] = (row.on_hand, row.held, row.allocated, safety)
        return found

    def reservations(self) -> dict[tuple[str, str], Hold]:
        """(seller, id as shown): those whose ids are known."""
        return {
            (self.names[SELLER][hold.seller], shown(hold.id)): hold
            for hold in self.holds.values()
            if not hold.op
        }

    def op_ids(self) -> dict[tuple[str, str], Hold]:
        return {
            (self.names[SELLER][hold.seller], shown(hold.id)): hold
            for hold in self.holds.values()
            if hold.op
        }


def shown(own_id: str | bytes) -> str:
    return own_id if isinstance(own_id, str) else str(uuid.UUID(bytes=own_id))


# ---- snapshots -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    kind: int
    stripe: int
    count: int
    payload: bytes


def sections_of(data: bytes, seed: int, index: bytes) -> tuple[int, int, list[Section]]:
    """Of one block: its stripe, its flags, its sections."""
    offset, sequence, length, stripe, flags, check, zero = struct.unpack("<QIIIIII", index)
    padded = (length + 7) // 8 * 8
    head = data[offset : offset + 32]
    need(offset % 4096 == 0 and offset + 32 + padded <= len(data), "place of a block")
    need((32 + padded + 4095) // 4096 * 4096 <= 1 << 20, "bytes of a block")
    expected = b"BLCK" + struct.pack("<IIIIII", sequence, length, stripe, flags, check, 0)
    need(head[:28] == expected and zero == 0, "header of a block")
    need(struct.unpack_from("<I", head, 28)[0] == crc(seed, head[:28]), "CRC of a block header")
    body = data[offset + 32 : offset + 32 + padded]
    need(check == crc(0, body), "CRC of a block")
    found, at = [], 0
    while at < length:
        need(length - at >= 16, "a section's header")
        kind, own, count, size = struct.unpack_from("<IIII", body, at)
        need(size % 8 == 0 and at + 16 + size <= length, "a section's bytes")
        found.append(Section(kind, own, count, body[at + 16 : at + 16 + size]))
        at += 16 + size
    return stripe, flags, found


@dataclass
class Snapshot:
    """Loads a file into an empty store."""

    store: Store
    data: bytes
    start: int
    end: int = 0
    clock: bool = False
    totals: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    # Of the stripe at hand: what is to come, SKUs there are, names and rows still to be filled.
    left: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[int, int, int, int]] = field(default_factory=list)
    numbers: list[tuple[int, int]] = field(default_factory=list)
    row_at: list[int] = field(default_factory=list)
    stripe_last: int = -1
    digest: int = 0

    def load(self) -> None:
        data, identity = self.data, self.store.identity
        need(len(data) >= 4128 and data[:8] == b"INVSNAP\1", "header")
        need(crc(0, data[:4092]) == struct.unpack_from("<I", data, 4092)[0], "CRC of the header")
        major, minor, header_bytes = struct.unpack_from("<HHI", data, 8)
        check_format("snapshot", major, minor, struct.unpack_from("<Q", data, 88)[0])
        created, bits, zero, start = struct.unpack_from("<QIIQ", data, 48)
        own = Identity(data[16:32], data[32:48], created, bits)
        need(own == identity and start == self.start, "of another store or name")
        need(header_bytes == 4096 and zero == 0 and not any(data[104:4092]), "header")
        self.store.format = max(self.store.format, (major, minor))
        index = self.footer()
        blocks = [sections_of(data, identity.seed, entry) for entry in index]
        for stripe, _, sections in blocks:  # names of sellers come first: hashes need them
            if stripe == NONE:
                for section in sections:
                    self.load_global(section)
        begun = False
        for stripe, flags, sections in blocks:
            if stripe == NONE:
                begun = True
                continue
            need(not begun, "a stripe behind what belongs to none")
            need(bool(flags & 1) == (sections[0].kind == 1), "flags of a block")
            need(sections[0].stripe == stripe, "stripe of a block")
            for section in sections:
                self.load_section(section)
        self.finish_stripe()
        need(self.clock and self.totals == list(self.expected), "totals")

    def footer(self) -> list[bytes]:
        data = self.data
        trailer = data[-32:]
        offset, size, zero, check = struct.unpack_from("<QQII", trailer)
        need(trailer[24:] == b"INVSNEND" and zero == 0, "trailer")
        need(check == crc(self.store.identity.seed, trailer[:20]), "CRC of the trailer")
        need(offset % 4096 == 0 and offset + size == len(data) - 32, "trailer")
        footer = data[offset : offset + size]
        need(size >= 72 and footer[:8] == b"INVSNAPF", "footer")
        start, self.end, blocks, *self.expected = struct.unpack_from("<7Q", footer, 8)
        need(start == self.start and self.end >= start and size == 72 + 32 * blocks, "footer")
        check, zero = struct.unpack_from("<II", footer, size - 8)
        need(check == crc(0, footer[:-8]) and zero == 0, "CRC of the footer")
        return [footer[64 + 32 * i : 96 + 32 * i] for i in range(blocks)]

    def load_global(self, section: Section) -> None:
        store = self.store
        if section.kind == 8:
            need(not self.clock and section.count == 1 and len(section.payload) == 80, "CLOCK")
            self.clock = True
            store.engine_ms, store.tick_ms = struct.unpack_from("<QQ", section.payload)
            store.tick = struct.unpack_from("<5Q", section.payload, 16)
            need(store.tick[1] == store.tick[2] == 0, "CLOCK: forgets")
            store.references_next = struct.unpack_from("<I", section.payload, 56)[0]
            return
        if section.kind != 7:
            raise Unknown(f"a section of kind {section.kind}")
        names, at = store.names[section.stripe], 0
        for _ in range(section.count):
            number, length = struct.unpack_from("<IH", section.payload, at)
            text = section.payload[at + 6 : at + 6 + length].decode()
            at += 6 + length
            if number < len(names):
                need(number == 0 and names[0] == text, "a name told twice")
            else:
                need(number == len(names), "a name out of order")
                names.append(text)
        need(len(section.payload) - at < 8 and not any(section.payload[at:]), "padding")

    def finish_stripe(self) -> None:
        need(not any(self.left.values()), "an incomplete stripe")
        found = self.store.full_digest(self.stripe_last) if self.stripe_last >= 0 else 0
        need(found == self.digest, "the digest of a stripe")

    def load_section(self, section: Section) -> None:
        kind, payload = section.kind, section.payload
        if kind == 1:
            self.finish_stripe()
            need(section.stripe > self.stripe_last and section.count == 1, "order of stripes")
            self.stripe_last = section.stripe
            lsn, *counts = struct.unpack_from("<Q6I", payload)
            need(len(payload) == 40 and lsn > 0, "STRIPE")
            self.digest = struct.unpack_from("<Q", payload, 32)[0]
            names = ("skus", "rows", "name_bytes", "policies", "holds", "ended")
            self.left = dict(zip(names, counts, strict=True))
            self.totals = [
                total + self.left[name]
                for total, name in zip(self.totals, ("skus", "rows", "holds", "ended"), strict=True)
            ]
            self.store.floors[section.stripe] = lsn
            self.pending, self.numbers = [], []
            return
        need(section.stripe == self.stripe_last, "a section of another stripe")
        load = {
            2: self.load_skus, 3: self.load_names, 4: self.load_rows, 5: self.load_policies,
            6: self.load_holds,
        }.get(kind)  # fmt: skip
        if load is None:
            raise Unknown(f"a section of kind {kind}")
        used = load(section)
        need(len(payload) - used < 8 and not any(payload[used:]), "padding of a section")

    def load_skus(self, section: Section) -> int:
        for i in range(section.count):
            name_hash, seller, length, flags, rows, zero = struct.unpack_from(
                "<IHBBHH", section.payload, 12 * i
            )
            need(zero == 0 and flags <= 1, "SKUS")
            self.pending.append((name_hash, seller, length, rows))
        self.left["skus"] -= section.count
        return 12 * section.count

    def load_names(self, section: Section) -> int:
        at = 0
        for _ in range(section.count):
            name_hash, seller, length, rows = self.pending[len(self.numbers)]
            text = section.payload[at : at + length].decode()
            at += length
            full = self.store.sku_hash(seller, text)
            need(full >> 32 == name_hash, "hash of a name")
            need(full & self.store.stripe_mask == section.stripe, "stripe of a name")
            self.numbers.append((self.store.add_sku(section.stripe, seller, text), rows))
        self.left["name_bytes"] -= at
        self.row_at = [number for number, rows in self.numbers for _ in range(rows)]
        self.row_at.reverse()
        return at

    def load_rows(self, section: Section) -> int:
        for i in range(section.count):
            on_hand, held, allocated, location, flags = struct.unpack_from(
                "<IIIHH", section.payload, 16 * i
            )
            need(flags <= 1, "flags of a row")
            self.store.rows[self.row_at.pop(), location] = Row(on_hand, held, allocated)
        self.left["rows"] -= section.count
        return 16 * section.count

    def load_policies(self, section: Section) -> int:
        for i in range(section.count):
            place, location, zero, safety = struct.unpack_from("<IHHI", section.payload, 12 * i)
            need(zero == 0, "POLICIES")
            self.store.policies[self.numbers[place][0], location] = safety
        self.left["policies"] -= section.count
        return 12 * section.count

    def load_holds(self, section: Section) -> int:
        at = 0
        for _ in range(section.count):
            at = self.load_hold(section, at)
        self.left["holds"] -= section.count
        return at

    def load_hold(self, section: Section, at: int) -> int:
        payload, store = section.payload, self.store
        kind, state, by, flags, line_count, length, lsn, when = struct.unpack_from(
            "<BBBBHHQQ", payload, at
        )
        sku, qty, account, body, location, seller, zero = struct.unpack_from(
            "<IIIIHHI", payload, at + 24
        )
        need(kind <= 7 and by <= 7 and flags <= 15 and zero == 0, "bits of a hold")
        need((length > 0) == bool(kind & 1) and length <= 64, "text of a hold's id")
        own_id: str | bytes = payload[at + 48 : at + 64]
        at += 64
        if kind & 1:
            need(not any(own_id), "a UUID beside a text")
            own_id = payload[at : at + length].decode()
            need(not any(payload[at + length : at + (length + 7) // 8 * 8]), "padding of an id")
            at += (length + 7) // 8 * 8
        if kind & 4:
            need(section.stripe == store.id_stripe(seller, own_id), "home of a tombstone")
        hold = Hold(seller, own_id, section.stripe, op=bool(kind & 2), state=state, lsn=lsn)
        hold.account, hold.body, hold.whole = account, body, bool(by & 4)
        hold.lines = None
        if flags & 8:
            need(sku == 0 and not flags & 2, "a hold with lines")
            hold.lines = []
            for _ in range(line_count):
                *figures, own_location, line_flags, pad = struct.unpack_from("<5IHBB", payload, at)
                need(line_flags <= 1 and pad == 0, "a line")
                line_sku, line_qty, held, allocated, shipped = figures
                if state == EXPIRED:
                    held = 0
                hold.lines.append(
                    HoldLine(line_sku, own_location, bool(line_flags), line_qty, held, allocated,
                             shipped)
                )  # fmt: skip
                at += 24
            hold.units = sum(line.qty for line in hold.lines)
        elif flags & 2:
            hold.units = sku | qty << 32
        elif line_count == 1 and not hold.op:
            line = HoldLine(sku, location, bool(flags & 1), qty)
            line.held = qty if state == HELD else 0
            line.allocated = qty if state == ALLOCATED else 0
            line.shipped = qty if state == SHIPPED else 0
            hold.lines, hold.units = [line], qty
        if hold.op:
            need(state == 0, "state of an op_id")
            hold.kind = location
        if hold.state == HELD:
            hold.deadline = when
        elif hold.ended:
            hold.deadline = hold.ended_ms = when
        if hold.ended:
            queue = store.queues.setdefault(section.stripe, deque())
            need(not queue or queue[-1].lsn <= lsn, "order of ended ones")
            need(self.left["ended"] > 0, "ended ones come first")
            queue.append(hold)
            self.left["ended"] -= 1
        else:
            need(self.left["ended"] == 0, "ended ones come first")
        if flags & 4:
            need(hold.ended, "out of the index, and alive")
        else:
            need((hold.op, seller, own_id) not in store.holds, "an id told twice")
            store.holds[hold.op, seller, own_id] = hold
        return at


# ---- all of it -----------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def read(path: Path, *, use_snapshot: bool = True) -> Store:
    """The state at the end of the log of the (closed or copied) store at `path`."""
    slots = state_slots(read_bytes(path / "STATE"))
    need(bool(slots) or not numbered(path, "wal-"), "no STATE")
    need(bool(slots), "there is no store")
    state = max(slots, key=lambda slot: slot.sequence)
    chain = chain_of(path, state)
    store = Store(state.identity)
    if not chain:
        return store
    store = load_snapshot(path, state.identity, chain[0].base) if use_snapshot else store
    need(store.snapshot_lsn > 0 or chain[0].base == LSN_FIRST, "trimmed, and no snapshot")
    store.format = max([store.format, state.format, *(segment.format for segment in chain)])
    proofs = [
        hint_of(read_bytes(path / "HINT"), state.identity.seed),
        state.clean_lsn,
        store.fuzzy_end,
        *(segment.end for segment in chain if segment.end_exact),
    ]
    log = store.log = Log(chain, state.identity.seed, max(proofs))
    for record in log.read(store.snapshot_lsn):
        if record.type == 1:
            store.apply(record)
    store.forget()
    return store


def load_snapshot(path: Path, identity: Identity, log_begins: int) -> Store:
    """The newest that is whole and that the log reaches back to; an empty store without one."""
    for start, file in sorted(numbered(path, "snap-").items(), reverse=True):
        if start < log_begins:
            break
        store = Store(identity)
        snapshot = Snapshot(store, file.read_bytes(), start)
        try:
            snapshot.load()
        except (Damage, struct.error, IndexError, UnicodeDecodeError):
            continue
        store.snapshot_lsn, store.fuzzy_end = start, snapshot.end
        return store
    return Store(identity)
