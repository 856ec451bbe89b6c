"""A realm with people in it, quickly: an authority, a relay identity, users with devices, a folded log.

RSA keys come from the pool; everything else is drawn from a seeded generator, so a failing test repeats.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from cloister.errors import PeerError
from cloister.identity.authority import MODE, Authority
from cloister.identity.certificate import build_requests
from cloister.identity.credential import device_id
from cloister.identity.enrolment import Application
from cloister.identity.invite import Token
from cloister.identity.keys import DeviceKeys, RecoveryCode, UserKeys
from cloister.identity.manifest import Manifest, Row
from cloister.identity.realm import DeviceRecord, RealmState
from cloister.identity.records import Genesis, NewCertificates, NewCrl, NewManifest
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.signature import SigningKey
from support.keypool import rsa_decrypt_key, rsa_signing_key

NOW = 1_790_000_000_000
"""A fixed time for tests, in milliseconds."""
DAY = 86_400_000


def seeded(seed: object) -> Rng:
    """A repeatable source of bytes."""
    return random.Random(repr(seed)).randbytes


def device_keys(rng: Rng, rsa: int | None = None) -> DeviceKeys:
    """Device keys; `rsa` is the number of the pool's pairs to use, or None for a device without."""
    return DeviceKeys(
        device=SigningKey.generate("ed25519", rng),
        mailbox=DhKey.generate(rng),
        rsa_sign=None if rsa is None else rsa_signing_key(rsa),
        rsa_decrypt=None if rsa is None else rsa_decrypt_key(rsa),
    )


@dataclass(slots=True, kw_only=True)
class Person:
    """A user with one device, as its own client knows it."""

    name: str
    id: str
    keys: UserKeys
    code: RecoveryCode
    device: DeviceKeys
    application: Application
    manifest: Manifest
    now: int

    @property
    def row(self) -> Row:
        """The row of the first device."""
        return Row.of(self.id, self.device.hashes())


@dataclass(slots=True)
class Realm:
    """A growing realm log: `records` are (payload, time), `state` is their fold."""

    name: str = "home.example"
    seed: object = 0
    now: int = NOW
    rng: Rng = field(init=False)
    authority: Authority = field(init=False)
    relay_key: SigningKey = field(init=False)
    records: list[tuple[bytes, int]] = field(default_factory=list)
    state: RealmState = field(init=False)

    def __post_init__(self) -> None:
        self.rng = seeded((self.name, self.seed))
        self.authority = Authority.create(self.name, self.now, self.rng)
        self.relay_key = SigningKey.generate("ed25519", self.rng)
        payload = self.genesis().encode()
        self.records.append((payload, self.now))
        self.state = RealmState.begin(payload, self.now)

    def genesis(self) -> Genesis:
        """The first record."""
        return Genesis(
            realm=self.name,
            mode=MODE,
            root=self.authority.authorities.root,
            intermediate=self.authority.authorities.intermediate,
            relay_key=self.relay_key.public.raw,
        )

    def append(self, payload: bytes) -> RealmState:
        """Fold one more record and keep it; a refused one changes nothing."""
        self.state = self.state.apply(payload, self.now)
        self.records.append((payload, self.now))
        return self.state

    def person(self, name: str, *, rsa: int | None = None, token: Token | None = None) -> Person:
        """Somebody who has keys and an application, and is not enrolled yet."""
        keys, code = UserKeys.generate(self.rng)
        device = device_keys(self.rng, rsa)
        identity = device_id(self.name, name, "phone")
        application = Application.make(keys, device, identity, token, self.now)
        return Person(
            name=name,
            id=identity,
            keys=keys,
            code=code,
            device=device,
            application=application,
            manifest=application.manifest,
            now=self.now,
        )

    def certify(self, person: Person) -> tuple[bytes, ...]:
        """Leaves for the person's device as of now."""
        requests = build_requests(person.device, person.id)
        return self.authority.issue(requests, person.id, self.now, self.rng)

    def enrol(self, name: str, *, rsa: int | None = None, token: Token | None = None) -> Person:
        """A person, enrolled."""
        person = self.person(name, rsa=rsa, token=token)
        leaves = self.authority.issue(person.application.requests, person.id, self.now, self.rng)
        self.append(person.application.record(leaves).encode())
        return person

    def renew(self, person: Person) -> RealmState:
        """Append renewed certificates; as at the relay, what the log refuses the authority has not issued."""
        before = self.authority.encode()
        try:
            return self.append(NewCertificates(device_id=person.id, leaves=self.certify(person)).encode())
        except PeerError:
            self.authority = Authority.decode(before)
            raise

    def publish(self, person: Person, manifest: Manifest) -> RealmState:
        """Append a person's next manifest."""
        self.append(NewManifest(manifest=manifest.encoded).encode())
        person.manifest = manifest
        return self.state

    def revoke(self, person: Person) -> RealmState:
        """Revoke a person's device and append the list."""
        self.authority.revoke(person.id, self.now)
        return self.append(NewCrl(crl=self.authority.crl(self.now)).encode())

    def device(self, person: Person) -> DeviceRecord:
        """The person's device as the realm sees it now."""
        return self.state.device(person.id)
