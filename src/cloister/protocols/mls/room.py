"""A room whose keys an MLS group makes, as one device reads it (suite `mls`); `session` is what it does itself.

Source: docs/spec/mls-rooms.md; the rules of a commit stand in `rules`, the stored items in `items`.

States follow from the items: REMOVED (put out; a Welcome leads in again); READ_ONLY (restored from a backup, or alone);
PENDING (alone, and somebody is being asked in); FROZEN (a member leaves: somebody commits that first); READY.

Invariants
- A room moves only by `receive`: one's own commit is staged, stored, and merged when it comes back in the log; when
  another one wins, it is dropped with the epoch.
- Everything is checked before anything changes. What the MLS engine has accepted and the room's rules refuse is a
  `Fault` that names the member.
- Entries are judged with their own time, so that all members judge lifetimes alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Self

from cloister.errors import PeerError
from cloister.mls import (
    ApplicationData,
    Group,
    PrivateMessage,
    PublicMessage,
    SelfRemove,
    StagedCommit,
    decode_message,
)
from cloister.primitives import Rng
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    NO_EPOCH,
    READ_ONLY_ITEM,
    Behind,
    Channel,
    ChannelKind,
    Deliver,
    DeviceId,
    Drop,
    Effect,
    Effects,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    Me,
    Need,
    NotReady,
    PreKey,
    Put,
    Roster,
    SessionView,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.mls import rules
from cloister.protocols.mls.entering import access_token, joined
from cloister.protocols.mls.items import (
    GROUP,
    HELD,
    HELD_MOST,
    ROOM,
    SENT,
    WANT,
    Invitation,
    Loaded,
    RoomItem,
    Want,
    encode_sent,
)
from cloister.protocols.policy import Right, permits

NAME: Final = "mls"
_APPLICATION, _COMMIT = 1, 3  # RFC 9420 section 6, ContentType
LEAVE_TURN: Final = 5_000
"""Between the turns (ms) of members who may commit somebody's leaving; shorter where there are many."""
LEAVE_MOST: Final = 120_000
"""After it (ms) everybody has had its turn: whoever is online thaws the room."""
RETRY: Final = 30_000
"""Pause (ms) before key packages are asked for again; doubled up to RETRY_MOST."""
RETRY_MOST: Final = 1_800_000
RENEW_TURN: Final = 1_000
"""Between the turns (ms) of those who entered by packages of last resort; a room takes as many commits."""


def envelope_key(group: Group, entry_id: bytes) -> Aead:
    """What seals a handshake entry whose MLS form would show its sender to the relay."""
    return Aead.aes_gcm(group.export("cloister envelope", entry_id, 32))


class MlsRoom:
    """State, storage and reading: the half of a session that follows the log."""

    def __init__(self, me: Me, room: RoomItem, group: Group | None) -> None:
        self.me = me
        self.room = room
        self.want: Want | None = None
        self.sent: tuple[bytes, ...] = ()
        self.held: dict[bytes, Invitation] = {}
        self.beside: dict[bytes, tuple[bytes, bytes]] = {}
        """Reference of a held invitation -> the token of its epoch, and the sealed tree once that has come."""
        self.devices: dict[int, DeviceId] = {}
        self.retry_at = 0
        self.token = b""
        self.leave_at = 0
        self.renew_at = 0
        self.pause = RETRY
        self._read_only = False
        self._stored: dict[bytes, bytes] = {}
        self._group_keys: set[bytes] = set()
        self._gone: tuple[int, Roster] = (0, ())
        self._group = group
        self._enter_epoch()

    @classmethod
    def restored(cls, me: Me, items: Mapping[bytes, bytes]) -> Self:
        """The session as its items have it; UnavailableError("damaged")."""
        loaded = Loaded.of(dict(items))
        group = None
        if loaded.group:
            directory = me.directory()
            identity = rules.identity_of(me, loaded.room.certificate)
            group = Group.restore(loaded.group, identity, rules.mls_policy(directory, loaded.room.log_size))
        session = cls(me, loaded.room, group)
        session.want, session.sent, session.held = loaded.want, loaded.sent, loaded.held
        session._read_only = READ_ONLY_ITEM in items
        session._stored = {key: value for key, value in items.items() if not key.startswith(GROUP)}
        session._group_keys = set(loaded.group)
        return session

    # --- what is -------------------------------------------------------------------------------------------

    @property
    def group(self) -> Group:
        """The MLS group; NotReady when this device is out of it."""
        if self._group is None:
            raise NotReady(State.REMOVED)
        return self._group

    @property
    def roster(self) -> Roster:
        """The members, sorted."""
        return tuple(sorted(self.devices.values())) if self._group is not None else self.room.roster

    @property
    def leaving(self) -> frozenset[DeviceId]:
        """The members who have asked to be taken out."""
        if self._group is None:
            return frozenset()
        return frozenset(self.devices[sent.sender.index] for sent in self._group.pending)

    @property
    def restored_copy(self) -> bool:
        """Whether this is a backup, which may not use its keys: they may have been used since."""
        return self._read_only

    @property
    def state(self) -> State:
        """What the session waits for."""
        if self._group is None:
            return State.REMOVED
        if self._read_only:
            return State.READ_ONLY
        if len(self.devices) < 2:
            return State.PENDING if self.want is not None and self.want.adds else State.READ_ONLY
        return State.FROZEN if self.leaving else State.READY

    @property
    def view(self) -> SessionView:
        """The state for surfaces."""
        return SessionView(
            suite=NAME,
            room=self.room.room,
            epoch=self.room.epoch if self._group is None else self._group.epoch,
            roster=self.roster,
            state=self.state,
            policy=self.room.policy,
            missing=self.want.adds if self.want is not None else (),
            key_check=self._key_check(),
            joined_at=self.room.joined_at,
            pending_changes=self.want.changes if self.want is not None and self.want.message else (),
        )

    def _key_check(self) -> str:
        if self._group is None:
            return ""
        shown = self._group.export("cloister key check", self.room.room, 5).hex()
        return f"{shown[:5]}-{shown[5:]}"

    @property
    def token_hash(self) -> bytes:
        """The epoch's name at the relay."""
        return sha256(self.token)

    def progress(self, began_by: int = 0) -> EpochChanged:
        """What tells that the state moved."""
        view = self.view
        return EpochChanged(
            epoch=view.epoch,
            roster=view.roster,
            state=view.state,
            missing=view.missing,
            key_check=view.key_check,
            access_token=self.token or None,
            began_by=began_by,
        )

    def gone(self) -> Roster:
        """The members whom the realm does not count any more, as far as its log is known."""
        directory = self.me.directory()
        if self._gone[0] != directory.size:
            lost = tuple(device for device in self.roster if rules.gone(directory, device, directory.size))
            self._gone = (directory.size, lost)
        return self._gone[1]

    # --- storing -------------------------------------------------------------------------------------------

    def finish(self, *effects: Effect) -> Effects:
        """What has changed since the last call, then these effects."""
        wanted = {ROOM: self.room.encode()}
        if self.want is not None:
            wanted[WANT] = self.want.encode()
        if self.sent:
            wanted[SENT] = encode_sent(self.sent)
        if self._read_only:
            wanted[READ_ONLY_ITEM] = self._stored.get(READ_ONLY_ITEM, b"")
        wanted.update({HELD + ref: held.stored() for ref, held in self.held.items()})
        drops = [Drop(key=key) for key in self._stored if key not in wanted]
        puts = [Put(key=key, value=value) for key, value in wanted.items() if self._stored.get(key) != value]
        self._stored = wanted
        return (*self._group_items(), *drops, *puts, *effects)

    def _group_items(self) -> list[Effect]:
        if self._group is None:
            lost, self._group_keys = self._group_keys, set()
            return [Drop(key=GROUP + key) for key in sorted(lost)]
        changes = self._group.changes()
        dropped = [key for key in dict.fromkeys(changes.drop) if key in self._group_keys and key not in changes.put]
        self._group_keys = (self._group_keys | set(changes.put)) - set(dropped)
        return [
            *(Drop(key=GROUP + key) for key in dropped),
            *(Put(key=GROUP + key, value=value) for key, value in changes.put.items()),
        ]

    def _enter_epoch(self) -> None:
        """The group stands in another epoch than before."""
        members = () if self._group is None else self._group.members()
        self.devices = {index: rules.device_of(leaf) for index, leaf in members}
        self.token = b"" if self._group is None else access_token(self._group, self.room.room)
        self.want, self.sent, self.leave_at, self._gone = None, (), 0, (0, ())

    # --- what comes in -------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        """Take an envelope; hostile input gives a `Fault` and changes nothing."""
        try:
            return self._take(envelope, now)
        except Behind as behind:
            return (behind.need,)
        except PeerError as error:
            return (Fault(code=error.code, detail=error.detail, check=error.check),)

    def _take(self, envelope: Envelope, now: int) -> Effects:
        if envelope.channel.kind is ChannelKind.MAILBOX:
            return self._take_mail(envelope)
        if envelope.channel != Channel(ChannelKind.ROOM, self.room.room):
            raise PeerError("misrouted", "an entry of another room")
        if self._group is None:
            raise PeerError("stale_epoch", "this device is out of the room")
        match envelope.kind:
            case EntryKind.APPLICATION:
                return self._take_message(envelope, now)
            case EntryKind.COMMIT:
                return self._take_commit(envelope, now)
            case EntryKind.CREATE:
                return self._take_create(envelope)
            case EntryKind.HANDSHAKE:
                return self._take_leave(envelope, now)
            case _:
                raise PeerError("unsupported", "an entry of another kind")

    def note_head(self, head: SignedHead | None) -> None:
        """Remember the newest head."""
        known = self.room.head
        if head is not None and (known is None or (head.incarnation, head.seq) > (known.incarnation, known.seq)):
            self.room = replace(self.room, head=head)

    def _check_epoch(self, envelope: Envelope) -> None:
        if envelope.token_hash != self.token_hash:
            raise PeerError("stale_epoch", "an entry of an epoch that is not held")

    def _private(self, payload: bytes, content_type: int) -> PrivateMessage:
        message = decode_message(payload)
        if not isinstance(message, PrivateMessage) or message.content_type != content_type:
            raise PeerError("inner_outer", "another kind of message than its entry says")
        return message

    def _take_message(self, envelope: Envelope, now: int) -> Effects:
        if envelope.entry_id in self.sent:
            self.sent = tuple(each for each in self.sent if each != envelope.entry_id)
            return self.finish()
        self._check_epoch(envelope)
        message = self._private(envelope.payload, _APPLICATION)
        outer = rules.check_outer(message.authenticated_data, envelope.entry_id, envelope.kind)
        received = self.group.process(envelope.payload, envelope.ts_ms or now)
        if not isinstance(received, ApplicationData):
            raise PeerError("inner_outer")
        self.note_head(envelope.head)
        return self.finish(
            Deliver(
                sender=self.devices[received.sender],
                epoch=received.epoch,
                seq=envelope.seq,
                entry_id=envelope.entry_id,
                content=received.data,
                head=outer.head,
            )
        )

    def _take_create(self, envelope: Envelope) -> Effects:
        """The room's first entry comes back to who made it."""
        expected = (NO_EPOCH, self.token_hash, b"")
        if (envelope.token_hash, envelope.next_token_hash, envelope.payload) != expected or self.group.epoch:
            raise PeerError("wrong_context", "not the entry that made this room")
        return self._begun(envelope)

    def _begun(self, envelope: Envelope) -> Effects:
        """The entry that made the epoch in which this device is."""
        if not self.room.awaited:
            raise PeerError("replay", "the epoch has begun already")
        self.room = replace(self.room, awaited=False)
        self.note_head(envelope.head)
        return self.finish(self.progress(envelope.seq), *self.turn_to_renew(envelope.ts_ms))

    def _take_commit(self, envelope: Envelope, now: int) -> Effects:
        message = self._private(envelope.payload, _COMMIT)
        outer = rules.check_outer(message.authenticated_data, envelope.entry_id, envelope.kind)
        if envelope.next_token_hash == self.token_hash:
            if outer.log_size != self.room.log_size:
                raise PeerError("wrong_context", "the invitation named another realm log than the commit")
            return self._begun(envelope)
        self._check_epoch(envelope)
        directory = self.me.directory()
        rules.check_log_size(outer.log_size, self.room.log_size, directory)
        self.group.policy = rules.mls_policy(directory, outer.log_size)
        staged = self.group.process(envelope.payload, envelope.ts_ms or now)
        if not isinstance(staged, StagedCommit):
            raise PeerError("inner_outer")
        try:
            wanted = rules.judge(staged, self.devices, self.room.policy, directory, outer.log_size)
            if not staged.removes_me:
                token_hash = sha256(access_token(staged, self.room.room))
                rules.check_next_token(envelope.next_token_hash, token_hash)
        except PeerError as error:
            peer = self.devices.get(staged.committer)
            return (Fault(code=error.code, peer=peer, detail=error.detail, check=error.check),)
        return self._merge(staged, wanted, envelope, now, outer.log_size)

    def _merge(self, staged: StagedCommit, wanted: rules.Wanted, envelope: Envelope, now: int, size: int) -> Effects:
        """A commit that counts."""
        out = {*wanted.removed, *wanted.left}
        own = self.want if self.want is not None and self.want.message == envelope.payload else None
        roster = tuple(sorted({*(device for device in self.roster if device not in out), *wanted.added}))
        self.group.merge(staged, now)
        self.room = replace(
            self.room,
            policy=wanted.policy or self.room.policy,
            log_size=size,
            awaited=False,
            renew=self.room.renew and not (own and staged.has_path),
            out=staged.removes_me,
            epoch=staged.epoch,
            roster=roster if staged.removes_me else (),
        )
        self.note_head(envelope.head)
        self._read_only = False
        if staged.removes_me:
            self._group = None
        self._enter_epoch()
        left = tuple(device for device in own.adds if device not in roster) if own is not None else ()
        wakes = self.turn_to_renew(now)
        if left:
            self.want, self.retry_at = Want(adds=left), 0
            wakes = (Wake(at=now),)
        return self.finish(self.progress(envelope.seq), *self.need_packages(), *wakes)

    # --- leaving -------------------------------------------------------------------------------------------

    def _take_leave(self, envelope: Envelope, now: int) -> Effects:
        """A member asks to be taken out: a SelfRemove, sealed so that the relay does not see whose."""
        self._check_epoch(envelope)
        associated = leave_context(self.room.room)
        payload = envelope_key(self.group, envelope.entry_id).open(ZERO_NONCE, envelope.payload, associated)
        message = decode_message(payload)
        if not isinstance(message, PublicMessage):
            raise PeerError("inner_outer", "another kind of message than its entry says")
        content = message.content.content
        if not isinstance(content.content, SelfRemove):
            raise PeerError("not_allowed", "a proposal that rooms do not use")
        rules.check_outer(content.authenticated_data, envelope.entry_id, envelope.kind)
        self.group.process(payload, envelope.ts_ms or now)
        self.note_head(envelope.head)
        return self.finish(self.progress(), *self.turn_to_commit(now))

    def turn_to_commit(self, now: int) -> tuple[Wake, ...]:
        """When it is this device's turn to commit the leavers; nothing for a leaver."""
        staying = [device for device in self.roster if device not in self.leaving]
        if not self.leaving or self.me.device not in staying or self.want is not None:
            return ()
        turn = min(LEAVE_TURN, LEAVE_MOST // len(staying))
        self.leave_at = self.leave_at or now + 1_000 + turn * staying.index(self.me.device)
        return (Wake(at=self.leave_at),)

    def turn_to_renew(self, since: int) -> tuple[Wake, ...]:
        """When who entered by a package of last resort renews its leaf: others may hold a Welcome to the same keys.

        In turns by the roster, from `since` (ms) on: if all newcomers did it at once, all but one would lose each time.
        """
        may = permits(self.room.policy, rules.user_of(self.me.device), Right.REKEY)
        able = not (self.room.awaited or self._read_only or self.leaving or self.want)
        if not (self.room.renew and may and able):
            return ()
        self.renew_at = self.renew_at or since + RENEW_TURN * self.roster.index(self.me.device)
        return (Wake(at=self.renew_at),)

    # --- invitations ---------------------------------------------------------------------------------------

    def _take_mail(self, envelope: Envelope) -> Effects:
        """A Welcome for somebody who is here, or was: kept until this device is out, then it leads in again."""
        if envelope.kind != "welcome":
            raise PeerError("unsupported", "a mailbox item of another kind")
        invitation = Invitation.decode(envelope.payload, envelope.sender)
        if len(self.held) >= HELD_MOST and invitation.ref not in self.held:
            self.drop_held(next(iter(self.held)))
        self.held = {**self.held, invitation.ref: invitation}
        return self.finish(*self.need_packages())

    def need_packages(self) -> tuple[Need, ...]:
        """Once out, ask for the private halves that open the Welcomes which came."""
        return (Need(what="prekeys", ids=tuple(self.held)),) if self._group is None and self.held else ()

    def staged(self) -> StagedCommit | None:
        """The own commit that has not come back yet."""
        if self._group is None or self.want is None or not self.want.message:
            return None
        found = self._group.process(self.want.message, 0)
        return found if isinstance(found, StagedCommit) else None

    def enter(self, invitation: Invitation, prekey: PreKey, now: int) -> Effects:
        """Enter again by a Welcome; PeerError when it is not acceptable, Behind when the directory is too short."""
        _, sealed = self.beside.get(invitation.ref, (b"", b""))
        try:
            room, group = joined(self.me, invitation, prekey, sealed, now)
        except Behind as behind:
            if behind.need.what == "group info":
                self.beside[invitation.ref] = behind.need.ids[1], b""
            raise
        if room.room != self.room.room:
            raise PeerError("misrouted", "an invitation to another room")
        self.room, self._group, self._group_keys, self.renew_at = room, group, set(), 0
        self.drop_held(invitation.ref)
        self._enter_epoch()
        return self.finish(self.progress())

    def drop_held(self, ref: bytes) -> None:
        """A held invitation has done its work, or will never do it."""
        self.held = {other: held for other, held in self.held.items() if other != ref}
        self.beside.pop(ref, None)


def leave_context(room: bytes) -> bytes:
    """The associated data of a sealed leave."""
    return room + EntryKind.HANDSHAKE.value.encode()
