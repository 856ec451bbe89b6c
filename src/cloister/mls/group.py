"""A group as one of its members sees it: the API of the engine.

States: ACTIVE; SUSPENDED after a ReInit was merged (the successor group goes on); LEFT after a commit that
removed this member.

Invariants
- Received bytes change nothing unless they are accepted; a commit, received or made, changes nothing until
  `merge`. The one exception: making a message uses up a key, whatever becomes of the message.
- Only PeerError leaves `process` and `join`; UsageError says that the caller asked for what is forbidden now.
- `changes` names what must be stored, with the messages it accounts for, before anything is sent.
- Times are milliseconds since the epoch. A room that orders its messages passes each message's own time, so that
  all members judge lifetimes alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cloister.errors import PeerError, UsageError
from cloister.mls import committing, joining, private_message, public_message
from cloister.mls import proposal_list as rules
from cloister.mls import receiving as receive
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite, suite_of
from cloister.mls.commit import Commit
from cloister.mls.committing import CommitOptions, PskLookup
from cloister.mls.epoch import Epoch, Identity
from cloister.mls.extension import Extensions
from cloister.mls.framing import (
    APPLICATION,
    MEMBER,
    PRIVATE_MESSAGE,
    PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    Sender,
)
from cloister.mls.group_info import GroupInfo
from cloister.mls.group_state import GroupState
from cloister.mls.joining import JoinOptions, OpenedWelcome
from cloister.mls.key_package import KeyPackage, KeyPackageSecrets
from cloister.mls.leaf_node import SOURCE_UPDATE, LeafNode, LeafPlace, make_leaf
from cloister.mls.message import decode_message, encode_message
from cloister.mls.policy import Policy, SentProposal
from cloister.mls.private_message import PrivateMessage
from cloister.mls.proposal import Add, PreSharedKey, Proposal, Reference, SelfRemove, Update
from cloister.mls.psk import APPLICATION as APPLICATION_USAGE
from cloister.mls.psk import BRANCH, EXTERNAL, REINIT, RESUMPTION, PreSharedKeyId
from cloister.mls.public_message import PublicMessage
from cloister.mls.receiving import ApplicationData, ReceivedProposal
from cloister.mls.selection import select
from cloister.mls.staged import StagedCommit
from cloister.mls.store import ACTIVE, LEFT, SUSPENDED, Changes, Items
from cloister.mls.successor import Origin
from cloister.mls.welcome import Welcome
from cloister.primitives import Rng


def no_psks(psk: PreSharedKeyId) -> bytes | None:
    """For groups without external pre-shared keys."""
    return None


def _welcome(message: bytes) -> Welcome:
    decoded = decode_message(message)
    if not isinstance(decoded, Welcome):
        refuse("MLS-V009", "not a Welcome")
    return decoded


_DEFAULT: Final = CommitOptions()
Received = ApplicationData | ReceivedProposal | StagedCommit


class Group:
    """One member's view of one group."""

    __slots__ = ("_state", "policy")

    def __init__(self, state: GroupState, policy: Policy) -> None:
        """Use `create`, `join`, `join_external` or `restore`."""
        self._state = state
        self.policy = policy

    # entering

    @classmethod
    def create(
        cls,
        identity: Identity,
        suite: CipherSuite,
        group_id: bytes,
        policy: Policy,
        now: int,
        rng: Rng,
        extensions: Extensions = (),
    ) -> Group:
        """A new group of one member."""
        epoch, secret = joining.create(identity, suite, group_id, extensions, policy, now, rng)
        return cls(GroupState.start(epoch, secret), policy)

    @staticmethod
    def open_welcome(own: KeyPackageSecrets, welcome: bytes, lookup: PskLookup = no_psks) -> OpenedWelcome:
        """Look into a Welcome whose tree is still to be fetched; `join` verifies."""
        return joining.open_welcome(own, _welcome(welcome), lookup)

    @classmethod
    def join(
        cls,
        own: KeyPackageSecrets,
        identity: Identity,
        welcome: bytes,
        policy: Policy,
        now: int,
        lookup: PskLookup = no_psks,
        options: JoinOptions | None = None,
    ) -> Group:
        """Enter by a Welcome; delete the key package's secrets afterwards unless it is of last resort."""
        message = _welcome(welcome)
        if identity.key.public.raw != own.package.leaf_node.signature_key:
            raise UsageError("usage", "the key package is not this identity's")
        chosen = options or JoinOptions()
        epoch, secret = joining.join(own, identity, message, policy, lookup, now, chosen)
        return cls(GroupState.start(epoch, secret), policy)

    @classmethod
    def join_external(
        cls,
        identity: Identity,
        group_info: bytes,
        policy: Policy,
        now: int,
        rng: Rng,
        lookup: PskLookup = no_psks,
        options: JoinOptions | None = None,
        *,
        resync: int | None = None,
        psks: tuple[PreSharedKeyId, ...] = (),
        self_removes: tuple[SentProposal, ...] = (),
        authenticated_data: bytes = b"",
    ) -> tuple[Group, bytes]:
        """Enter by one's own commit: the group, to be used once the members have accepted, and the message."""
        info = decode_message(group_info)
        if not isinstance(info, GroupInfo):
            refuse("MLS-V009", "not a GroupInfo")
        (epoch, secret), message = joining.join_external(
            identity,
            info,
            policy,
            lookup,
            now,
            rng,
            options or JoinOptions(),
            resync=resync,
            psks=psks,
            self_removes=self_removes,
            authenticated_data=authenticated_data,
        )
        return cls(GroupState.start(epoch, secret), policy), message

    @classmethod
    def restore(cls, items: Items, identity: Identity, policy: Policy, *coming: Identity) -> Group:
        """From stored items; `coming` are identities that one's pending Updates and commits bring.

        UsageError when the group's leaf, or one of these, is of none of them.
        """
        return cls(GroupState.restore(items, (identity, *coming)), policy)

    # what is

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self._epoch.context.group_id

    @property
    def epoch(self) -> int:
        """The number of the current epoch."""
        return self._epoch.number

    @property
    def suite(self) -> CipherSuite:
        """The group's cipher suite."""
        return self._epoch.suite

    @property
    def own_leaf(self) -> int:
        """This member's leaf index."""
        return self._epoch.own

    @property
    def extensions(self) -> Extensions:
        """The extensions of the group context."""
        return self._epoch.context.extensions

    @property
    def state(self) -> int:
        """ACTIVE, SUSPENDED or LEFT."""
        return self._state.state

    @property
    def epoch_authenticator(self) -> bytes:
        """Equal for all who are in the same state: to be compared out of band."""
        return self._epoch.secrets.epoch_authenticator

    @property
    def pending(self) -> tuple[SentProposal, ...]:
        """The proposals of this epoch that no commit has taken up yet."""
        return tuple(self._state.proposals.values())

    def members(self) -> tuple[tuple[int, LeafNode], ...]:
        """All (leaf index, leaf node)."""
        return tuple(self._epoch.tree.members())

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter of the current epoch: `length` bytes."""
        return self._epoch.export(label, context, length)

    def group_info(
        self, *, with_tree: bool = True, with_external_pub: bool = True, extensions: Extensions = ()
    ) -> bytes:
        """The signed GroupInfo by which others may join."""
        info = self._epoch.group_info(with_tree=with_tree, with_external_pub=with_external_pub, extensions=extensions)
        return encode_message(info)

    def ratchet_tree(self) -> bytes:
        """The public tree, for those who join without it in the GroupInfo."""
        return self._epoch.tree.encode()

    def resumption_psk(self, psk: PreSharedKeyId) -> bytes | None:
        """This group's resumption key of a kept epoch: a `PskLookup` for other groups of this client."""
        return self._state.resumption_psk(psk)

    def origin(self) -> Origin:
        """What a successor of this group is compared with."""
        credentials = tuple(leaf.credential for _, leaf in self._epoch.tree.members())
        return Origin(context=self._epoch.context, credentials=credentials, reinit=self._state.reinit)

    def new_psk_id(self, rng: Rng, *, key_id: bytes = b"", epoch: int | None = None) -> PreSharedKeyId:
        """The id of an external key, or of this group's resumption key of `epoch`, with a fresh nonce."""
        nonce = rng(self.suite.nh)
        if epoch is None:
            return PreSharedKeyId(kind=EXTERNAL, key_id=key_id, nonce=nonce)
        return PreSharedKeyId(
            kind=RESUMPTION, usage=APPLICATION_USAGE, group_id=self.group_id, epoch=epoch, nonce=nonce
        )

    # sending

    def protect(self, data: bytes, rng: Rng, authenticated_data: bytes = b"") -> bytes:
        """An encrypted application message; UsageError while a proposal waits for a commit."""
        self._require_active()
        if self._state.proposals:
            raise UsageError("usage", "commit or drop the pending proposals first")
        return self._send(data, rng, authenticated_data, public=False)[1]

    def propose(
        self, proposal: Proposal, now: int, rng: Rng, authenticated_data: bytes = b"", *, public: bool = False
    ) -> bytes:
        """The message of a proposal, pending from now on; a SelfRemove is always public."""
        self._require_active()
        epoch = self._epoch
        public = public or isinstance(proposal, SelfRemove) or not self.policy.private_handshake
        alone = SentProposal(sender=Sender(MEMBER, epoch.own), proposal=proposal, reference=b"?", public=public)
        try:
            rules.check_single(epoch.situation(self.policy, now), epoch.tree, alone)
        except PeerError as error:
            raise UsageError("not_allowed", f"{error.check} {error.detail}") from error
        content, message = self._send(proposal, rng, authenticated_data, public=public)
        sent = SentProposal(
            sender=content.content.sender,
            proposal=proposal,
            reference=content.proposal_ref(epoch.suite),
            public=public,
        )
        self._state.add_proposal(sent, message)
        return message

    def propose_update(self, now: int, rng: Rng, identity: Identity | None = None) -> bytes:
        """A proposal to replace one's own leaf keys, and `identity` where it is given."""
        epoch = self._epoch
        chosen = identity or epoch.identity
        key = epoch.suite.derive_key_pair(rng(max(epoch.suite.nh, 66)))
        place = LeafPlace(source=SOURCE_UPDATE, group_id=self.group_id, leaf_index=epoch.own)
        leaf = make_leaf(epoch.suite, chosen.key, chosen.template, key.public, place)
        message = self.propose(Update(leaf), now, rng)
        self._state.add_update(key, chosen)
        return message

    def drop_proposal(self, reference: bytes) -> None:
        """Forget a pending proposal (one that cannot be committed, or that the application refuses)."""
        self._state.drop_proposal(reference)

    def commit(
        self,
        now: int,
        rng: Rng,
        proposals: Sequence[Proposal] = (),
        options: CommitOptions = _DEFAULT,
        lookup: PskLookup = no_psks,
        *,
        take_pending: bool = True,
    ) -> StagedCommit:
        """A commit of these proposals and the pending ones; UsageError for a list that breaks the rules."""
        self._require_active()
        return self._commit(now, rng, proposals, options, lookup, APPLICATION_USAGE, take_pending)

    def _commit(
        self,
        now: int,
        rng: Rng,
        proposals: Sequence[Proposal],
        options: CommitOptions,
        lookup: PskLookup,
        usage: int,
        take_pending: bool,
    ) -> StagedCommit:
        epoch = self._epoch
        sender = Sender(MEMBER, epoch.own)
        values = tuple(SentProposal(sender=sender, proposal=each) for each in proposals)
        taken = select(self._state.proposals.values(), values, epoch.own) if take_pending else ()
        try:
            staged = committing.create(
                epoch,
                self._state.live.secrets,
                (*taken, *values),
                self.policy,
                self._lookup(lookup),
                now,
                rng,
                options,
                usage,
            )
        except PeerError as error:
            raise UsageError("not_allowed", f"{error.check} {error.detail}") from error
        self._state.add_pending(staged)
        return staged

    # receiving

    def process(self, message: bytes, now: int, lookup: PskLookup = no_psks) -> Received:
        """What a message says; a commit comes back staged, for the application to judge and `merge`."""
        if self.state == LEFT:
            raise UsageError("usage", "this member has been removed from the group")
        own = self._state.own_echo(message)
        if own is not None:
            return own
        decoded = decode_message(message)
        if isinstance(decoded, PrivateMessage):
            return self._process_private(decoded, now, lookup)
        if isinstance(decoded, PublicMessage):
            content = receive.open_public(self._epoch, decoded)
            return self._handshake(content, now, lookup)
        refuse("MLS-V009")

    def _process_private(self, message: PrivateMessage, now: int, lookup: PskLookup) -> Received:
        epoch = self._epoch
        receive.check_private_epoch(epoch, message)
        live = receive.check_kept(self._state.live_at(message.epoch, now - self.policy.kept_for))
        content, use = receive.open_private(live, message)
        framed = content.content
        if message.content_type == APPLICATION and isinstance(framed.content, bytes):
            live.secrets.use(use)
            return ApplicationData(
                sender=framed.sender.index,
                epoch=framed.epoch,
                authenticated_data=framed.authenticated_data,
                data=framed.content,
            )
        received = self._handshake(content, now, lookup)
        if isinstance(received, StagedCommit):
            return replace(received, key_use=use)
        live.secrets.use(use)
        return received

    def _handshake(self, content: AuthenticatedContent, now: int, lookup: PskLookup) -> ReceivedProposal | StagedCommit:
        committing.check_not_suspended(self.state)
        framed = content.content
        if isinstance(framed.content, Commit):
            if framed.sender.kind == MEMBER:
                receive.check_not_own(self._epoch, framed.sender.index)
            return self._staged(content, framed.content, now, lookup)
        if isinstance(framed.content, bytes):
            refuse("MLS-V012")
        sent = SentProposal(
            sender=framed.sender,
            proposal=framed.content,
            reference=content.proposal_ref(self.suite),
            public=content.wire_format == PUBLIC_MESSAGE,
        )
        epoch = self._epoch
        rules.check_room(len(self._state.proposals))
        rules.check_single(epoch.situation(self.policy, now), epoch.tree, sent)
        self._state.add_proposal(sent)
        return ReceivedProposal(proposal=sent, authenticated_data=framed.authenticated_data)

    def _staged(self, content: AuthenticatedContent, commit: Commit, now: int, lookup: PskLookup) -> StagedCommit:
        sender = content.content.sender
        proposals = tuple(
            committing.known_proposal(self._state.proposals, each)
            if isinstance(each, Reference)
            else SentProposal(sender=sender, proposal=each)
            for each in commit.proposals
        )
        return committing.process(
            self._epoch,
            content,
            commit,
            proposals,
            self.policy,
            self._lookup(lookup),
            now,
            self._state.updates,
        )

    def merge(self, staged: StagedCommit, now: int) -> None:
        """Enter the epoch of a commit; UsageError unless it starts from the current one."""
        if staged.base is not self._epoch:
            raise UsageError("stale_epoch", "the commit starts from another epoch")
        self._state.merge(staged, now, self.policy)

    def discard(self, staged: StagedCommit) -> None:
        """Forget one's own commit that was not accepted."""
        self._state.drop_pending(staged)

    # successors

    def reinitialise(
        self, packages: Sequence[KeyPackage], identity: Identity, now: int, rng: Rng
    ) -> tuple[Group, StagedCommit]:
        """The group that a merged ReInit agreed on, and its first commit, which adds all other members."""
        agreed = self._state.reinit
        if agreed is None:
            raise UsageError("usage", "no reinitialisation was agreed on")
        suite = suite_of(agreed.suite_id)
        group = Group.create(identity, suite, agreed.group_id, self.policy, now, rng, agreed.extensions)
        return group, self._first_commit(group, packages, REINIT, now, rng)

    def branch(
        self, group_id: bytes, packages: Sequence[KeyPackage], now: int, rng: Rng, extensions: Extensions = ()
    ) -> tuple[Group, StagedCommit]:
        """A new group of some members with the same suite, and its first commit."""
        identity = self._epoch.identity
        group = Group.create(identity, self.suite, group_id, self.policy, now, rng, extensions)
        return group, self._first_commit(group, packages, BRANCH, now, rng)

    def _first_commit(
        self, group: Group, packages: Sequence[KeyPackage], usage: int, now: int, rng: Rng
    ) -> StagedCommit:
        psk = PreSharedKeyId(
            kind=RESUMPTION, usage=usage, group_id=self.group_id, epoch=self.epoch, nonce=rng(group.suite.nh)
        )
        proposals: list[Proposal] = [*(Add(package) for package in packages), PreSharedKey(psk)]
        return group._commit(now, rng, proposals, _DEFAULT, self.resumption_psk, usage, False)

    # storing

    def changes(self) -> Changes:
        """What has to be stored since the last call."""
        return self._state.changes()

    # inside

    @property
    def _epoch(self) -> Epoch:
        return self._state.live.epoch

    def _require_active(self) -> None:
        if self.state != ACTIVE:
            what = "is to be reinitialised" if self.state == SUSPENDED else "does not hold this member any more"
            raise UsageError("usage", f"the group {what}")

    def _lookup(self, external: PskLookup) -> PskLookup:
        return lambda psk: self._state.resumption_psk(psk) or external(psk)

    def _send(
        self, content: bytes | Proposal, rng: Rng, authenticated_data: bytes, *, public: bool
    ) -> tuple[AuthenticatedContent, bytes]:
        live = self._state.live
        epoch = live.epoch
        framed = FramedContent(
            group_id=self.group_id,
            epoch=epoch.number,
            sender=Sender(MEMBER, epoch.own),
            authenticated_data=authenticated_data,
            content=content,
        )
        wire_format = PUBLIC_MESSAGE if public else PRIVATE_MESSAGE
        signed = AuthenticatedContent.sign(epoch.suite, epoch.identity.key, wire_format, framed, epoch.context)
        if public:
            key = epoch.secrets.membership_key
            return signed, encode_message(public_message.protect(epoch.suite, key, signed, epoch.context))
        secret = epoch.secrets.sender_data_secret
        sealed = private_message.protect(epoch.suite, secret, live.secrets, signed, rng, self.policy.pad_to)
        return signed, encode_message(sealed)
