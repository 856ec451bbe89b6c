"""Key packages of devices, so that others can take them into a room while they are away.

Source: docs/spec/prekeys.md. The relay cannot read a package: it enforces what the owner declares beside it (reference,
life), and who claims it refuses one that is not as declared.

Invariants
- A one-time package is given to one claimer; a claim that was answered survives a crash, and what a crash swallowed is
  lost to everybody.
- A device has at most 100 one-time packages of a suite and one of last resort, which is given when no other is left, or
  when its packages are claimed too quickly.
- Packages past their time are not given; a revoked device's go with it.
- The owner is told once when few are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.errors import PeerError
from cloister.relay.core.batch import Gathering
from cloister.relay.core.quota import Buckets, Cache
from cloister.relay.core.state import Peer
from cloister.relay.store.interface import DropPrekey, DropPrekeys, PrekeyRow, PutPrekey, Store
from cloister.wire import limits
from cloister.wire.frames import Prekey, PrekeysClaim, PrekeysClaimed, PrekeysLow, PrekeysPut, PrekeysStored

LOADED: Final = 4096
"""Stocks kept in memory beyond those in use."""
_CLAIMS, _CLAIMED = 1_000, 60


@dataclass(slots=True, eq=False)
class _Stock:
    """A device's packages of one suite as decided; the bytes of those in `coming` are not on the disk yet."""

    rows: dict[bytes, PrekeyRow]
    coming: dict[bytes, PrekeyRow] = field(default_factory=dict)
    pins: int = 0

    def live(self, now: int, *, last_resort: bool) -> list[PrekeyRow]:
        return [row for row in self.rows.values() if row.last_resort is last_resort and row.not_after >= now]


class Prekeys:
    """All stocks. `counts` raises unless a device is one of the realm; `peers` are a device's connections."""

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
        self._stocks: Cache[tuple[str, str], _Stock] = Cache(self._load, lambda stock: stock.pins > 0, LOADED)
        self._claims: Buckets[str] = Buckets(limits.CLAIM_RATE.value, _CLAIMS)
        self._claimed: Buckets[str] = Buckets(limits.CLAIMED_RATE.value, _CLAIMED)

    def _load(self, key: tuple[str, str]) -> _Stock:
        return _Stock({row.ref: row for row in self._store.prekeys(*key)})

    # --- putting in -----------------------------------------------------------------------------------------

    def put(self, peer: Peer, frame: PrekeysPut, now: int) -> None:
        """Keep a device's own packages; an empty list asks how many are left."""
        stock = self._stocks.get((peer.device, frame.suite))
        fresh = [each for each in frame.packages if each.ref not in stock.rows]
        self._check(stock, fresh, now)
        if any(each.last_resort for each in fresh):
            for row in stock.live(0, last_resort=True):
                self._drop(stock, row)
        for each in fresh:
            row = PrekeyRow(
                peer.device, frame.suite, each.ref, each.not_before, each.not_after, each.last_resort, each.package
            )
            stock.rows[row.ref] = row._replace(package=b"")
            stock.coming[row.ref] = row
            self._gathering.write(PutPrekey(row))
        self._promise(stock, [each.ref for each in fresh])
        left = len(stock.live(now, last_resort=False))
        self._gathering.answer(peer, PrekeysStored(rid=frame.rid, left=left))

    @staticmethod
    def _check(stock: _Stock, fresh: Sequence[Prekey], now: int) -> None:
        """PeerError unless every package may be kept together with the others."""
        if len({each.ref for each in fresh}) < len(fresh):
            raise PeerError("conflict", "a package twice")
        for each in fresh:
            if not each.not_before < each.not_after <= each.not_before + limits.PREKEY_LIFE.value:
                raise PeerError("bad_encoding", "a package lives 90 days at most")
            if each.not_after < now:
                raise PeerError("expired", "a package past its time")
        once = sum(not each.last_resort for each in fresh)
        if len(fresh) - once > 1 or len(stock.live(now, last_resort=False)) + once > limits.PREKEYS.value:
            raise PeerError("quota", "key packages of a device")

    def _drop(self, stock: _Stock, row: PrekeyRow) -> None:
        del stock.rows[row.ref]
        self._gathering.write(DropPrekey(row.device, row.suite, row.ref))

    def _promise(self, stock: _Stock, refs: Sequence[bytes]) -> None:
        """Keep the stock in memory, and these bytes, until all of it stands on the disk."""
        stock.pins += 1

        def stored(_now: int) -> None:
            stock.pins -= 1
            for ref in refs:
                stock.coming.pop(ref, None)

        self._gathering.after(stored)

    # --- taking out -----------------------------------------------------------------------------------------

    def claim(self, peer: Peer, frame: PrekeysClaim, now: int) -> None:
        """Give one package of each device, once; None where there is none or the device does not count."""
        if len(set(frame.devices)) < len(frame.devices):
            raise PeerError("conflict", "a device twice")
        if not self._claims.of(peer.device, now).take(now, len(frame.devices)):
            raise PeerError("quota", "key packages claimed by a device")
        packages = [self._take(device, frame.suite, now) for device in frame.devices]
        self._gathering.answer(peer, PrekeysClaimed(rid=frame.rid, packages=packages))

    def _take(self, device: str, suite: str, now: int) -> Prekey | None:
        try:
            self._counts(device)
        except PeerError:
            return None
        stock = self._stocks.get((device, suite))
        once, spare = stock.live(now, last_resort=False), stock.live(now, last_resort=True)
        hurried = not self._claimed.of(device, now).take(now)
        row = once[0] if once and not (hurried and spare) else spare[0] if spare else None
        if row is None:
            return None
        whole = stock.coming.get(row.ref) or self._store.prekey(device, suite, row.ref)
        if not row.last_resort:
            self._drop(stock, row)
            self._promise(stock, ())
            if len(once) - 1 == limits.PREKEYS_LOW.value:
                self._tell(device, suite)
        if whole is None:
            return None
        return Prekey(
            ref=row.ref,
            not_before=row.not_before,
            not_after=row.not_after,
            last_resort=row.last_resort,
            package=whole.package,
        )

    def _tell(self, device: str, suite: str) -> None:
        def tell(_now: int) -> None:
            for peer in list(self._peers(device)):
                peer.send(PrekeysLow(suite=suite))

        self._gathering.after(tell)

    # --- the rest -------------------------------------------------------------------------------------------

    def drop(self, device: str) -> None:
        """A device is revoked: its packages go. Stocks in memory are not given, since the device does not count."""
        self._gathering.write(DropPrekeys(device))
