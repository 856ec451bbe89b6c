"""Invite links: one line of text that lets a person into the realm, and perhaps into a room.

Source: docs/spec/identity.md ("Invites").

    cloister:join?relay=HOST:PORT&realm=NAME#1.RELAY.ROOT.TOKEN.INVITER[.ROOM.SEED]

RELAY and ROOT are SHA-256 of the SPKI of the relay's identity key and of the realm's root, INVITER that of
the inviter's identity key (empty when the link was made on the relay's own host), TOKEN is id(16) and
secret(32), ROOM(16) and SEED(32) name a room invite; all base64url without padding.

Invariants
- `parse_invite(str(invite)) == invite`, and every accepted text (but for white space around it) is
  `str` of what it gives; everything else is PeerError("bad_invite").
- The secret splits: the relay learns `relay_proof` and keeps only `stored_proof` of it, `peer_key` never
  leaves the two people, so the relay can admit, but cannot claim that the inviter's friend has come.
- What follows '#' is never in `repr`.
Left out: QR and words; using ROOM and SEED (external joins).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

from cloister.errors import PeerError
from cloister.identity.credential import realm_name
from cloister.primitives import Rng
from cloister.primitives.kdf import extract
from cloister.primitives.labelled import derive, hash_of

ID_SIZE: Final = 16
SECRET_SIZE: Final = 32
MAX_TEXT: Final = 1024
_ROOM_SIZE: Final = 16
_LINK: Final = re.compile(r"cloister:join\?relay=([^&#]*)&realm=([^&#]*)#([A-Za-z0-9_.-]*)")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-f:.]{2,45}\])")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An invite's id (16 bytes, public) and secret (32 bytes)."""

    id: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, rng: Rng) -> Token:
        """A fresh token."""
        return cls(id=rng(ID_SIZE), secret=rng(SECRET_SIZE))

    def relay_proof(self) -> bytes:
        """HKDF(secret, "relay"), 32 bytes: what the newcomer shows to the relay."""
        return derive(extract(b"", self.secret), "invite relay", self.id)

    def peer_key(self) -> bytes:
        """HKDF(secret, "peer"), 32 bytes: the key of the enrolment tag."""
        return derive(extract(b"", self.secret), "invite peer", self.id)


def stored_proof(relay_proof: bytes) -> bytes:
    """What the relay keeps of a proof: its labelled SHA-256, 32 bytes."""
    return hash_of("invite stored", relay_proof)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """A parsed link. Hashes are 32 bytes; `inviter` is None for a link made on the relay's host.

    `token` is None for a realm where anybody may register. `room` is (room id of 16, seed of 32 bytes) for a link into
    a room.
    """

    host: str
    port: int
    realm: str
    relay_hash: bytes
    root_hash: bytes
    token: Token | None
    inviter: bytes | None = None
    room: tuple[bytes, bytes] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The link."""
        token = self.token.id + self.token.secret if self.token else b""
        parts = [self.relay_hash, self.root_hash, token, self.inviter or b""]
        parts.extend(self.room or ())
        tail = ".".join(["1", *map(_to_text, parts)])
        return f"cloister:join?relay={self.host}:{self.port}&realm={self.realm}#{tail}"


def parse_invite(text: str) -> Invite:
    """The link in `text`, white space around it ignored; PeerError("bad_invite") says what is wrong."""
    text = text.strip()
    link = _LINK.fullmatch(text) if len(text) <= MAX_TEXT else None
    if link is None:
        raise PeerError("bad_invite", "it does not have the form cloister:join?relay=...&realm=...#...")
    host, port = _address(link[1])
    version, *parts = link[3].split(".")
    if version != "1":  # INVITE-01
        raise PeerError("bad_invite", "it is of another version")
    if len(parts) not in (4, 6):  # INVITE-02
        raise PeerError("bad_invite", "a part is missing; was it cut off?")
    token = _from_text(parts[2], ID_SIZE + SECRET_SIZE, "the token") if parts[2] else b""
    return Invite(
        host=host,
        port=port,
        realm=_realm(link[2]),
        relay_hash=_from_text(parts[0], 32, "the relay's key"),
        root_hash=_from_text(parts[1], 32, "the authority's key"),
        token=Token(id=token[:ID_SIZE], secret=token[ID_SIZE:]) if token else None,
        inviter=_from_text(parts[3], 32, "the inviter's key") if parts[3] else None,
        room=_room(parts[4], parts[5]) if len(parts) == 6 else None,
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if _HOST.fullmatch(host) is None or _PORT.fullmatch(port) is None or int(port) > 65535:  # INVITE-03
        raise PeerError("bad_invite", "the relay's address is not HOST:PORT")
    return host, int(port)


def _realm(text: str) -> str:
    try:
        return realm_name(text)
    except PeerError as error:
        raise PeerError("bad_invite", "the realm's name is not of the allowed form") from error


def _room(room: str, seed: str) -> tuple[bytes, bytes]:
    return _from_text(room, _ROOM_SIZE, "the room"), _from_text(seed, SECRET_SIZE, "the room's seed")


def _to_text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_text(text: str, size: int, what: str) -> bytes:
    """Exactly `size` bytes from their one spelling."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise PeerError("bad_invite", f"{what} is damaged") from error
    if len(data) != size or _to_text(data) != text:  # INVITE-04
        raise PeerError("bad_invite", f"{what} is damaged")
    return data
