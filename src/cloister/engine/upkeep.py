"""What a device does for itself by the calendar: a new mailbox key each week, new certificates before the old ones end.

Source: docs/spec/identity.md ("Mailbox", "Renewal").

Invariants
- A new mailbox key is stored before it is published. It is made when the mailbox was drained: nothing came for REST.
- The key before it still opens; it is erased with the next change. So what a thief of the device may open was sealed
  less than two weeks ago.
- Certificates are asked for RENEWAL before their end, at most once a connection and day, for the same keys. They
  count when the realm log shows them.
- What changed of the account is stored in the same unit and counts from then on.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

import msgspec
from msgspec import structs

from cloister.engine import rows
from cloister.engine.account import ROW, Account
from cloister.engine.link import Asked, Link
from cloister.engine.realm_log import RealmLog
from cloister.engine.rows import MailboxKeys
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.identity.certificate import build_requests
from cloister.identity.mailbox import KEY_DAYS, MailboxKey
from cloister.identity.realm import DeviceRecord
from cloister.primitives.dh import DhKey
from cloister.wire import frames, limits

CHANGE_AFTER: Final = KEY_DAYS * limits.DAY
REST: Final = limits.MINUTE
"""How long (ms) nothing has come from a mailbox that was drained."""

_KEYS: Final = b"mailbox keys"
_row = msgspec.msgpack.Decoder(MailboxKeys)


def stored_account(store: Store) -> Account | None:
    """The account as the store has it."""
    data = store.get("meta", ROW)
    return None if data is None else Account.decode(data)


class Upkeep:
    """The calendar of one device."""

    def __init__(self, account: Account, link: Link, realm: RealmLog) -> None:
        self.account = account
        self._link = link
        self._realm = realm
        self._keys = MailboxKeys(since=0, told=True)
        self._published = False
        self._ask_after = 0
        self._read = 0
        """The size of the realm log as of which `_record` is this device's, or None because it does not count."""
        self._record: DeviceRecord | None = None

    def load(self, unit: Unit) -> None:
        """Take up what an earlier process left."""
        data = unit.get("meta", _KEYS)
        self._keys = _row.decode(data) if data else self._keys

    def mailbox_keys(self) -> list[DhKey]:
        """The keys that open an item, the newest first."""
        old = [DhKey(self._keys.old)] if self._keys.old else []
        return [self.account.keys.mailbox, *old]

    def disconnected(self) -> None:
        """What was not answered is asked again."""
        self._published, self._ask_after = False, 0

    # --- what is due ----------------------------------------------------------------------------------------

    def pump(self, unit: Unit, quiet_since: int | None) -> None:
        """Once a connection stands; `quiet_since` (ms) is when the mailbox last gave something, None while it does."""
        self._adopt(unit)
        self._renew(unit)
        if not self._keys.since:
            self._save(unit, MailboxKeys(since=unit.now, told=True))
        due = self._due(quiet_since)
        if due is not None and due <= unit.now:
            self._change(unit)
        if not self._keys.told and not self._published:
            self._publish(unit)

    def next_wake(self, quiet_since: int | None) -> list[int]:
        """When something of this is due, while a connection stands."""
        ends, due = self._ends(), self._due(quiet_since)
        times = [] if due is None else [due]
        return [*times, max(ends - limits.RENEWAL.value, self._ask_after)] if ends else times

    def _due(self, quiet_since: int | None) -> int | None:
        """When the mailbox key is to be changed, as far as that is known."""
        if quiet_since is None or not self._keys.told:
            return None
        return max(self._keys.since + CHANGE_AFTER, quiet_since + REST)

    def _ends(self) -> int:
        """When this device's certificates end (ms), or 0 when it does not count."""
        record = self._own()
        return record.not_after if record else 0

    def _own(self) -> DeviceRecord | None:
        """This device in the realm log, looked up once for each size of it."""
        if self._read != self._realm.size:
            self._read, self._record = self._realm.size, None
            with suppress(PeerError):
                self._record = self._realm.state().device(self.account.device)
        return self._record

    # --- mailbox key ----------------------------------------------------------------------------------------

    def _change(self, unit: Unit) -> None:
        old, new = self.account.keys.mailbox, DhKey.generate(unit.rng)
        self._take(unit, replace(self.account, keys=replace(self.account.keys, mailbox=new)))
        self._save(unit, MailboxKeys(since=unit.now, told=False, old=old.private_bytes()))
        self._published = False

    def _publish(self, unit: Unit) -> None:
        self._published = True
        statement = MailboxKey.make(self.account.device, self.account.keys, unit.now).encode()
        rid = self._link.request(Asked("mailkey", self.account.keys.mailbox.public))
        unit.transmit(frames.encode(frames.PutMailKey(rid=rid, statement=statement)))

    def published(self, unit: Unit, public: bytes | int) -> None:
        """The relay has the statement: others seal to the new key."""
        if public == self.account.keys.mailbox.public:
            self._save(unit, structs.replace(self._keys, told=True))

    def _save(self, unit: Unit, keys: MailboxKeys) -> None:
        self._keys = keys
        unit.put("meta", _KEYS, rows.encode(keys))

    # --- certificates ---------------------------------------------------------------------------------------

    def _renew(self, unit: Unit) -> None:
        ends = self._ends()
        if not ends or ends - limits.RENEWAL.value > unit.now or self._ask_after > unit.now:
            return
        self._ask_after = unit.now + limits.DAY
        requests = list(build_requests(self.account.keys, self.account.device))
        rid = self._link.request(Asked("certify"))
        unit.transmit(frames.encode(frames.Certify(rid=rid, requests=requests)))

    def _adopt(self, unit: Unit) -> None:
        """The certificates that the realm log has are this device's."""
        record = self._own()
        if record is not None and record.certificates != self.account.chain:
            self._take(unit, replace(self.account, chain=record.certificates))

    def _take(self, unit: Unit, account: Account) -> None:
        self.account = self._link.account = account
        unit.put("meta", ROW, account.encode())
