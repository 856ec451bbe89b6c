"""The one interface of the relay's stores: rows, writes, and what can be asked.

Source: docs/spec/relay.md ("Store"). `tests/unit/relay/test_store.py` holds every store to it.

Invariants
- `apply` carries out all writes of a batch in order, in one transaction: after it returns they survive a power
  cut, and before that none is visible. A failure is StoreFailed and the process ends: an fsync is never retried.
- Reads see whole batches only, and are made on another thread than `apply`.
- Rows say what a relay must know and no more: no names of members, no room in a mailbox row, no sender anywhere.
- Times are milliseconds since 1970, numbers count from 1, ids have 16 bytes, hashes 32.

Rows and writes are named tuples, in the order of the columns, because the SQLite store binds them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from cloister.errors import UnavailableError


class StoreFailed(UnavailableError):
    """A write or its fsync failed: nothing of the batch may be acknowledged, the process must end."""

    default = "disk"


class EntryRow(NamedTuple):
    """An entry of a log. `payload` is None once its time is over; `item_hashes` are the hashes one after another."""

    log: bytes
    seq: int
    kind: str
    flags: int
    epoch: int
    token_hash: bytes
    entry_id: bytes
    payload: bytes | None
    payload_hash: bytes
    attachments_hash: bytes
    next_token_hash: bytes | None
    group_info_hash: bytes | None
    item_hashes: bytes
    ts_ms: int
    hash: bytes


class EpochRow(NamedTuple):
    """An epoch of a log: made by entry `begin` (0: a run's), ended by entry `end` (0: not yet) for `next`."""

    log: bytes
    token_hash: bytes
    label: int
    begin: int
    end: int
    next: bytes | None


class RunRow(NamedTuple):
    """A run's log: for which room (and which of its epochs), until when. `digest` names the request's bytes."""

    run: bytes
    room: bytes | None
    epoch: bytes | None
    deadline: int
    digest: bytes


class MailRow(NamedTuple):
    """A mailbox item; `body` is None when its device has it, and the row stays a day to catch repeats."""

    device: str
    number: int
    item_id: bytes
    body: bytes | None
    body_hash: bytes
    ts_ms: int


class Mailbox(NamedTuple):
    """A mailbox as a whole: the last number given, and what waits (items, bytes)."""

    last: int = 0
    items: int = 0
    size: int = 0


class InviteRow(NamedTuple):
    """A live invite: who may enrol, how often yet, until when. `owner` is a user name, "" for the operator."""

    invite: bytes
    secret_hash: bytes
    uses: int
    expires: int
    owner: str


class StagedRow(NamedTuple):
    """What a device has sent in parts so far: `received` of `size` bytes."""

    hash: bytes
    size: int
    received: int
    expires: int


class PrekeyRow(NamedTuple):
    """A key package: whose, of which suite, what was declared of it, and its bytes."""

    device: str
    suite: str
    ref: bytes
    not_before: int
    not_after: int
    last_resort: bool
    package: bytes


class Counts(NamedTuple):
    """Totals for `status` and reports."""

    logs: int
    entries: int
    payload_bytes: int
    mail_items: int


# --- writes -------------------------------------------------------------------------------------------------


class PutMeta(NamedTuple):
    """Keep a value of the relay's own (authority state, incarnation)."""

    key: str
    value: bytes


class PutEntries(NamedTuple):
    """Append entries of one log, at least one; the seq of each is one more than the last."""

    rows: list[EntryRow]


class PutEpoch(NamedTuple):
    """A new epoch, or the end of one (same key)."""

    row: EpochRow


class PutRun(NamedTuple):
    """A new run."""

    row: RunRow


class PutGroupInfo(NamedTuple):
    """The sealed group info of commit `seq` of a room."""

    log: bytes
    seq: int
    ts_ms: int
    body: bytes


class PutMail(NamedTuple):
    """A mailbox item; its number is one more than the mailbox's last."""

    row: MailRow


class AckMail(NamedTuple):
    """Empty the items up to a number; their rows stay until `Purge`."""

    device: str
    upto: int
    now: int


class DropMailbox(NamedTuple):
    """A revoked device's items and mailbox key go."""

    device: str


class PutMailKey(NamedTuple):
    """A device's newest mailbox key statement."""

    device: str
    statement: bytes


class PutInvite(NamedTuple):
    """A new invite, or its state after a use (same id); with no uses left the row goes."""

    row: InviteRow


class PutEnrolment(NamedTuple):
    """The answer to an enrolment, so that the same bytes get it again."""

    invite: bytes
    digest: bytes
    reply: bytes
    ts_ms: int


class PutPart(NamedTuple):
    """The next part of staged bytes."""

    device: str
    hash: bytes
    size: int
    offset: int
    data: bytes
    expires: int


class DropStaged(NamedTuple):
    """Staged bytes were used, or do not hash to their name."""

    device: str
    hash: bytes


class PutPrekey(NamedTuple):
    """A key package."""

    row: PrekeyRow


class DropPrekey(NamedTuple):
    """A key package was claimed, replaced, or is past its time."""

    device: str
    suite: str
    ref: bytes


class DropPrekeys(NamedTuple):
    """A revoked device's key packages go."""

    device: str


class DropLog(NamedTuple):
    """A log and its epochs go: a guest room whose time is over."""

    log: bytes


class Purge(NamedTuple):
    """Forget what is past its time: payloads, group infos, runs, mail, invites, parts, enrolments, key packages."""

    now: int


Write = (
    PutMeta | PutEntries | PutEpoch | PutRun | PutGroupInfo | PutMail | AckMail | DropMailbox | PutMailKey
    | PutInvite | PutEnrolment | PutPart | DropStaged | PutPrekey | DropPrekey | DropPrekeys | DropLog | Purge
)  # fmt: skip


class Store(Protocol):
    """What the rules ask of a store."""

    def brief(self, writes: Sequence[Write]) -> bool:
        """Whether `apply` of these is one short statement; asked when nothing is being applied."""
        ...

    def apply(self, writes: Sequence[Write]) -> None:
        """Carry out all writes in one durable transaction; StoreFailed leaves nothing of them."""
        ...

    def refresh(self) -> None:
        """Later reads see everything applied so far (a reader may hold a snapshot between two calls)."""
        ...

    def idle(self) -> None:
        """Called about once a second: let go of what must not be held for long."""
        ...

    def close(self) -> None:
        """Release files; no call may follow."""
        ...

    def meta(self, key: str) -> bytes | None:
        """A value of the relay's own."""
        ...

    def last(self, log: bytes) -> EntryRow | None:
        """The newest entry of a log."""
        ...

    def entry(self, log: bytes, entry_id: bytes) -> EntryRow | None:
        """An entry by the id its sender made."""
        ...

    def entries(self, log: bytes, after: int, upto: int) -> Iterator[EntryRow]:
        """Entries after < seq <= upto, in order, fetched as they are taken; close the iterator when done."""
        ...

    def epoch(self, log: bytes, token_hash: bytes) -> EpochRow | None:
        """An epoch of a log."""
        ...

    def group_info(self, log: bytes, seq: int, offset: int, most: int) -> tuple[int, bytes] | None:
        """Of the group info of commit `seq`: its size, and at most `most` of its bytes from `offset` on."""
        ...

    def run(self, run: bytes) -> RunRow | None:
        """A run."""
        ...

    def runs_of(self, room: bytes) -> list[RunRow]:
        """All runs kept for a room."""
        ...

    def mailbox(self, device: str) -> Mailbox:
        """Totals of a mailbox."""
        ...

    def mail(self, device: str, after: int, most: int) -> list[MailRow]:
        """Waiting items with a greater number, in order, at most `most`."""
        ...

    def mail_item(self, device: str, item_id: bytes) -> MailRow | None:
        """An item by its id, delivered or not."""
        ...

    def mail_key(self, device: str) -> bytes | None:
        """A device's mailbox key statement."""
        ...

    def invite(self, invite: bytes) -> InviteRow | None:
        """An invite with uses left."""
        ...

    def invites_of(self, owner: str, now: int) -> int:
        """How many live invites a user has."""
        ...

    def enrolment(self, invite: bytes, digest: bytes) -> bytes | None:
        """The answer that these bytes got."""
        ...

    def staged(self, device: str) -> list[StagedRow]:
        """What a device has sent in parts, expired or not."""
        ...

    def parts(self, device: str, digest: bytes) -> bytes:
        """The staged bytes so far."""
        ...

    def prekeys(self, device: str, suite: str) -> list[PrekeyRow]:
        """A device's key packages of a suite, in the order of their upload, without their bytes."""
        ...

    def prekey(self, device: str, suite: str, ref: bytes) -> PrekeyRow | None:
        """One key package."""
        ...

    def counts(self) -> Counts:
        """Totals."""
        ...
