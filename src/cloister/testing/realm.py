"""A small realm for simulations: an authority, a relay's keys, people with one device each, all enrolled.

    realm = SmallRealm(["alice", "bob"], rng, rsa_pairs)
    realm.accounts["alice"]            # what enrolment leaves behind on the device
    realm.store()                      # a relay's store with the realm log and the mailbox keys in it

Source: docs/spec/identity.md. Certificates, manifests and the realm log are real and are checked by every client.
RSA pairs are slow to make, so the caller gives them; a realm may be used for many simulations, none changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cloister.engine.account import Account
from cloister.identity.authority import MODE, Authority
from cloister.identity.credential import device_id
from cloister.identity.enrolment import Application
from cloister.identity.keys import DeviceKeys, UserKeys, identity_fingerprint
from cloister.identity.realm import RealmState
from cloister.identity.records import Genesis
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.primitives.signature import SigningKey
from cloister.relay.core import RelayKeys, Settings
from cloister.relay.core.directory import found_key
from cloister.relay.store.interface import EntryRow, PutEntries, PutMailKey, PutMeta, Write
from cloister.relay.store.memory import MemoryStore
from cloister.testing.clock import EPOCH
from cloister.wire.frames import NO_TOKEN, REALM_LOG, Entry
from cloister.wire.log import NO_ATTACHMENTS, START, certify_head_key, entry_hash

RsaPairs = Callable[[int], tuple[RsaSigningKey, RsaDecryptKey]]
"""The signing and the decryption key of person number n."""

DAY_MS: Final = 86_400_000


class SmallRealm:
    """The realm `sim.example` as of one day before virtual time begins."""

    def __init__(
        self, names: Sequence[str], rng: Rng, rsa: RsaPairs | None = None, *, name: str = "sim.example"
    ) -> None:
        now = EPOCH - DAY_MS
        self.name = name
        self.authority = Authority.create(name, now, rng)
        identity, head = SigningKey.generate("ed25519", rng), SigningKey.generate("ed25519", rng)
        leaf = self.authority.issue_relay(identity, now, rng)
        self.relay_keys = RelayKeys(
            identity=identity,
            head=head,
            head_key=certify_head_key(identity, name, head.public.raw, now),
            chain=(leaf, *self.authority.authorities.chain),
        )
        self.settings = Settings(realm=name)
        self.accounts: dict[str, Account] = {}
        self._writes: list[Write] = []
        self._prev = START
        self._size = 0
        genesis = Genesis(
            realm=name,
            mode=MODE,
            root=self.authority.authorities.root,
            intermediate=self.authority.authorities.intermediate,
            relay_key=identity.public.raw,
        ).encode()
        self._record(genesis, now)
        self.state = RealmState.begin(genesis, now)
        for number, person in enumerate(names):
            self._enrol(person, rng, None if rsa is None else rsa(number), now)

    def store(self) -> MemoryStore:
        """A relay's store as it is when everybody has enrolled."""
        store = MemoryStore()
        store.apply(self._writes)
        return store

    def _enrol(self, name: str, rng: Rng, rsa: tuple[RsaSigningKey, RsaDecryptKey] | None, now: int) -> None:
        keys, _ = UserKeys.generate(rng)
        device = DeviceKeys(
            device=SigningKey.generate("ed25519", rng),
            mailbox=DhKey.generate(rng),
            rsa_sign=rsa[0] if rsa else None,
            rsa_decrypt=rsa[1] if rsa else None,
        )
        uri = device_id(self.name, name, "phone")
        application = Application.make(keys, device, uri, None, now)
        leaves = self.authority.issue(application.requests, uri, now, rng)
        record = application.record(leaves).encode()
        self.state = self.state.apply(record, now)
        self._record(record, now)
        self._writes.append(PutMeta(found_key(self._size), self.state.findings))
        self._writes.append(PutMailKey(uri, application.mailbox.encode()))
        self.accounts[name] = Account(
            realm=self.name,
            device=uri,
            address="relay:7443",
            user_keys=keys,
            keys=device,
            chain=leaves,
            relay_pin=identity_fingerprint(self.relay_keys.identity.public.raw),
            root_pin=self.authority.authorities.root_hash,
        )

    def _record(self, payload: bytes, now: int) -> None:
        """The next entry of the realm log, as the relay would store it."""
        self._size += 1
        entry = Entry(
            seq=self._size, kind="realm", flags=0, epoch=0, token_hash=NO_TOKEN, entry_id=sha256(payload)[:16],
            payload=payload, ts_ms=now,
        )  # fmt: skip
        self._prev = entry_hash(self.name, REALM_LOG, self.settings.incarnation, self._prev, entry)
        row = EntryRow(
            log=REALM_LOG, seq=entry.seq, kind=entry.kind, flags=0, epoch=0, token_hash=NO_TOKEN,
            entry_id=entry.entry_id, payload=payload, payload_hash=sha256(payload), attachments_hash=NO_ATTACHMENTS,
            next_token_hash=None, group_info_hash=None, item_hashes=b"", ts_ms=now, hash=self._prev,
        )  # fmt: skip
        self._writes.append(PutEntries([row]))
