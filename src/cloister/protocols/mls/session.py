"""What a device does in a room of suite `mls`: messages, changes of members and policy, leaving.

Source: docs/spec/mls-rooms.md ("Changes"). A change is one commit. Who is taken in must have a key package at the
relay: `Need("prekeys", devices)` asks for them, `answer("prekeys", ...)` goes on; devices without one stay in
`view.missing` and are asked for again after RETRY, then less and less often.

    answer("prekeys", enc([[device, package, ref, not_before, not_after], ...]))     others' packages; times in ms
    answer("prekey", enc(public, private, ref, expires, last_resort))                an own one, for a held Welcome
    answer("group info", enc(token, the sealed tree, or nothing where there is none))  what stands beside its commit
    answer("commit-refused", entry_id)                                               the relay did not take the commit

Invariants
- At most one commit is under way, until an epoch begins or the relay has refused it. Who could not enter by the own
  commit (no package yet, no place in its frame) is asked in by the next one; other changes do not wait for them.
- A commit takes along whoever the realm does not count any more, and whoever has asked to leave.
- A package that does not fit what its owner declared, or the group, is a `Fault` that names the owner; others enter.
- Who entered by a package of last resort renews its leaf once it stands in the log, when its turn comes and it may.
Left out: external joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloister.codec.cbor import Fields
from cloister.errors import PeerError, UsageError
from cloister.mls import (
    Add,
    CommitOptions,
    GroupContextExtensions,
    KeyPackage,
    Proposal,
    Remove,
    SelfRemove,
    StagedCommit,
    Welcome,
    decode_message,
    encode_message,
)
from cloister.primitives import Rng
from cloister.primitives.aead import ZERO_NONCE
from cloister.primitives.kdf import sha256
from cloister.protocols import interface
from cloister.protocols.checks import check
from cloister.protocols.forms import DEVICE_MOST, HASH, ID
from cloister.protocols.interface import (
    Behind,
    Change,
    Channel,
    ChannelKind,
    Commit,
    DeviceId,
    Effects,
    EntryKind,
    Fault,
    Leave,
    Need,
    NotReady,
    Post,
    PreKey,
    Rekey,
    SetPolicy,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.mls import rules
from cloister.protocols.mls.entering import access_token, sealed_tree
from cloister.protocols.mls.items import ADDS_MOST, SENT_MOST, Invitation, Want
from cloister.protocols.mls.room import RETRY, RETRY_MOST, MlsRoom, envelope_key, leave_context


@dataclass(frozen=True, slots=True)
class ClaimedPackage:
    """A key package that was claimed: whose, the bytes as published, and what was declared of it."""

    device: DeviceId
    public: bytes
    ref: bytes
    not_before: int
    not_after: int


class MlsSession(MlsRoom):
    """See `interface.Session`."""

    # --- messages ------------------------------------------------------------------------------------------

    def seal(self, content: bytes, entry_id: bytes, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        """Protect a message: the new ratchet state and one Post. Raises NotReady."""
        if self.state is not State.READY:
            raise NotReady(self.state, self.view.missing or tuple(sorted(self.leaving)))
        if self.gone():
            raise NotReady(State.FROZEN, self.gone())
        outer = rules.Outer(entry_id=entry_id, kind=EntryKind.APPLICATION, head=head)
        payload = self.group.protect(content, rng, outer.encode())
        self.note_head(head)
        self.sent = (*self.sent, entry_id)[-SENT_MOST:]
        return self.finish(self._post(EntryKind.APPLICATION, entry_id, payload))

    def _post(self, kind: EntryKind, entry_id: bytes, payload: bytes) -> Post:
        channel = Channel(ChannelKind.ROOM, self.room.room)
        return Post(channel=channel, kind=kind, entry_id=entry_id, payload=payload)

    # --- changes -------------------------------------------------------------------------------------------

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        """One commit for all changes; UsageError where the policy forbids it, NotReady while another is under way.

        Nothing waits behind newcomers who have no packages: it is committed without them, and they are asked again.
        """
        state = self.state
        if state is State.REMOVED or self.restored_copy or (self.want is not None and self.want.message):
            raise NotReady(state)
        if any(isinstance(change, Leave) for change in changes):
            if len(changes) > 1:
                raise UsageError("usage", "who leaves changes nothing else")
            return self._leave(rng)
        wish = self._wish(changes)
        want = self._beside_waiting(wish)
        self._require_rights(want)
        if wish.adds:
            self.want, self.retry_at, self.pause = want, 0, RETRY
            return self.finish(self.progress(), *self.ask_again(now))
        return self._commit(want, [], now, rng)

    def _beside_waiting(self, wish: Want) -> Want:
        """The wish, and what waits for packages already; NotReady when nothing in it is new."""
        waiting = self.want
        if waiting is None:
            return wish
        if wish.adds and set(wish.adds) <= set(waiting.adds) and not wish.removes and wish.policy is None:
            raise NotReady(self.state, waiting.adds)
        return Want(
            adds=tuple(sorted({*waiting.adds, *wish.adds})),
            removes=tuple(sorted({*waiting.removes, *wish.removes})),
            policy=wish.policy or waiting.policy,
        )

    def _wish(self, changes: Sequence[Change]) -> Want:
        """The changes as one; UsageError for devices that are in, or out, already."""
        adds = tuple(sorted({change.device for change in changes if isinstance(change, interface.Add)}))
        removes = tuple(sorted({change.device for change in changes if isinstance(change, interface.Remove)}))
        policies = [change.policy for change in changes if isinstance(change, SetPolicy)]
        if set(adds) & set(self.roster) or not set(removes) <= set(self.roster):
            raise UsageError("roster", "add who is out, remove who is in")
        if self.me.device in removes:
            raise UsageError("usage", "a device leaves by Leave")
        if not changes or not all(
            isinstance(each, (interface.Add, interface.Remove, SetPolicy, Rekey)) for each in changes
        ):
            raise UsageError("usage", "nothing to change")
        return Want(adds=adds, removes=removes, policy=policies[-1] if policies else None)

    def _log_size(self) -> int:
        return max(self.me.directory().size, self.room.log_size)

    def _require_rights(self, want: Want) -> None:
        """UsageError for what the others would refuse."""
        if len(self.roster) + len(want.adds) - len(want.removes) > rules.MEMBERS:
            raise UsageError("quota", f"a room has at most {rules.MEMBERS} devices")
        directory, size = self.me.directory(), self._log_size()
        wanted = rules.Wanted(by=self.me.device, added=want.adds, removed=want.removes, policy=want.policy)
        try:
            rules.check_rights(wanted, self.room.policy, directory, size)
            rules.check_newcomers((self.me.device, *want.adds), directory, size)
        except PeerError as error:
            raise UsageError(error.code, error.detail) from error

    def ask_again(self, now: int) -> tuple[Need | Wake, ...]:
        """The packages that are awaited, and when to ask again; nothing once the commit is made."""
        if self.want is None or self.want.message or not self.want.adds:
            return ()
        if self.retry_at <= now:
            self.retry_at, self.pause = now + self.pause, min(2 * self.pause, RETRY_MOST)
            return (Need(what="prekeys", ids=tuple(each.encode() for each in self._batch())), Wake(at=self.retry_at))
        return (Wake(at=self.retry_at),)

    def _batch(self) -> tuple[DeviceId, ...]:
        """Whom one commit takes in."""
        return () if self.want is None else self.want.adds[:ADDS_MOST]

    # --- the commit ----------------------------------------------------------------------------------------

    def _proposals(self, want: Want, packages: Sequence[KeyPackage]) -> list[Proposal]:
        removed = {*want.removes, *self.gone()} - self.leaving
        proposals: list[Proposal] = [Add(package) for package in packages]
        proposals += [Remove(index) for index, device in sorted(self.devices.items()) if device in removed]
        if want.policy is not None:
            proposals.append(GroupContextExtensions(rules.extensions_of(want.policy)))
        return proposals

    def _stage(
        self, want: Want, packages: Sequence[KeyPackage], entry_id: bytes, now: int, rng: Rng, *, path: bool = True
    ) -> StagedCommit:
        """The commit as the group makes it; UsageError when a package or the list breaks its rules.

        Without a path, which is most of the work in a large room, it only shows whether it can be.
        """
        directory, size = self.me.directory(), self._log_size()
        self.group.policy = rules.mls_policy(directory, size)
        outer = rules.Outer(entry_id=entry_id, kind=EntryKind.COMMIT, head=self.room.head, log_size=size)
        identity = rules.identity_of(self.me, self.room.certificate) if path else None
        options = CommitOptions(identity=identity, path=path, authenticated_data=outer.encode(), with_tree=False)
        staged = self.group.commit(now, rng, self._proposals(want, packages), options)
        try:
            rules.judge(staged, self.devices, self.room.policy, directory, size)
        except PeerError as error:
            self.group.discard(staged)
            raise UsageError(error.code, error.detail) from error
        return staged

    def _commit(self, want: Want, packages: Sequence[KeyPackage], now: int, rng: Rng) -> Effects:
        """Make the commit, store it, post it. UsageError when it cannot be, nothing being changed."""
        self._renew_certificate()
        entry_id = rng(ID)
        staged = self._stage(want, packages, entry_id, now, rng)
        self.want = replace(want, entry_id=entry_id, message=staged.message)
        commit = Commit(
            room=self.room.room,
            expects=self.token_hash,
            entry_id=entry_id,
            payload=staged.message,
            next_token_hash=sha256(access_token(staged, self.room.room)),
            sealed=self._invitations(staged, packages),
            group_info=sealed_tree(staged, self.room.room) if packages else None,
        )
        return self.finish(self.progress(), commit)

    def _renew_certificate(self) -> None:
        """One's leaf bears the newest certificate; UsageError when this device does not count any more."""
        try:
            self.room = replace(self.room, certificate=rules.own_certificate(self.me))
        except PeerError as error:
            raise UsageError(error.code, error.detail) from error

    def _invitations(
        self, staged: StagedCommit, packages: Sequence[KeyPackage]
    ) -> tuple[tuple[DeviceId, str, bytes], ...]:
        """One Welcome for each newcomer, with its own secrets only; the ratchet tree stands beside the commit."""
        if staged.welcome is None:
            return ()
        whole = decode_message(staged.welcome)
        if not isinstance(whole, Welcome):
            raise UsageError("internal", "the engine gave no Welcome")
        found = []
        for package in packages:
            ref = package.reference()
            entry = whole.entry(ref)
            if entry is not None:
                welcome = encode_message(Welcome(whole.suite_id, (entry,), whole.encrypted_group_info))
                invitation = Invitation(
                    sender=self.me.device, log_size=self._log_size(), head=self.room.head, ref=ref, welcome=welcome
                )
                found.append((rules.device_of(package.leaf_node), "welcome", invitation.encode()))
        return tuple(found)

    # --- answers -------------------------------------------------------------------------------------------

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        """See the module: `prekeys`, `prekey`, `group info`, `commit-refused`."""
        match ask:
            case "prekeys":
                return self._packages_came(value, now, rng)
            case "prekey":
                return self._own_package(value, now)
            case "group info":
                return self._tree_came(value)
            case "commit-refused":
                return self._refused(value)
            case _:
                raise UsageError("usage", f"nothing is asked that {ask} answers")

    def _packages_came(self, value: bytes, now: int, rng: Rng) -> Effects:
        want = self.want
        if want is None or want.message:
            return self.finish()
        packages, faults = self._judge_packages(_read_packages(value), want, now)
        try:
            self._require_rights(want)
            made, unfit = self._commit_fitting(want, packages, now, rng)
        except UsageError as error:
            self.want = None
            return self.finish(self.progress(), *faults, Fault(code=error.code, detail=error.detail))
        if not made:
            asked = self._batch()
            self.want = replace(want, adds=(*want.adds[len(asked) :], *asked))
            return self.finish(*faults, *unfit, *self.ask_again(now))
        return (*made, *faults, *unfit)

    def _judge_packages(
        self, rows: Sequence[ClaimedPackage], want: Want, now: int
    ) -> tuple[list[KeyPackage], list[Fault]]:
        """The packages that are what was asked for and declared, one for each device."""
        found: dict[DeviceId, KeyPackage] = {}
        faults = []
        for row in rows:
            if row.device in want.adds and row.device not in found:
                try:
                    found[row.device] = check_package(row, now)
                except PeerError as error:
                    faults.append(Fault(code=error.code, peer=row.device, detail=error.detail, check=error.check))
        return list(found.values()), faults

    def _commit_fitting(
        self, want: Want, packages: list[KeyPackage], now: int, rng: Rng
    ) -> tuple[Effects, list[Fault]]:
        """The commit of all packages, or of those that the group accepts when it does not accept all together."""
        if not packages:
            return (), []
        try:
            return self._commit(want, packages, now, rng), []
        except UsageError:
            fitting, unfit = self._fitting(want, packages, now, rng)
            if not unfit:
                raise
        if not fitting:
            return (), unfit
        return self._commit(want, fitting, now, rng), unfit

    def _fitting(
        self, want: Want, packages: list[KeyPackage], now: int, rng: Rng
    ) -> tuple[list[KeyPackage], list[Fault]]:
        """The packages that the group accepts together, and why not the others.

        What it refuses is halved, so that one bad package of many costs few tries; of two that exclude each other (one
        key in both) the first fits.
        """
        fitting: list[KeyPackage] = []
        unfit: list[Fault] = []
        todo = [packages]
        while todo:
            some = todo.pop()
            try:
                self.group.discard(self._stage(want, [*fitting, *some], rng(ID), now, rng, path=False))
            except UsageError as error:
                if len(some) == 1:
                    peer = rules.device_of(some[0].leaf_node)
                    unfit.append(Fault(code=error.code, peer=peer, detail=error.detail))
                else:
                    half = len(some) // 2
                    todo += [some[half:], some[:half]]
            else:
                fitting += some
        return fitting, unfit

    def _own_package(self, value: bytes, now: int) -> Effects:
        fields = Fields.decode(value, "own key package")
        prekey = PreKey(
            public=fields.octets("public"),
            private=fields.octets("private"),
            ref=fields.octets("reference", HASH),
            expires=fields.uint("expires"),
            last_resort=fields.flag("last resort"),
        )
        fields.end()
        invitation = self.held.get(prekey.ref)
        if invitation is None or self.state is not State.REMOVED:
            return self.finish()
        try:
            return self.enter(invitation, prekey, now)
        except Behind as behind:
            return (behind.need,)
        except PeerError as error:
            self.drop_held(prekey.ref)
            fault = Fault(code=error.code, peer=invitation.sender, detail=error.detail, check=error.check)
            return self.finish(fault)

    def _tree_came(self, value: bytes) -> Effects:
        """What a held Welcome waited for: try again; a Welcome to an epoch that the relay does not have goes."""
        fields = Fields.decode(value, "group info")
        token, sealed = fields.octets("token", HASH), fields.octets("sealed")
        fields.end()
        for ref, (of, _) in list(self.beside.items()):
            if of == token and sealed:
                self.beside[ref] = token, sealed
            elif of == token:
                sender = self.held[ref].sender
                self.drop_held(ref)
                return self.finish(Fault(code="no_session", peer=sender, detail="no tree beside its commit"))
        return self.need_packages()

    def _refused(self, entry_id: bytes) -> Effects:
        """The relay has said that it did not store the commit, and will not."""
        if self.want is None or self.want.entry_id != entry_id:
            return self.finish()
        staged = self.staged()
        if staged is not None:
            self.group.discard(staged)
        self.want = None
        return self.finish(self.progress())

    # --- leaving -------------------------------------------------------------------------------------------

    def _leave(self, rng: Rng) -> Effects:
        """Ask the others to take this device out: nobody can commit its own removal."""
        if len(self.devices) < 2:
            raise UsageError("not_ready", "nobody is here who could carry it out")
        if self.me.device in self.leaving:
            raise NotReady(self.state)
        self.want = None
        entry_id = rng(ID)
        outer = rules.Outer(entry_id=entry_id, kind=EntryKind.HANDSHAKE, head=self.room.head)
        message = self.group.propose(SelfRemove(), 0, rng, outer.encode())
        key = envelope_key(self.group, entry_id)
        payload = key.seal(ZERO_NONCE, message, leave_context(self.room.room))
        return self.finish(self.progress(), self._post(EntryKind.HANDSHAKE, entry_id, payload))

    # --- time ----------------------------------------------------------------------------------------------

    def wake(self, now: int, rng: Rng) -> Effects:
        """Ask again for key packages; commit who leaves."""
        if self.state is State.REMOVED:
            return self.finish(*self.need_packages())
        due = self.leave_at and self.leave_at <= now and self.leaving and self.want is None
        turn = self.turn_to_renew(now)
        if due or (turn and turn[0].at <= now):
            self.leave_at = 0
            try:
                return self._commit(Want(), [], now, rng)
            except UsageError as error:
                return self.finish(Fault(code=error.code, detail=error.detail))
        return self.finish(*self.ask_again(now), *self.turn_to_commit(now), *turn)

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        """A secret of the epoch, or of the one that the own commit would make; NotReady where there is none."""
        if not pending:
            return self.group.export(label, context, length)
        staged = self.staged()
        if staged is None:
            raise NotReady(self.state)
        return staged.export(label, context, length)


@check("GRP-11")
def check_package(row: ClaimedPackage, now: int) -> KeyPackage:
    """The key package that was claimed for a device; PeerError unless it is that device's and as it was declared."""
    package = decode_message(row.public)
    if not isinstance(package, KeyPackage):
        raise PeerError("bad_encoding", "not a key package", check="GRP-11")
    lifetime = package.leaf_node.lifetime
    if rules.device_of(package.leaf_node) != row.device or lifetime is None:
        raise PeerError("identity_changed", "a key package of somebody else", check="GRP-11")
    declared = (row.ref, row.not_before, row.not_after)
    if (package.reference(), lifetime.not_before * 1000, lifetime.not_after * 1000) != declared:
        raise PeerError("conflict", "the key package is not the one that was declared", check="GRP-11")
    if not row.not_before <= now <= row.not_after:
        raise PeerError("expired", "a key package past its time", check="GRP-11")
    return package


def _read_packages(value: bytes) -> list[ClaimedPackage]:
    """What a driver answers to Need("prekeys"); PeerError("bad_encoding")."""
    rows = []
    outer = Fields.decode(value, "key packages")
    for item in outer.array("packages", ADDS_MOST):
        fields = Fields(item, "key package")
        rows.append(
            ClaimedPackage(
                fields.text("device", DEVICE_MOST),
                fields.octets("package"),
                fields.octets("reference", HASH),
                fields.uint("not before"),
                fields.uint("not after"),
            )
        )
        fields.end()
    outer.end()
    return rows
