"""Entering a room of suite `mls`: an invitation, one's key package, and the ratchet tree beside the commit.

Source: docs/spec/mls-rooms.md ("Invitations"). An invitation has the size of one device's secrets, however many are
in the room: the tree lies beside the commit at the relay as its group info, sealed under a key of the epoch that the
commit makes. The Welcome gives that key, and the access token that opens it, before anything of it is verified.

    Need("group info", (room, token))     what has to be fetched: `joined` raises Behind with it when it is not given

Invariants
- Nothing counts before the tree is there: Group.join verifies Welcome, GroupInfo and tree together.
- A newcomer judges every leaf at the realm log size of the invitation, and who invites must be one of them.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import PeerError
from cloister.mls import Group, JoinOptions, KeyPackageSecrets, OpenedWelcome, StagedCommit
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.protocols.context import check_reach
from cloister.protocols.forms import ID
from cloister.protocols.interface import Behind, Me, Need, PreKey
from cloister.protocols.mls import rules
from cloister.protocols.mls.items import Invitation, RoomItem

_BESIDE: Final = b"group info"


def access_token(source: Group | StagedCommit | OpenedWelcome, room: bytes) -> bytes:
    """The token that opens an epoch's log, 32 bytes."""
    return source.export("cloister relay access", room, 32)


def _tree_key(source: StagedCommit | OpenedWelcome, room: bytes) -> Aead:
    """What seals the tree beside the commit: a key of its epoch, used once."""
    return Aead.aes_gcm(source.export("cloister group info", room, 32))


def sealed_tree(staged: StagedCommit, room: bytes) -> bytes:
    """The tree that a commit makes, for those whom it takes in."""
    return _tree_key(staged, room).seal(ZERO_NONCE, staged.ratchet_tree(), room + _BESIDE)


def joined(me: Me, invitation: Invitation, prekey: PreKey, sealed: bytes, now: int) -> tuple[RoomItem, Group]:
    """The room and group that a Welcome leads into; PeerError where it is not acceptable, Behind if too early."""
    directory = me.directory()
    if prekey.ref != invitation.ref or not invitation.log_size:
        raise PeerError("misrouted", "an invitation for another key package")
    check_reach(directory, invitation.log_size)
    own = KeyPackageSecrets.decode(prekey.private)
    opened = Group.open_welcome(own, invitation.welcome)
    room_id = opened.group_id
    if opened.suite != rules.CIPHER_SUITE or len(room_id) != ID:
        raise PeerError("wrong_context", "not a room's group")
    if not sealed:
        raise Behind(Need(what="group info", ids=(room_id, access_token(opened, room_id))))
    tree = _tree_key(opened, room_id).open(ZERO_NONCE, sealed, room_id + _BESIDE)
    certificate = own.package.leaf_node.credential.certificates[0]
    policy = rules.mls_policy(directory, invitation.log_size)
    identity, beside = rules.identity_of(me, certificate), JoinOptions(tree=tree)
    group = Group.join(own, identity, invitation.welcome, policy, now, options=beside)
    room = RoomItem(
        room=room_id,
        policy=rules.check_extensions(group.extensions),
        log_size=invitation.log_size,
        certificate=certificate,
        joined_at=invitation.head,
        head=invitation.head,
        renew=prekey.last_resort,
    )
    devices = [rules.device_of(leaf) for _, leaf in group.members()]
    rules.check_members(devices, directory, invitation.log_size)
    rules.check_inviter(invitation.sender, me.device, devices)
    return room, group
