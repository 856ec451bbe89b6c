"""Staged parts: what exceeds a frame goes up first, in order, and a commit names it by hash and length.

Source: docs/spec/relay.md ("Parts"), limits STAGE and STAGE_LIFE. Parts wait in the store, not in memory.

Invariants
- Parts of one hash arrive in order; the same part again is acknowledged again, a hole is `gap`.
- A device has at most 16 MiB staged, counted by declared sizes, for ten minutes from the first part on.
- Bytes that do not hash to their name are dropped when a commit names them (`conflict`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Gathering
from cloister.relay.core.quota import Cache
from cloister.relay.core.state import Peer
from cloister.relay.store.interface import DropStaged, PutPart, Store
from cloister.wire import limits
from cloister.wire.frames import Payload, Stage, Staged

LOADED: Final = 4096
"""Devices whose staging is kept in memory beyond those in use."""


@dataclass(slots=True, eq=False)
class _Bytes:
    """One upload: `stored` bytes stand on the disk, `coming` are in batches under way."""

    size: int
    expires: int
    stored: int = 0
    coming: list[bytes] = field(default_factory=list)

    @property
    def received(self) -> int:
        return self.stored + sum(map(len, self.coming))


_Uploads = dict[bytes, _Bytes]


class Staging:
    """The uploads of all devices."""

    def __init__(self, store: Store, gathering: Gathering) -> None:
        self._store = store
        self._gathering = gathering
        self._devices: Cache[str, _Uploads] = Cache(self._load, _under_way, LOADED)

    def _load(self, device: str) -> _Uploads:
        return {row.hash: _Bytes(row.size, row.expires, row.received) for row in self._store.staged(device)}

    def stage(self, peer: Peer, frame: Stage, now: int) -> None:
        """Take one part."""
        uploads = self._live(peer.device, now)
        upload = uploads.get(frame.hash)
        if upload is None:
            if sum(other.size for other in uploads.values()) + frame.size > limits.STAGE.value:
                raise PeerError("quota", "staged parts of a device")
            upload = _Bytes(frame.size, now + limits.STAGE_LIFE.value)
        end = frame.offset + len(frame.data)
        if upload.size != frame.size or end > frame.size:
            raise PeerError("conflict", "another size was declared")
        if end > upload.received:
            if frame.offset != upload.received:
                raise PeerError("gap", f"{upload.received} bytes are here")
            self._take(peer.device, frame, upload)
            uploads[frame.hash] = upload
        self._gathering.done(peer, frame.rid)

    def _take(self, device: str, frame: Stage, upload: _Bytes) -> None:
        upload.coming.append(frame.data)
        self._gathering.write(PutPart(device, frame.hash, frame.size, frame.offset, frame.data, upload.expires))

        def stored(_now: int) -> None:
            upload.stored += len(upload.coming.pop(0))

        self._gathering.after(stored)

    def _live(self, device: str, now: int) -> _Uploads:
        """A device's uploads; those past their time are dropped first."""
        uploads = self._devices.get(device)
        for digest in [key for key, upload in uploads.items() if upload.expires < now]:
            self._drop(device, digest)
        return uploads

    def _drop(self, device: str, digest: bytes) -> None:
        self._devices.get(device).pop(digest, None)
        self._gathering.write(DropStaged(device, digest))

    def resolve(self, peer: Peer, payload: Payload, now: int) -> bytes:
        """The bytes that a commit carries or names; PeerError not_ready or conflict."""
        if isinstance(payload, bytes):
            return payload
        upload = self._live(peer.device, now).get(payload.hash)
        if upload is None or upload.size != payload.size or upload.received != upload.size:
            raise PeerError("not_ready", "parts are missing")
        data = self._store.parts(peer.device, payload.hash)[: upload.stored] + b"".join(upload.coming)
        if sha256(data) != payload.hash:
            self._drop(peer.device, payload.hash)
            raise PeerError("conflict", "the parts do not hash to their name")
        return data

    def used(self, peer: Peer, parts: Sequence[Staged]) -> None:
        """A commit has taken these over."""
        for part in parts:
            self._drop(peer.device, part.hash)


def _under_way(uploads: _Uploads) -> bool:
    return any(upload.coming for upload in uploads.values())
