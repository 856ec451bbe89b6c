"""A realm of many devices of which few are live: the others have published key packages and stay away.

    realm = LargeRealm(1_000)                          # m0000 ... m0999; with a path: the relay's rows are in SQLite
    world = live(story, realm, spread(realm, 12), LargeWorld)

A device that stays away may come later: what is private of its packages stands in its store (`come`). Everything else
is real: certificates, realm log, packages, the relay's rules and rows, the live engines.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloister.client.suites import SUITES
from cloister.engine import rows
from cloister.engine.rows import OwnPrekey
from cloister.engine.store import Put
from cloister.protocols.interface import Me, PreKey
from cloister.relay.store.interface import PrekeyRow, PutPrekey
from cloister.relay.store.sqlite import SqliteStore
from cloister.testing.clock import EPOCH
from cloister.testing.member import Device
from cloister.testing.realm import DAY_MS, SmallRealm
from support.mls_world import MlsWorld

MLS = SUITES["mls"]


class LargeRealm(SmallRealm):
    """A realm in which each device has published two key packages, and one of last resort, an hour ago."""

    def __init__(self, count: int, path: Path | None = None) -> None:
        self.path = path
        rng = random.Random(f"large {count}").randbytes
        super().__init__([f"m{number:04}" for number in range(count)], rng)
        self.private: dict[str, list[PreKey]] = {}
        for name, account in self.accounts.items():
            me = Me(device=account.device, keys=account.keys, directory=lambda: self.state, realm=self.name)
            self.private[name] = list(MLS.prekeys(me, 2, EPOCH - DAY_MS // 24, rng))
            self._writes.extend(
                PutPrekey(PrekeyRow(me.device, "mls", p.ref, p.not_before, p.expires, p.last_resort, p.public))
                for p in self.private[name]
            )

    def store(self) -> Any:
        """A relay's store with all of it."""
        if self.path is None:
            return super().store()
        store = SqliteStore(self.path, "OFF")
        store.apply(self._writes)
        return store


class LargeWorld(MlsWorld):
    """A world of some devices of a large realm."""

    def __init__(self, realm: LargeRealm, names: Sequence[str]) -> None:
        self.realm = realm
        super().__init__(realm, names)

    def _device(self, name: str, realm: SmallRealm) -> Device:
        return self.come(name)

    def come(self, name: str) -> Device:
        """The device goes online for the first time since it has published its packages."""
        device = Device(name, self.realm.accounts[name], {"mls": MLS}, self.network, seed=7)
        device.store.write([Put("prekey", each.ref, _row(each)) for each in self.realm.private[name]])
        self.events[name] = []
        device.on_event = self.events[name].append
        device.start()
        self.devices[name] = device
        return device


def _row(each: PreKey) -> bytes:
    return rows.encode(
        OwnPrekey(
            suite="mls", public=each.public, private=each.private, expires=each.expires, last_resort=each.last_resort
        )
    )


def spread(realm: SmallRealm, count: int) -> list[str]:
    """So many devices: the first, the last, and others in equal distances between."""
    names = list(realm.accounts)
    return [names[number * (len(names) - 1) // (count - 1)] for number in range(count)]
