"""Suite `mls`: Messaging Layer Security (RFC 9420), the default of rooms; a thin adapter to `cloister.mls`.

Source: docs/spec/mls-rooms.md. Cipher suite 1, X.509 credentials: the device's certificate, its key the device key.

    session     what a device does; `room` what it reads, `items` what it stores
    entering    from an invitation and the tree beside its commit to the room
    rules       who the leaves are, who may change what

Invariants
- Stateless: a room's state is its session's. `create` posts the room at once, with the token of epoch 0 and an empty
  payload; members enter by Welcome (mailbox item `welcome`) while they are offline.
- A one-time key package is used once: who has entered by it deletes its private half, one of last resort stays.
Left out: external joins and rejoin, several cipher suites, contested commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Never

from cloister.errors import PeerError, UsageError
from cloister.mls import (
    Extension,
    Group,
    KeyPackageSecrets,
    encode_message,
    last_resort_extension,
    lifetime_from,
    make_key_package,
)
from cloister.primitives import Rng
from cloister.protocols.interface import (
    NO_EPOCH,
    Behind,
    Caps,
    Commit,
    Effects,
    Envelope,
    Me,
    Need,
    PreKey,
    RoomId,
    RoomPolicy,
    SenderAuth,
    Session,
)
from cloister.protocols.mls import rules
from cloister.protocols.mls.entering import joined
from cloister.protocols.mls.items import Invitation, RoomItem
from cloister.protocols.mls.room import NAME
from cloister.protocols.mls.session import MlsSession

CAPS: Final = Caps(
    suite=NAME,
    max_members=rules.MEMBERS,
    contributory=True,
    async_join=True,
    external_join=False,
    rounds_online=0,
    identity="x509",
    user_gate=None,
    forward_secrecy=True,
    post_compromise=True,
    post_quantum=False,
    sender_auth=SenderAuth.SIGNATURE,
    phrases={
        "entity authentication": "X.509 certificates of all members",
        "message origin": "signature per message",
        "forward secrecy": "for each message and each epoch",
        "post-compromise security": "at each commit",
        "contributory": "the committer's path; all by their updates",
        "size": f"2 to {rules.MEMBERS} devices; a change costs with their logarithm",
        "join while offline": "yes: key packages wait at the relay",
        "relay trust": "none for content; liveness; order is checked by the log's chain",
        "replay": "epoch, and a generation for each sender",
        "key confirmation": "confirmation tag in each commit",
        "post-quantum": "no",
        "limits": "commits need an order, which the relay's log gives",
    },
)


def _prekey(own: KeyPackageSecrets) -> PreKey:
    package = own.package
    lifetime = package.leaf_node.lifetime
    if lifetime is None:
        raise UsageError("internal", "a key package without a lifetime")
    return PreKey(
        public=encode_message(package),
        private=own.encode(),
        ref=package.reference(),
        expires=lifetime.not_after * 1000,
        not_before=lifetime.not_before * 1000,
        last_resort=package.last_resort,
    )


class Mls:
    """The suite."""

    @property
    def caps(self) -> Caps:
        """What it gives."""
        return CAPS

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        """`n` fresh key packages and one of last resort, for 84 days; PeerError when this device does not count."""
        identity = rules.identity_of(me, rules.own_certificate(me))
        lifetime = lifetime_from(now, rules.PACKAGE_LIFE)
        kinds: list[tuple[Extension, ...]] = [()] * n + [(last_resort_extension(),)]
        return [
            _prekey(make_key_package(rules.CIPHER_SUITE, identity.key, identity.template, lifetime, rng, extensions))
            for extensions in kinds
        ]

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[Session, Effects]:
        """A room with this device alone, posted at once; UsageError when the device does not count."""
        try:
            certificate = rules.own_certificate(me)
        except PeerError as error:
            raise UsageError(error.code, error.detail) from error
        directory = me.directory()
        group = Group.create(
            rules.identity_of(me, certificate),
            rules.CIPHER_SUITE,
            room,
            rules.mls_policy(directory, directory.size),
            now,
            rng,
            rules.extensions_of(policy),
        )
        item = RoomItem(room=room, policy=policy, log_size=directory.size, certificate=certificate)
        session = MlsSession(me, item, group)
        create = Commit(room=room, expects=NO_EPOCH, entry_id=rng(16), payload=b"", next_token_hash=session.token_hash)
        return session, session.finish(session.progress(), create)

    def join(self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng) -> tuple[Session, Effects]:
        """Enter by a Welcome, the sealed tree as `attachments`; Behind says what is needed first.

        `prekeys` (its reference), `realm` (a longer log), `group info` (room and token of the epoch).
        """
        if invitation.kind != "welcome":
            raise PeerError("no_session", "only a Welcome leads into a room of this suite")
        read = Invitation.decode(invitation.payload, invitation.sender)
        if prekey is None:
            raise Behind(Need(what="prekeys", ids=(read.ref,)))
        room, group = joined(me, read, prekey, invitation.attachments, now)
        session = MlsSession(me, room, group)
        return session, session.finish(session.progress())

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> Never:
        """Not yet: a device that is out is added again by a member."""
        raise UsageError("unsupported", "rooms of this suite have no external join yet")

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session as its items have it; UnavailableError("damaged")."""
        return MlsSession.restored(me, items)
