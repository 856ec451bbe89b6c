"""Mailboxes: sealed items for one device, numbered, deleted when the device says that it has them.

Source: docs/spec/relay.md ("Mailbox"). The relay sees recipient and size, never sender, kind or room.

Invariants
- Numbers of a mailbox are gapless and never given again, also after items are gone.
- The same item (id and bytes) again is delivered once; the same id with other bytes is `conflict`.
- Items are sent in order and only when they are durable; never more than a reader has room for, and the rest
  follows when it has read (`pump`).
- Only a device of the realm that counts has a mailbox (`unknown_sender`, `revoked`); a full one refuses (`quota`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Gathering
from cloister.relay.core.quota import Cache
from cloister.relay.core.state import Peer
from cloister.relay.store.interface import AckMail, DropMailbox, MailRow, PutMail, Store
from cloister.wire import limits
from cloister.wire.frames import Deposit, Done, Item, Mail, MailAck, Mailed, MailOpen

LOADED: Final = 4096
"""Mailboxes whose totals are kept in memory beyond those in use."""
_CHUNK: Final = 16
"""Items read from the store at a time."""


@dataclass(slots=True, eq=False)
class Box:
    """A mailbox's totals as decided; `durable` is the last number on the disk."""

    device: str
    last: int
    durable: int
    items: int
    size: int
    pending: dict[bytes, MailRow] = field(default_factory=dict)
    pins: int = 0


class Mailboxes:
    """All mailboxes. `counts` raises unless a device may have mail; `peers` are a device's connections."""

    def __init__(
        self,
        store: Store,
        gathering: Gathering,
        counts: Callable[[str], None],
        peers: Callable[[str], Iterable[Peer]],
    ) -> None:
        self._store = store
        self._gathering = gathering
        self._counts = counts
        self._peers = peers
        self._boxes: Cache[str, Box] = Cache(self._load, lambda box: box.pins > 0, LOADED)

    def _load(self, device: str) -> Box:
        row = self._store.mailbox(device)
        return Box(device, row.last, row.last, row.items, row.size)

    # --- putting in -----------------------------------------------------------------------------------------

    def check(self, items: Sequence[Mail]) -> None:
        """PeerError unless every item can be delivered together with the others."""
        added: dict[str, tuple[int, int]] = {}
        ids: dict[tuple[str, bytes], bytes] = {}
        for mail in items:
            key = mail.device, mail.item_id
            if ids.setdefault(key, mail.body) != mail.body:
                raise PeerError("conflict", "one item id for two bodies")
            self._counts(mail.device)
            if self._known(mail):
                continue
            count, size = added.get(mail.device, (0, 0))
            added[mail.device] = count + 1, size + len(mail.body)
        for device, (count, size) in added.items():
            box = self._boxes.get(device)
            if box.items + count > limits.MAILBOX.value or box.size + size > limits.MAILBOX_BYTES.value:
                raise PeerError("quota", "a mailbox is full")

    def _known(self, mail: Mail) -> bool:
        """Whether this item was put in before; `conflict` when its id was used for another."""
        digest = sha256(mail.body)
        known = self._boxes.get(mail.device).pending.get(mail.item_id)
        known = known or self._store.mail_item(mail.device, mail.item_id)
        if known is not None and known.body_hash != digest:
            raise PeerError("conflict", "the item id stands for other bytes")
        return known is not None

    def deliver(self, items: Sequence[Mail], now: int) -> None:
        """Put items in that `check` has passed."""
        touched: dict[str, Box] = {}
        for mail in items:
            if self._known(mail):
                continue
            box = touched[mail.device] = self._boxes.get(mail.device)
            box.last += 1
            box.items += 1
            box.size += len(mail.body)
            row = MailRow(mail.device, box.last, mail.item_id, mail.body, sha256(mail.body), now)
            box.pending[mail.item_id] = row
            self._gathering.write(PutMail(row))
        for box in touched.values():
            self._promise(box)

    def _promise(self, box: Box) -> None:
        box.pins += 1
        last, ids = box.last, list(box.pending)

        def stored(_now: int) -> None:
            box.pins -= 1
            box.durable = last
            for item_id in ids:
                box.pending.pop(item_id, None)
            for peer in list(self._peers(box.device)):
                self.pump(peer)

        self._gathering.after(stored)

    def deposit(self, peer: Peer, frame: Deposit, now: int) -> None:
        """Put one item into a device's mailbox."""
        items = [frame.mail]
        self.check(items)
        self.deliver(items, now)
        self._gathering.done(peer, frame.rid)

    # --- taking out -----------------------------------------------------------------------------------------

    def open(self, peer: Peer, frame: MailOpen, now: int) -> None:
        """Send what waits beyond `after`, and from now on what comes; `gap` for a number that was never given."""
        if frame.after > self._boxes.get(peer.device).durable:
            raise PeerError("gap", "mail that was never given")
        peer.mail = frame.after
        peer.send(Done(rid=frame.rid))
        self.pump(peer)

    def pump(self, peer: Peer) -> None:
        """Send items while the reader has room for them."""
        if peer.mail is None:
            return
        box = self._boxes.get(peer.device)
        while peer.mail < box.durable and not peer.clogged:
            rows = [row for row in self._store.mail(peer.device, peer.mail, _CHUNK) if row.number <= box.durable]
            if not rows:
                peer.mail = box.durable
                return
            self._send(peer, rows)

    @staticmethod
    def _send(peer: Peer, rows: list[MailRow]) -> None:
        """One frame of as many of the items as fit into a push; a larger one goes alone."""
        items: list[Item] = []
        size = 0
        for row in rows:
            body = row.body or b""
            size += len(body) + 32
            if items and size > limits.PUSH.value:
                break
            items.append(Item(number=row.number, item_id=row.item_id, body=body))
        peer.mail = items[-1].number
        peer.send(Mailed(items=items))

    def ack(self, peer: Peer, frame: MailAck, now: int) -> None:
        """The device has the items up to a number."""
        box = self._boxes.get(peer.device)
        if frame.upto > box.durable:
            raise PeerError("gap", "items that were never sent")
        self._gathering.write(AckMail(peer.device, frame.upto, now))
        box.pins += 1
        self._gathering.after(lambda _: self._recount(box))
        self._gathering.done(peer, frame.rid)

    def _recount(self, box: Box) -> None:
        """The store knows what an acknowledgement emptied; items of batches under way come on top."""
        box.pins -= 1
        row = self._store.mailbox(box.device)
        coming = [len(mail.body or b"") for mail in box.pending.values() if mail.number > row.last]
        box.items, box.size = row.items + len(coming), row.size + sum(coming)

    # --- the rest -------------------------------------------------------------------------------------------

    def waiting(self, device: str) -> int:
        """How many items wait."""
        return self._boxes.get(device).items

    def drop(self, device: str) -> None:
        """A device is revoked: its mail and key go."""
        self._gathering.write(DropMailbox(device))
        box = self._boxes.get(device)
        box.items = box.size = 0
