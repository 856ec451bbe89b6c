"""A directory whose log grows by what a test adds; typed as the suites see it, without certificates.

Suites ask a directory for a device at a log size. Here each device has the records that a test gave it, or the code
with which it is refused from then on. Certificates are `identity`'s matter and are checked where a realm log is folded.
"""

from __future__ import annotations

from cloister.errors import PeerError
from cloister.identity.realm import DeviceRecord
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaEncryptKey, RsaVerifyKey
from cloister.testing.keys import keys_of

NOW = 1_790_000_000_000
"""When these runs begin, ms."""
DAY = 86_400_000


def device_name(user: str) -> str:
    """The device that a user of these runs has."""
    return f"cloister://home/u/{user}/d/phone"


class FakeDirectory:
    """A directory whose log grows by what the test adds; typed as the suites see it."""

    def __init__(self) -> None:
        self._versions: dict[str, list[tuple[int, DeviceRecord | str]]] = {}
        self._size = 0
        self._stale: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Records so far."""
        return self._size

    def device(self, device: str, size: int, /) -> DeviceRecord:
        """The device at that size; PeerError as a realm log gives it."""
        if not 1 <= size <= self._size:
            raise PeerError("gap")
        known = [found for since, found in self._versions.get(device, []) if since <= size]
        if not known:
            raise PeerError("unknown_sender")
        found = known[-1]
        if isinstance(found, str):
            raise PeerError(found)
        return found

    def stale(self, device: str, size: int, /) -> bool:
        """Whether it was given up by that size."""
        return self._stale.get(device, size + 1) <= size

    def give_up(self, device: str) -> None:
        """From now on its certificates ended 30 days ago: it counts as expired and anybody may remove it."""
        self.refuse(device, "expired")
        self._stale[device] = self._size

    def enrol(self, user: str, index: int, *, rsa: bool = True, device: str | None = None) -> str:
        """One more device; its name."""
        self._size += 1
        name, keys = device or device_name(user), keys_of(index, rsa=rsa)
        record = DeviceRecord(
            device_id=name,
            user=user,
            since=self._size,
            key=keys.device.public,
            rsa_verify=RsaVerifyKey(keys.rsa_sign.spki) if keys.rsa_sign else None,
            rsa_encrypt=RsaEncryptKey(keys.rsa_decrypt.spki) if keys.rsa_decrypt else None,
            certificates=(),
            certificates_hash=sha256(b"certificates" + name.encode()),
            serials=(index,),
            spki_hashes=(),
            not_after=NOW + 90 * DAY,
            manifest_hash=sha256(b"manifest" + name.encode()),
            identity_key=sha256(b"identity" + user.encode()),
        )
        self._versions.setdefault(name, []).append((self._size, record))
        return name

    def refuse(self, device: str, code: str) -> None:
        """From now on the device counts no more, with this code."""
        self._size += 1
        self._versions[device].append((self._size, code))
