"""The realm: who is who at a log size. A pure fold over the realm log's records, in log order.

Source: docs/spec/identity.md ("Realm log"), delivery of the design section 4. The relay folds before it
appends, every client folds what it replicates; both run this code, so a record that one refuses the other
never sees accepted. The log's own hashes and signed heads are checked by `wire.log` before.

Invariants
- `apply` returns a new state or raises PeerError; the old state stays whole and usable.
- A name, once enrolled, belongs to its identity key and to that key's pinned successor (identity_changed).
- Certificates count only for keys in the user's newest manifest (not_in_manifest), and are judged at the
  time of their record; a device on the revocation list stays revoked for ever, under whatever certificate.
- Questions are answered *at a log size*: the same record set and size give every client the same answer,
  whatever came later. The time of a size is the time of its last record.
- At most 20 manifests per user in 24 hours (quota); one signed by the pinned next key is never counted out.
- Keys are parsed once and kept as objects.
- In mode `none` a device's certificate requests stand in the place of its certificates: they prove possession of the
  keys in the manifest, and nothing more. They do not end, and no list revokes them.
Left out: authority modes other than `embedded` and `none`, removal of users, change of authority or relay identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.identity import findings
from cloister.identity.authority import MODE, OPEN
from cloister.identity.certificate import (
    DAY_MS,
    DEVICE_USAGES,
    Authorities,
    VerifiedCertificate,
    read_request,
)
from cloister.identity.credential import parse_device_id
from cloister.identity.keys import identity_fingerprint, key_hash
from cloister.identity.manifest import Manifest, Row
from cloister.identity.records import (
    Enrol,
    Genesis,
    NewCertificates,
    NewCrl,
    NewManifest,
    Record,
    decode_record,
)
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaEncryptKey, RsaVerifyKey
from cloister.primitives.signature import VerifyKey

MANIFESTS_PER_DAY: Final = 20
NEVER: Final = 2**53
"""When (ms) a key ends that nobody has certified."""
STALE_DAYS: Final = 30
"""How long a device may be expired before it counts as given up."""

RosterRow = tuple[str, bytes, bytes]
"""(device id, SHA-256(enc(all certificates of the device)), SHA-256(manifest)), for ctx of the suites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A certified device as of log size `since`. `not_after` (ms) is the earliest end of its leaves."""

    device_id: str
    user: str
    since: int
    key: VerifyKey
    rsa_verify: RsaVerifyKey | None
    rsa_encrypt: RsaEncryptKey | None
    certificates: tuple[bytes, ...] = field(repr=False)
    certificates_hash: bytes
    serials: tuple[int, ...]
    spki_hashes: tuple[bytes, ...]
    not_after: int
    manifest_hash: bytes
    identity_key: bytes = b""
    """The user's identity key, 32 raw bytes."""
    in_manifest: bool = True
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """A user as of log size `since`.

    `earlier` are (version, hash) of the current identity key's older manifests, `recent` the times (ms) of
    the manifests of the last day, `enrolled` the record that brought the user in, at size `enrolled_at`.
    """

    name: str
    since: int
    manifest: Manifest
    manifest_hash: bytes
    enrolled: Enrol
    enrolled_at: int
    earlier: tuple[tuple[int, bytes], ...] = ()
    recent: tuple[int, ...] = ()

    @property
    def identity_key(self) -> VerifyKey:
        """The Ed25519 key behind the safety number."""
        return self.manifest.identity_key

    @property
    def devices(self) -> tuple[str, ...]:
        """The ids of the devices in the manifest, certified or not."""
        return tuple(row.device_id for row in self.manifest.rows)


_Versioned = TypeVar("_Versioned", DeviceRecord, UserRecord)


def _version_at(versions: tuple[_Versioned, ...], at_size: int) -> _Versioned | None:
    return next((version for version in reversed(versions) if version.since <= at_size), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmState:
    """The realm after `size` records. Immutable; made by `begin` and `apply`."""

    realm: str
    authorities: Authorities
    relay_key: VerifyKey
    _times: tuple[int, ...]
    _users: Mapping[str, tuple[UserRecord, ...]]
    _devices: Mapping[str, tuple[DeviceRecord, ...]]
    findings: bytes = b""
    """What judging the newest record has found of its leaves (`identity.findings`)."""
    _known: bytes | None = None
    certifies: bool = True
    """Whether the authority vouches for everybody (mode `embedded`), or keys count as they were registered (`none`)."""
    _crl_number: int = 0
    _revoked: frozenset[int] = frozenset()

    # --- folding ------------------------------------------------------------------------------------------

    @classmethod
    def begin(cls, payload: bytes, ts_ms: int) -> RealmState:
        """The state after the first record, which must be `genesis`.

        PeerError: bad_encoding, unsupported, bad_cert, wrong_authority, wrong_realm.
        """
        record = decode_record(payload)
        if not isinstance(record, Genesis):  # REALM-04
            raise PeerError("bad_chain", "a realm log begins with its genesis record")
        if record.mode not in (MODE, OPEN):  # REALM-05
            raise PeerError("unsupported", "an authority mode that is not known here")
        authorities = Authorities(record.root, record.intermediate)
        if authorities.realm != record.realm:  # REALM-06
            raise PeerError("wrong_realm", "the root certificate bears another realm's name")
        return cls(
            realm=record.realm,
            authorities=authorities,
            relay_key=VerifyKey("ed25519", record.relay_key),
            certifies=record.mode == MODE,
            _times=(ts_ms,),
            _users={},
            _devices={},
        )

    @classmethod
    def fold(
        cls, records: Iterable[tuple[bytes, int]], found: Callable[[int], bytes | None] = lambda size: None
    ) -> RealmState:
        """The state after all of `records` (payload, time in ms); PeerError as `begin` and `apply`.

        `found(size)` are the `findings` of the step to that size, None where it was never made here.
        """
        iterator = iter(records)
        first = next(iterator, None)
        if first is None:
            raise PeerError("bad_chain", "a realm log begins with its genesis record")
        state = cls.begin(*first)
        for payload, ts_ms in iterator:
            state = state.apply(payload, ts_ms, found(state.size + 1))
        return state

    def apply(self, payload: bytes, ts_ms: int, found: bytes | None = None) -> RealmState:
        """The state after one more record, everything checked; see the module for the codes.

        `found` are the `findings` of this same step when it was made here before: signatures are not verified again.
        """
        record = decode_record(payload)
        grown = replace(self, _times=(*self._times, ts_ms), _known=found, findings=b"")
        return grown._judge(record)  # noqa: SLF001 - the same class

    def _judge(self, record: Record) -> RealmState:
        match record:
            case Genesis():
                raise PeerError("bad_chain", "a realm begins once")  # REALM-07
            case Enrol():
                return self._enrol(record)
            case NewManifest():
                return self._manifest(record)
            case NewCertificates():
                return self._certificates(record)
            case NewCrl():
                return self._crl(record)

    def _enrol(self, record: Enrol) -> RealmState:
        manifest = Manifest.decode(record.manifest, self.realm, verified=self._known is not None)
        manifest.check_first()  # REALM-08
        standing = self._users.get(manifest.user)
        if standing is not None:
            if standing[-1].identity_key != manifest.identity_key:  # REALM-09
                raise PeerError("identity_changed", "the name belongs to another key")
            raise PeerError("conflict", "the user is enrolled already")  # REALM-10
        user = UserRecord(
            name=manifest.user,
            since=self.size,
            manifest=manifest,
            manifest_hash=manifest.hash,
            enrolled=record,
            enrolled_at=self.size,
            recent=(self.time(),),
        )
        device, found = self._certified(user, manifest.rows[0].device_id, record.leaves)
        return replace(self._with([user], [device]), findings=found)

    def _manifest(self, record: NewManifest) -> RealmState:
        manifest = Manifest.decode(record.manifest, self.realm, verified=self._known is not None)
        old = self.user(manifest.user)
        manifest.check_follows(old.manifest, old.earlier)  # REALM-11
        same_key = manifest.identity_key == old.identity_key
        recent = tuple(at for at in old.recent if at > self.time() - DAY_MS)
        if same_key and len(recent) >= MANIFESTS_PER_DAY:  # REALM-12
            raise PeerError("quota", "20 manifests a day")
        user = replace(
            old,
            since=self.size,
            manifest=manifest,
            manifest_hash=manifest.hash,
            earlier=(*old.earlier, (old.manifest.version, old.manifest_hash)) if same_key else (),
            recent=(*recent, self.time()),
        )
        touched = sorted({*old.devices, *user.devices} & self._devices.keys())
        return self._with([user], [self._listed(user, self._devices[name][-1]) for name in touched])

    def _certificates(self, record: NewCertificates) -> RealmState:
        _, name, _ = parse_device_id(record.device_id)
        user = self.user(name)
        device, found = self._certified(user, record.device_id, record.leaves)
        old = self._devices.get(record.device_id)
        if old and old[-1].revoked:  # REALM-13
            raise PeerError("revoked", "a revoked device gets no certificates")
        if old and old[-1].spki_hashes == device.spki_hashes and old[-1].not_after >= device.not_after:  # REALM-14
            raise PeerError("replay", "certificates that end no later than the ones they replace")
        return replace(self._with([], [device]), findings=found)

    def _crl(self, record: NewCrl) -> RealmState:
        crl = self.authorities.verify_crl(record.crl)
        if crl.number <= self._crl_number:  # REALM-15
            raise PeerError("replay", "a revocation list that is not newer than the last")
        hit = [
            replace(versions[-1], since=self.size, revoked=True)
            for versions in self._devices.values()
            if not versions[-1].revoked and not crl.serials.isdisjoint(versions[-1].serials)
        ]
        return replace(self._with([], hit), _crl_number=crl.number, _revoked=self._revoked | crl.serials)

    def _certified(self, user: UserRecord, device_id: str, leaves: tuple[bytes, ...]) -> tuple[DeviceRecord, bytes]:
        """A device's new version and what was found: its leaves checked, every key in the newest manifest."""
        row = user.manifest.row(device_id)
        if row is None or len(row.hashes) != len(leaves):  # REALM-16
            raise PeerError("not_in_manifest")
        if not self.certifies:
            return _registered(self.size, user, row, leaves), b""
        if self._known is not None:
            verified = findings.unpack(self._known, leaves, device_id)
        else:
            verified = [
                self.authorities.verify(leaf, self.time(), device_id, usage, self._revoked)
                for leaf, usage in zip(leaves, DEVICE_USAGES, strict=False)
            ]
        if tuple(leaf.spki_hash for leaf in verified) != row.hashes:  # REALM-17
            raise PeerError("not_in_manifest")
        return _device(self.size, user, row, verified), findings.pack(verified)

    def _listed(self, user: UserRecord, device: DeviceRecord) -> DeviceRecord:
        """The device's version under a new manifest."""
        row = user.manifest.row(device.device_id)
        return replace(
            device,
            since=self.size,
            manifest_hash=user.manifest_hash,
            identity_key=user.identity_key.raw,
            in_manifest=row is not None and row.hashes == device.spki_hashes,
        )

    def _with(self, users: list[UserRecord], devices: list[DeviceRecord]) -> RealmState:
        return replace(
            self,
            _users={**self._users, **{u.name: (*self._users.get(u.name, ()), u) for u in users}},
            _devices={
                **self._devices,
                **{d.device_id: (*self._devices.get(d.device_id, ()), d) for d in devices},
            },
        )

    # --- asking -------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of records."""
        return len(self._times)

    def time(self, at_size: int | None = None) -> int:
        """The time (ms) at which certificates are judged at a log size; PeerError("gap") beyond the log."""
        return self._times[self._within(at_size) - 1]

    def _within(self, at_size: int | None) -> int:
        if at_size is None:
            return self.size
        if not 1 <= at_size <= self.size:  # REALM-18
            raise PeerError("gap", "the realm log is not known at this size")
        return at_size

    def check_pins(self, relay_hash: bytes, root_hash: bytes) -> None:
        """PeerError("wrong_realm") unless relay identity key and root have these SPKI hashes (of a link)."""
        pins = (identity_fingerprint(self.relay_key.raw), self.authorities.root_hash)
        if pins != (relay_hash, root_hash):  # REALM-19
            raise PeerError("wrong_realm")

    def find(self, device_id: str, at_size: int | None = None) -> DeviceRecord:
        """The device as it stands, counted out or not; PeerError unknown_sender or gap."""
        record = _version_at(self._devices.get(device_id, ()), self._within(at_size))
        if record is None:
            raise PeerError("unknown_sender", "no such device in the realm")
        return record

    def device(self, device_id: str, at_size: int | None = None) -> DeviceRecord:
        """The device if it counts at that size: PeerError unknown_sender, revoked, not_in_manifest, expired."""
        record = self.find(device_id, at_size)
        if record.revoked:  # REALM-20
            raise PeerError("revoked", "the device is on the realm's revocation list")
        if not record.in_manifest:  # REALM-21
            raise PeerError("not_in_manifest")
        if record.not_after < self.time(at_size):  # REALM-22
            raise PeerError("expired")
        return record

    def stale(self, device_id: str, at_size: int | None = None) -> bool:
        """Whether the device's certificates had ended STALE_DAYS before that size's time; PeerError as `find`."""
        return self.find(device_id, at_size).not_after + STALE_DAYS * DAY_MS < self.time(at_size)

    def roster_row(self, device_id: str, at_size: int | None = None) -> RosterRow:
        """The device's row of a suite's roster; PeerError as `device`."""
        record = self.device(device_id, at_size)
        return device_id, record.certificates_hash, record.manifest_hash

    def user(self, name: str, at_size: int | None = None) -> UserRecord:
        """The user; PeerError unknown_sender or gap."""
        record = _version_at(self._users.get(name, ()), self._within(at_size))
        if record is None:
            raise PeerError("unknown_sender", "no such user in the realm")
        return record

    def users(self, at_size: int | None = None) -> tuple[str, ...]:
        """The names of all users, sorted."""
        size = self._within(at_size)
        return tuple(sorted(name for name, versions in self._users.items() if versions[0].since <= size))


def _registered(since: int, user: UserRecord, row: Row, requests: tuple[bytes, ...]) -> DeviceRecord:
    """A device in a realm that certifies nobody: its requests prove that it holds its keys; RSA keys count not."""
    read = [read_request(der, usage) for der, usage in zip(requests, DEVICE_USAGES, strict=False)]
    if any(request.subject != row.device_id for request in read):  # REALM-23
        raise PeerError("wrong_name", "a request names another device than the manifest")
    if tuple(key_hash(request.spki) for request in read) != row.hashes:  # REALM-24
        raise PeerError("not_in_manifest")
    return DeviceRecord(
        device_id=row.device_id,
        user=user.name,
        since=since,
        key=VerifyKey("ed25519", read[0].spki[-32:]),
        rsa_verify=None,
        rsa_encrypt=None,
        certificates=(),
        certificates_hash=sha256(enc()),
        serials=(),
        spki_hashes=row.hashes,
        not_after=NEVER,
        manifest_hash=user.manifest_hash,
        identity_key=user.identity_key.raw,
    )


def _device(since: int, user: UserRecord, row: Row, verified: list[VerifiedCertificate]) -> DeviceRecord:
    rsa = verified[1:]
    certificates = tuple(leaf.der for leaf in verified)
    return DeviceRecord(
        device_id=row.device_id,
        user=user.name,
        since=since,
        key=VerifyKey("ed25519", verified[0].spki[-32:]),
        rsa_verify=RsaVerifyKey(rsa[0].spki) if rsa else None,
        rsa_encrypt=RsaEncryptKey(rsa[1].spki) if rsa else None,
        certificates=certificates,
        certificates_hash=sha256(enc(*certificates)),
        serials=tuple(leaf.serial for leaf in verified),
        spki_hashes=row.hashes,
        not_after=min(leaf.not_after for leaf in verified),
        manifest_hash=user.manifest_hash,
        identity_key=user.identity_key.raw,
    )
