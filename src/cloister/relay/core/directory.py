"""The realm: its log, who is in it, and the current mailbox keys beside it.

Source: docs/spec/identity.md ("Realm log"), delivery of the design section 4. The relay folds a record before it
appends it, with the code that every client runs, so it never stores what a client would refuse. What judging a record
has found of its signatures is stored with it: a start folds the log again, but verifies none of them a second time.

Invariants
- `realm` is the fold of everything appended, durable or not; answers to clients come from it.
- Records that admit (`enrol`, certificates) come from the relay's own authority, not from `append`.
- A device that no longer counts loses its connections, its mail and its mailbox key with the record that says so.
- A mailbox key is signed by its device and not older than the one it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from cloister.errors import PeerError
from cloister.identity.mailbox import MailboxKey
from cloister.identity.realm import RealmState
from cloister.identity.records import NewCrl, NewManifest, decode_record
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Gathering
from cloister.relay.core.log import Logs
from cloister.relay.core.ports import Settings
from cloister.relay.core.state import LogState, Peer
from cloister.relay.store.interface import EntryRow, PutEntries, PutMailKey, PutMeta, Store, Write
from cloister.wire.frames import (
    NO_TOKEN,
    REALM_LOG,
    Append,
    GetMailKeys,
    GetPubkey,
    MailKeys,
    Pubkey,
)
from cloister.wire.frames import (
    PutMailKey as PutMailKeyFrame,
)
from cloister.wire.log import NO_ATTACHMENTS, START, chain_prefix, link_hash

KIND: Final = "realm"
"""The kind of the realm log's entries."""


class Directory:
    """Who is who. `shut_out` is called for each device that stops counting."""

    def __init__(self, store: Store, logs: Logs, gathering: Gathering, shut_out: Callable[[str], None]) -> None:
        self._store = store
        self._logs = logs
        self._gathering = gathering
        self._shut_out = shut_out
        self.log: LogState = logs.state(REALM_LOG)
        self.log.pins += 1
        rows = store.entries(REALM_LOG, 0, self.log.durable)
        records = ((row.payload or b"", row.ts_ms) for row in rows)
        self.realm = RealmState.fold(records, lambda seq: store.meta(found_key(seq)))
        self._mail_keys: dict[str, bytes] = {}

    # --- the log --------------------------------------------------------------------------------------------

    def check_mail(self, device: str) -> None:
        """PeerError unless a device may have mail: unknown_sender, revoked, not_in_manifest."""
        record = self.realm.find(device)
        if record.revoked:
            raise PeerError("revoked")
        if not record.in_manifest:
            raise PeerError("not_in_manifest")

    def append(self, peer: Peer, frame: Append, now: int) -> None:
        """A user's next manifest or the authority's next revocation list."""
        known = self._logs.seen(self.log, _entry_id(frame.record))
        if known is None:
            record = decode_record(frame.record)
            if not isinstance(record, NewManifest | NewCrl):
                raise PeerError("not_allowed", "such a record comes from the authority")
            known = self.record(frame.record, now)
        self._gathering.ack(peer, frame.rid, self.log, known.seq, known.ts_ms)

    def record(self, payload: bytes, now: int) -> EntryRow:
        """Append a record that the fold accepts; PeerError otherwise."""
        before = self.realm
        self.realm = before.apply(payload, max(now, self.log.ts_ms))
        row = self._logs.append(self.log, KIND, 0, NO_TOKEN, _entry_id(payload), payload, now)
        self._gathering.write(PutMeta(found_key(row.seq), self.realm.findings))
        record = decode_record(payload)
        if isinstance(record, NewManifest | NewCrl):
            for device in sorted(_counting(before) - _counting(self.realm)):
                self._shut_out(device)
        return row

    # --- views ----------------------------------------------------------------------------------------------

    def get_pubkey(self, peer: Peer, frame: GetPubkey, now: int) -> None:
        """A user's identity key and place in the log."""
        try:
            user = self.realm.user(frame.username)
        except PeerError as error:
            raise PeerError("no_user") from error
        peer.send(Pubkey(rid=frame.rid, username=user.name, identity_key=user.identity_key.raw, log_index=user.since))

    # --- mailbox keys ---------------------------------------------------------------------------------------

    def put_mail_key(self, peer: Peer, frame: PutMailKeyFrame, now: int) -> None:
        """Publish the device's own statement."""
        statement = MailboxKey.decode(frame.statement)
        statement.check(peer.device, self.realm.device(peer.device).key)
        current = self._mail_key(peer.device)
        if current is not None and statement.ts < MailboxKey.decode(current).ts:
            raise PeerError("replay", "an older mailbox key")
        self.keep_mail_key(peer.device, frame.statement)
        self._gathering.done(peer, frame.rid)

    def keep_mail_key(self, device: str, statement: bytes) -> None:
        """Keep a statement that has been checked."""
        self._mail_keys[device] = statement
        self._gathering.write(PutMailKey(device, statement))

        def stored(_now: int) -> None:
            if self._mail_keys.get(device) == statement:
                del self._mail_keys[device]

        self._gathering.after(stored)

    def _mail_key(self, device: str) -> bytes | None:
        return self._mail_keys.get(device) or self._store.mail_key(device)

    def get_mail_keys(self, peer: Peer, frame: GetMailKeys, now: int) -> None:
        """The statements of devices, in the order asked."""
        peer.send(MailKeys(rid=frame.rid, statements=[self._mail_key(device) for device in frame.devices]))


def found_key(seq: int) -> str:
    """The name under which the store keeps what judging record `seq` of the realm log has found."""
    return f"found {seq}"


def genesis_writes(settings: Settings, payload: bytes, now: int) -> list[Write]:
    """The realm log's first entry: the `genesis` record, which `relay init` writes."""
    RealmState.begin(payload, now)
    prefix = chain_prefix(settings.realm, REALM_LOG, settings.incarnation)
    entry_id, payload_hash = _entry_id(payload), sha256(payload)
    digest = link_hash(prefix, START, 1, KIND, 0, 0, NO_TOKEN, entry_id, payload_hash, NO_ATTACHMENTS, now)
    row = EntryRow(
        REALM_LOG, 1, KIND, 0, 0, NO_TOKEN, entry_id, payload, payload_hash, NO_ATTACHMENTS,
        None, None, b"", now, digest,
    )  # fmt: skip
    return [PutEntries([row])]


def _entry_id(payload: bytes) -> bytes:
    return sha256(payload)[:16]


def _counting(realm: RealmState) -> set[str]:
    """The devices that may log in and have mail, expired or not."""
    return {device for name in realm.users() for device in _counting_of(realm, realm.user(name).devices)}


def _counting_of(realm: RealmState, devices: Iterable[str]) -> Iterable[str]:
    for device in devices:
        try:
            record = realm.find(device)
        except PeerError:  # in the manifest, not certified yet
            continue
        if record.in_manifest and not record.revoked:
            yield device
