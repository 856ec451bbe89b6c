"""The store in memory: for the simulation and for tests. It crashes on command and forgets nothing it applied.

Source: docs/spec/relay.md ("Store"). `apply` works on a copy of nothing: writes are plain dictionary changes
that cannot fail half way, except by `fail`, which makes the next `apply` raise before it changes anything.
`snapshot` gives an independent store with the same rows: what a restart (or a restored disk) finds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Final

from cloister.relay.store import retention
from cloister.relay.store.interface import (
    AckMail,
    Counts,
    DropLog,
    DropMailbox,
    DropPrekey,
    DropPrekeys,
    DropStaged,
    EntryRow,
    EpochRow,
    InviteRow,
    Mailbox,
    MailRow,
    PrekeyRow,
    Purge,
    PutEnrolment,
    PutEntries,
    PutEpoch,
    PutGroupInfo,
    PutInvite,
    PutMail,
    PutMailKey,
    PutMeta,
    PutPart,
    PutPrekey,
    PutRun,
    RunRow,
    StagedRow,
    StoreFailed,
    Write,
)
from cloister.wire.frames import REALM_LOG


class MemoryStore:
    """All rows in dictionaries."""

    def __init__(self) -> None:
        self._meta: dict[str, bytes] = {}
        self._entries: dict[bytes, list[EntryRow]] = {}
        self._ids: dict[tuple[bytes, bytes], int] = {}
        self._epochs: dict[tuple[bytes, bytes], EpochRow] = {}
        self._runs: dict[bytes, RunRow] = {}
        self._group_infos: dict[tuple[bytes, int], PutGroupInfo] = {}
        self._last_mail: dict[str, int] = {}
        self._mail: dict[str, list[MailRow]] = {}
        self._mail_keys: dict[str, bytes] = {}
        self._invites: dict[bytes, InviteRow] = {}
        self._enrolments: dict[tuple[bytes, bytes], tuple[bytes, int]] = {}
        self._staged: dict[tuple[str, bytes], tuple[int, int, bytes]] = {}
        self._prekeys: dict[tuple[str, str, bytes], PrekeyRow] = {}
        self._broken = False

    # --- for tests ------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """Let the next `apply` fail as a disk does."""
        self._broken = True

    def snapshot(self) -> MemoryStore:
        """A store of its own with the rows of now."""
        copy = MemoryStore()
        copy.__dict__.update(deepcopy(self.__dict__))
        return copy

    # --- writing --------------------------------------------------------------------------------------------

    def brief(self, writes: Sequence[Write]) -> bool:
        """See `Store.brief`."""
        return True

    def apply(self, writes: Sequence[Write]) -> None:
        """See `Store.apply`."""
        if self._broken:
            self._broken = False
            raise StoreFailed("disk", "as the test asked")
        for write in writes:
            _APPLY[type(write)](self, write)

    def refresh(self) -> None:
        """Nothing to do: reads see everything at once."""

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def put_meta(self, write: PutMeta) -> None:
        """Keep a value."""
        self._meta[write.key] = write.value

    def put_entries(self, write: PutEntries) -> None:
        """Append entries."""
        entries = self._entries.setdefault(write.rows[0].log, [])
        for row in write.rows:
            if row.seq != (entries[-1].seq if entries else 0) + 1:
                raise StoreFailed("disk", "an entry out of order")
            entries.append(row)
            self._ids[row.log, row.entry_id] = row.seq

    def put_epoch(self, write: PutEpoch) -> None:
        """Keep an epoch."""
        self._epochs[write.row.log, write.row.token_hash] = write.row

    def put_run(self, write: PutRun) -> None:
        """Keep a run."""
        self._runs[write.row.run] = write.row

    def put_group_info(self, write: PutGroupInfo) -> None:
        """Keep a commit's group info."""
        self._group_infos[write.log, write.seq] = write

    def put_mail(self, write: PutMail) -> None:
        """Append to a mailbox."""
        row = write.row
        self._mail.setdefault(row.device, []).append(row)
        self._last_mail[row.device] = row.number

    def ack_mail(self, write: AckMail) -> None:
        """Empty delivered items; `ts_ms` becomes the time from which a day is counted."""
        self._mail[write.device] = [
            row._replace(body=None, ts_ms=write.now) if row.body is not None and row.number <= write.upto else row
            for row in self._mail.get(write.device, [])
        ]

    def drop_mailbox(self, write: DropMailbox) -> None:
        """Forget a device's mail and key; its numbers go on."""
        self._mail.pop(write.device, None)
        self._mail_keys.pop(write.device, None)

    def put_mail_key(self, write: PutMailKey) -> None:
        """Keep a statement."""
        self._mail_keys[write.device] = write.statement

    def put_invite(self, write: PutInvite) -> None:
        """Keep an invite while it has uses."""
        if write.row.uses > 0:
            self._invites[write.row.invite] = write.row
        else:
            self._invites.pop(write.row.invite, None)

    def put_enrolment(self, write: PutEnrolment) -> None:
        """Keep an answer."""
        self._enrolments[write.invite, write.digest] = write.reply, write.ts_ms

    def put_part(self, write: PutPart) -> None:
        """Append a part."""
        _, _, data = self._staged.get((write.device, write.hash), (0, 0, b""))
        self._staged[write.device, write.hash] = write.size, write.expires, data + write.data

    def drop_staged(self, write: DropStaged) -> None:
        """Forget staged bytes."""
        self._staged.pop((write.device, write.hash), None)

    def put_prekey(self, write: PutPrekey) -> None:
        """Keep a key package."""
        self._prekeys[write.row[:3]] = write.row

    def drop_prekey(self, write: DropPrekey) -> None:
        """Forget a key package."""
        self._prekeys.pop((write.device, write.suite, write.ref), None)

    def drop_prekeys(self, write: DropPrekeys) -> None:
        """Forget a device's key packages."""
        self._prekeys = {key: row for key, row in self._prekeys.items() if row.device != write.device}

    def purge(self, write: Purge) -> None:
        """Forget what is past its time (`retention`)."""
        times = retention.Times.at(write.now)
        for entries in self._entries.values():
            for index, row in enumerate(entries):
                if row.payload is not None and row.log != REALM_LOG and times.over(row.kind, row.ts_ms):
                    entries[index] = row._replace(payload=None)
        for run in [row.run for row in self._runs.values() if row.deadline < times.runs]:
            self._forget_log(run)
        for device, rows in self._mail.items():
            self._mail[device] = [row for row in rows if not times.mail_over(row)]
        self._group_infos = {key: row for key, row in self._group_infos.items() if row.ts_ms >= times.mail}
        self._invites = {key: row for key, row in self._invites.items() if row.expires >= write.now}
        self._staged = {key: row for key, row in self._staged.items() if row[1] >= write.now}
        self._enrolments = {key: row for key, row in self._enrolments.items() if row[1] >= times.enrolments}
        self._prekeys = {key: row for key, row in self._prekeys.items() if row.not_after >= write.now}

    def drop_log(self, write: DropLog) -> None:
        """Forget a log."""
        self._forget_log(write.log)

    def _forget_log(self, log: bytes) -> None:
        for row in self._entries.pop(log, []):
            del self._ids[log, row.entry_id]
        self._epochs = {key: row for key, row in self._epochs.items() if key[0] != log}
        self._runs.pop(log, None)

    # --- reading --------------------------------------------------------------------------------------------

    def meta(self, key: str) -> bytes | None:
        """See `Store`."""
        return self._meta.get(key)

    def last(self, log: bytes) -> EntryRow | None:
        """See `Store`."""
        entries = self._entries.get(log)
        return entries[-1] if entries else None

    def entry(self, log: bytes, entry_id: bytes) -> EntryRow | None:
        """See `Store`."""
        seq = self._ids.get((log, entry_id))
        return None if seq is None else self._entries[log][seq - 1]

    def entries(self, log: bytes, after: int, upto: int) -> Iterator[EntryRow]:
        """See `Store`."""
        rows = self._entries.get(log, [])
        yield from rows[bisect_right(rows, after, key=lambda row: row.seq) : upto]

    def epoch(self, log: bytes, token_hash: bytes) -> EpochRow | None:
        """See `Store`."""
        return self._epochs.get((log, token_hash))

    def group_info(self, log: bytes, seq: int, offset: int, most: int) -> tuple[int, bytes] | None:
        """See `Store`."""
        row = self._group_infos.get((log, seq))
        return None if row is None else (len(row.body), row.body[offset : offset + most])

    def run(self, run: bytes) -> RunRow | None:
        """See `Store`."""
        return self._runs.get(run)

    def runs_of(self, room: bytes) -> list[RunRow]:
        """See `Store`."""
        return [row for row in self._runs.values() if row.room == room]

    def mailbox(self, device: str) -> Mailbox:
        """See `Store`."""
        bodies = [row.body for row in self._mail.get(device, []) if row.body is not None]
        return Mailbox(self._last_mail.get(device, 0), len(bodies), sum(map(len, bodies)))

    def mail(self, device: str, after: int, most: int) -> list[MailRow]:
        """See `Store`."""
        waiting = [row for row in self._mail.get(device, []) if row.body is not None and row.number > after]
        return waiting[:most]

    def mail_item(self, device: str, item_id: bytes) -> MailRow | None:
        """See `Store`."""
        return next((row for row in self._mail.get(device, []) if row.item_id == item_id), None)

    def mail_key(self, device: str) -> bytes | None:
        """See `Store`."""
        return self._mail_keys.get(device)

    def invite(self, invite: bytes) -> InviteRow | None:
        """See `Store`."""
        return self._invites.get(invite)

    def invites_of(self, owner: str, now: int) -> int:
        """See `Store`."""
        return sum(row.owner == owner and row.expires >= now for row in self._invites.values())

    def enrolment(self, invite: bytes, digest: bytes) -> bytes | None:
        """See `Store`."""
        found = self._enrolments.get((invite, digest))
        return found[0] if found else None

    def staged(self, device: str) -> list[StagedRow]:
        """See `Store`."""
        return [
            StagedRow(digest, size, len(data), expires)
            for (owner, digest), (size, expires, data) in self._staged.items()
            if owner == device
        ]

    def parts(self, device: str, digest: bytes) -> bytes:
        """See `Store`."""
        return self._staged.get((device, digest), (0, 0, b""))[2]

    def prekeys(self, device: str, suite: str) -> list[PrekeyRow]:
        """See `Store`."""
        return [row._replace(package=b"") for row in self._prekeys.values() if row[:2] == (device, suite)]

    def prekey(self, device: str, suite: str, ref: bytes) -> PrekeyRow | None:
        """See `Store`."""
        return self._prekeys.get((device, suite, ref))

    def counts(self) -> Counts:
        """See `Store`."""
        rows = [row for entries in self._entries.values() for row in entries]
        waiting = sum(row.body is not None for mail in self._mail.values() for row in mail)
        return Counts(len(self._entries), len(rows), sum(len(row.payload or b"") for row in rows), waiting)


_APPLY: Final[dict[type[Any], Callable[[MemoryStore, Any], None]]] = {
    PutMeta: MemoryStore.put_meta,
    PutEntries: MemoryStore.put_entries,
    PutEpoch: MemoryStore.put_epoch,
    PutRun: MemoryStore.put_run,
    PutGroupInfo: MemoryStore.put_group_info,
    PutMail: MemoryStore.put_mail,
    AckMail: MemoryStore.ack_mail,
    DropLog: MemoryStore.drop_log,
    DropMailbox: MemoryStore.drop_mailbox,
    PutMailKey: MemoryStore.put_mail_key,
    PutInvite: MemoryStore.put_invite,
    PutEnrolment: MemoryStore.put_enrolment,
    PutPart: MemoryStore.put_part,
    DropStaged: MemoryStore.drop_staged,
    PutPrekey: MemoryStore.put_prekey,
    DropPrekey: MemoryStore.drop_prekey,
    DropPrekeys: MemoryStore.drop_prekeys,
    Purge: MemoryStore.purge,
}
