"""Making and processing commits (RFC 9420 sections 12.4.1 and 12.4.2).

Both run the same steps on a copy of the tree: rules of the list, application, path, key schedule. `create`
also makes the messages; `process` verifies first what is public, then what is private.

Invariants
- No function here changes an epoch, a secret tree excepted: an encrypted commit uses up one handshake key of
  the sender even when the commit is dropped, since a key must never be used twice.
- The order of refusals is the order of the checks: signature and membership were verified before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cloister.errors import PeerError
from cloister.mls import key_schedule, private_message, proposal_list, public_message, treekem
from cloister.mls import validation as valid
from cloister.mls.checks import refuse
from cloister.mls.commit import Commit, UpdatePath
from cloister.mls.epoch import Epoch, Identity, next_context
from cloister.mls.extension import Extensions
from cloister.mls.framing import (
    MEMBER,
    NEW_MEMBER_COMMIT,
    PRIVATE_MESSAGE,
    PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    Sender,
)
from cloister.mls.group_context import GroupContext
from cloister.mls.group_info import GroupInfo
from cloister.mls.key_schedule import (
    CommitSecret,
    EncryptionSecret,
    EpochSecrets,
    InitSecret,
    JoinerSecret,
    PskSecret,
)
from cloister.mls.leaf_node import SOURCE_COMMIT, LeafNode
from cloister.mls.message import encode_message
from cloister.mls.policy import Policy, SentProposal
from cloister.mls.proposal import ProposalOrRef, Reference, ReInit, Remove
from cloister.mls.proposal_list import ProposalList
from cloister.mls.psk import APPLICATION, PreSharedKeyId, psk_secret
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.secret_tree import SecretTree
from cloister.mls.staged import StagedCommit
from cloister.mls.transcript import confirmed_hash
from cloister.mls.treekem import PrivateKeys
from cloister.mls.welcome import Newcomer, seal_welcome
from cloister.primitives import Rng
from cloister.primitives.kem import PrivateKey

PskLookup = Callable[[PreSharedKeyId], bytes | None]
"""Gives the key of an id, or None."""
OwnUpdates = dict[bytes, tuple[PrivateKey, Identity]]
"""Private keys and identities of one's own Updates in this epoch, by public key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The new tree after the proposals, before the path."""

    proposals: ProposalList
    situation: valid.Situation
    tree: RatchetTree
    extensions: Extensions
    added: tuple[int, ...]

    @property
    def reinit(self) -> ReInit | None:
        """The ReInit of the list."""
        return self.proposals.reinits[0] if self.proposals.reinits else None


def draft(
    epoch: Epoch,
    sender: Sender,
    proposals: tuple[SentProposal, ...],
    policy: Policy,
    now: int,
    usage: int = APPLICATION,
) -> Draft:
    """Check the list and apply it to a copy of the tree."""
    ordered = proposal_list.sort(proposals)
    if sender.kind == MEMBER:
        proposal_list.check_member_list(epoch.tree, ordered, sender.index, usage)
    else:
        proposal_list.check_external_list(epoch.tree, ordered)
    extensions = ordered.extensions[0] if ordered.extensions else epoch.context.extensions
    situation = epoch.situation(policy, now, extensions)
    proposal_list.check_filter(situation, sender, ordered.all)
    tree = epoch.tree.copy()
    added = proposal_list.apply(situation, tree, ordered)
    return Draft(proposals=ordered, situation=situation, tree=tree, extensions=extensions, added=added)


def look_up_psks(lookup: PskLookup, ids: tuple[PreSharedKeyId, ...]) -> tuple[tuple[PreSharedKeyId, bytes], ...]:
    """MLS-V079: every named key is at hand."""
    found = []
    for psk_id in ids:
        key = lookup(psk_id)
        if key is None:
            refuse("MLS-V079")
        found.append((psk_id, key))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Advanced:
    """The outcome of the key schedule for one commit."""

    context: GroupContext
    secrets: EpochSecrets
    encryption_secret: EncryptionSecret
    joiner: JoinerSecret
    psk: PskSecret
    tag: bytes


def advance(
    epoch: Epoch,
    provisional: GroupContext,
    content: AuthenticatedContent,
    init: InitSecret,
    commit: CommitSecret,
    psks: tuple[tuple[PreSharedKeyId, bytes], ...],
) -> Advanced:
    """The next epoch's context and secrets."""
    suite = epoch.suite
    confirmed = confirmed_hash(suite, epoch.interim_transcript_hash, content)
    context = provisional.with_(confirmed_transcript_hash=confirmed)
    psk = PskSecret(psk_secret(suite, psks))
    joiner = key_schedule.joiner_secret(suite, init, commit, context.encoded)
    secrets, encryption = key_schedule.derive_epoch(suite, joiner, psk, context.encoded)
    return Advanced(
        context=context,
        secrets=secrets,
        encryption_secret=encryption,
        joiner=joiner,
        psk=psk,
        tag=key_schedule.confirmation_tag(suite, secrets.confirmation_key, confirmed),
    )


def _summary(epoch: Epoch, made: Draft, content: FramedContent, committer: int, path: bool) -> dict[str, object]:
    tree = made.tree
    removed = tuple((index, epoch.leaf(index)) for index in made.proposals.removes)
    return {
        "sender": content.sender,
        "committer": committer,
        "added": tuple((index, _present(tree, index)) for index in made.added),
        "removed": removed,
        "updated": tuple((index, leaf) for index, leaf in made.proposals.updates),
        "proposals": made.proposals.all,
        "extensions": made.extensions if made.proposals.extensions else None,
        "reinit": made.reinit,
        "authenticated_data": content.authenticated_data,
        "has_path": path,
        "base": epoch,
    }


def _present(tree: RatchetTree, index: int) -> LeafNode:
    leaf = tree.leaf(index)
    if leaf is None:
        raise LookupError("an added leaf is not in the tree")
    return leaf


# making


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """How a commit is made.

    `identity` replaces the committer's key or credential; `path` False leaves the path out where it may be left
    out; `public` sends a PublicMessage; `with_tree` puts the ratchet tree into Welcome and GroupInfo; `group_info`
    asks for the GroupInfo of the new epoch, which costs as much as the tree is large.
    """

    identity: Identity | None = None
    path: bool = True
    public: bool = False
    with_tree: bool = True
    with_external_pub: bool = False
    group_info: bool = False
    authenticated_data: bytes = b""
    group_info_extensions: Extensions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    update: UpdatePath | None
    new: treekem.NewPath | None
    commit_secret: CommitSecret
    provisional: GroupContext


def _make_path(epoch: Epoch, made: Draft, identity: Identity, wanted: bool, rng: Rng) -> _Path:
    tree, own = made.tree, epoch.own
    if not (wanted or made.proposals.needs_path):
        provisional = next_context(epoch.context, tree, made.extensions)
        secret = CommitSecret(epoch.suite.zero)
        return _Path(update=None, new=None, commit_secret=secret, provisional=provisional)
    check_own_key(tree, epoch.leaf(own), identity)
    new = treekem.make_path(tree, own, epoch.context.group_id, identity.key, identity.template, rng)
    leaf = _present(tree, own)
    valid.check_leaf(made.situation, leaf, own)
    valid.check_among(tree, leaf)
    provisional = next_context(epoch.context, tree, made.extensions)
    update = treekem.seal_path(tree, own, new, provisional.encoded, frozenset(made.added), rng)
    return _Path(update=update, new=new, commit_secret=new.commit_secret, provisional=provisional)


def check_own_key(tree: RatchetTree, old: LeafNode, identity: Identity) -> None:
    """MLS-V040 for the committer's own new key."""
    key = identity.key.public.raw
    if key != old.signature_key and key in tree.signers:
        refuse("MLS-V040")


def create(
    epoch: Epoch,
    secret_tree: SecretTree,
    proposals: tuple[SentProposal, ...],
    policy: Policy,
    lookup: PskLookup,
    now: int,
    rng: Rng,
    options: CommitOptions,
    usage: int = APPLICATION,
) -> StagedCommit:
    """One's own commit with its messages."""
    suite, sender = epoch.suite, Sender(MEMBER, epoch.own)
    identity = options.identity or epoch.identity
    made = draft(epoch, sender, proposals, policy, now, usage)
    psks = look_up_psks(lookup, made.proposals.psks)
    wanted = (options.path and made.reinit is None) or options.identity is not None
    path = _make_path(epoch, made, identity, wanted, rng)
    content = FramedContent(
        group_id=epoch.context.group_id,
        epoch=epoch.number,
        sender=sender,
        authenticated_data=options.authenticated_data,
        content=Commit(tuple(_by_value_or_ref(sent) for sent in proposals), path.update),
    )
    public = options.public or not policy.private_handshake
    wire_format = PUBLIC_MESSAGE if public else PRIVATE_MESSAGE
    signed = AuthenticatedContent.sign(suite, epoch.identity.key, wire_format, content, epoch.context)
    after = advance(epoch, path.provisional, signed, epoch.secrets.init_secret, path.commit_secret, psks)
    signed = signed.with_tag(after.tag)
    keys = {**epoch.private_keys, **(path.new.private_keys if path.new else {})}
    following = Epoch(
        suite=suite,
        context=after.context,
        tree=made.tree,
        secrets=after.secrets,
        confirmation_tag=after.tag,
        own=epoch.own,
        identity=identity,
        private_keys=treekem.still_valid(made.tree, keys),
    )
    return _with_messages(epoch, secret_tree, made, path, signed, after, following, policy, rng, options)


def _by_value_or_ref(sent: SentProposal) -> ProposalOrRef:
    return Reference(sent.reference) if sent.reference else sent.proposal


def _welcome(epoch: Epoch, made: Draft, path: _Path, after: Advanced, info: GroupInfo, rng: Rng) -> bytes:
    newcomers = tuple(
        Newcomer(package=package, path_secret=path.new.secret_for(epoch.own, index) if path.new else None)
        for package, index in zip(made.proposals.adds, made.added, strict=True)
    )
    psks = made.proposals.psks
    return encode_message(seal_welcome(epoch.suite, after.joiner, after.psk, psks, info, newcomers, rng))


def _with_messages(
    epoch: Epoch,
    secret_tree: SecretTree,
    made: Draft,
    path: _Path,
    signed: AuthenticatedContent,
    after: Advanced,
    following: Epoch,
    policy: Policy,
    rng: Rng,
    options: CommitOptions,
) -> StagedCommit:
    suite = epoch.suite
    info = None
    if made.added or options.group_info:
        info = following.group_info(
            with_tree=options.with_tree,
            with_external_pub=options.with_external_pub,
            extensions=options.group_info_extensions,
        )
    welcome = _welcome(epoch, made, path, after, info, rng) if made.added and info else None
    if signed.wire_format == PUBLIC_MESSAGE:
        key = epoch.secrets.membership_key
        message = encode_message(public_message.protect(suite, key, signed, epoch.context))
    else:
        sender_data = epoch.secrets.sender_data_secret
        sealed = private_message.protect(suite, sender_data, secret_tree, signed, rng, policy.pad_to)
        message = encode_message(sealed)
    summary = _summary(epoch, made, signed.content, epoch.own, path.update is not None)
    return StagedCommit(
        **summary,  # type: ignore[arg-type]
        message=message,
        welcome=welcome,
        group_info=encode_message(info) if info and options.group_info else b"",
        next_epoch=following,
        encryption_secret=after.encryption_secret,
    )


# processing


def check_not_suspended(state: int) -> None:
    """MLS-V098: after a ReInit the group takes no proposals or commits."""
    if state != 0:
        refuse("MLS-V098")


def known_proposal(known: Mapping[bytes, SentProposal], item: Reference) -> SentProposal:
    """MLS-V060: a reference names a proposal of this epoch."""
    sent = known.get(item.reference)
    if sent is None:
        refuse("MLS-V060")
    return sent


def check_path_present(proposals: ProposalList, commit: Commit) -> None:
    """MLS-V090: a commit that needs a path has one."""
    if commit.path is None and proposals.needs_path:
        refuse("MLS-V090")


def check_external_init(epoch: Epoch, kem_output: bytes) -> InitSecret:
    """MLS-V083: the joiner's encapsulation opens; the init secret in it."""
    key = key_schedule.external_key(epoch.suite, epoch.secrets.external_secret)
    try:
        return key_schedule.external_init_receiver(epoch.suite, key, kem_output)
    except PeerError as error:
        refuse("MLS-V083", cause=error)


def _check_path_leaf(epoch: Epoch, made: Draft, sender: Sender, leaf: LeafNode) -> int:
    """The committer's new leaf against the one it replaces; the leaf index it takes."""
    valid.check_source(leaf, SOURCE_COMMIT)
    tree = made.tree
    if sender.kind == MEMBER:
        old = tree.leaf(sender.index)
        index = sender.index
    else:
        removed = [sent.proposal for sent in made.proposals.all if isinstance(sent.proposal, Remove)]
        old = epoch.tree.leaf(removed[0].removed) if removed else None
        index = tree.free_leaf()
    if old is not None:
        valid.check_replaced_key(old, leaf)
        valid.check_successor(made.situation, old, leaf)
        if sender.kind == MEMBER:
            tree.signers.discard(old.signature_key)
    valid.check_new_signature_key(tree, leaf)
    valid.check_leaf(made.situation, leaf, index)
    return index


def _apply_path(epoch: Epoch, made: Draft, sender: Sender, update: UpdatePath) -> tuple[int, treekem.FilteredPath]:
    """All public checks of a path; it is in the draft's tree afterwards."""
    index = _check_path_leaf(epoch, made, sender, update.leaf_node)
    path = made.tree.filtered_path(index)
    treekem.check_path_shape(made.tree, path, update, frozenset(made.added))
    treekem.check_path_keys(made.tree, update)
    treekem.apply_path(made.tree, index, path, update)
    valid.check_among(made.tree, update.leaf_node)
    return index, path


def process(
    epoch: Epoch,
    content: AuthenticatedContent,
    commit: Commit,
    proposals: tuple[SentProposal, ...],
    policy: Policy,
    lookup: PskLookup,
    now: int,
    own_updates: OwnUpdates,
) -> StagedCommit:
    """A received commit whose sender and signature have been verified."""
    sender = content.content.sender
    made = draft(epoch, sender, proposals, policy, now)
    check_path_present(made.proposals, commit)
    committer, path = sender.index, None
    if commit.path is not None:
        committer, path = _apply_path(epoch, made, sender, commit.path)
    summary = _summary(epoch, made, content.content, committer, path is not None)
    if epoch.own in made.proposals.removes:
        return StagedCommit(**summary, next_epoch=None, encryption_secret=None)  # type: ignore[arg-type]
    keys, identity = _own_keys(epoch, made, own_updates)
    provisional = next_context(epoch.context, made.tree, made.extensions)
    secret = CommitSecret(epoch.suite.zero)
    if path is not None and commit.path is not None:
        exclude = frozenset(made.added)
        keys, secret = treekem.open_path(made.tree, epoch.own, path, commit.path, keys, provisional.encoded, exclude)
    init = epoch.secrets.init_secret
    if sender.kind == NEW_MEMBER_COMMIT:
        init = check_external_init(epoch, made.proposals.external_inits[0])
    psks = look_up_psks(lookup, made.proposals.psks)
    after = advance(epoch, provisional, content, init, secret, psks)
    check_confirmation(epoch, after, content.confirmation_tag)
    following = replace(
        epoch,
        context=after.context,
        tree=made.tree,
        secrets=after.secrets,
        confirmation_tag=after.tag,
        identity=identity,
        private_keys=treekem.still_valid(made.tree, keys),
    )
    return StagedCommit(
        **summary,  # type: ignore[arg-type]
        next_epoch=following,
        encryption_secret=after.encryption_secret,
    )


def check_confirmation(epoch: Epoch, after: Advanced, tag: bytes) -> None:
    """MLS-V097: the committer reached the same epoch."""
    key = after.secrets.confirmation_key
    if not key_schedule.tag_matches(epoch.suite, key, after.context.confirmed_transcript_hash, tag):
        refuse("MLS-V097")


def _own_keys(epoch: Epoch, made: Draft, own_updates: OwnUpdates) -> tuple[PrivateKeys, Identity]:
    for index, leaf in made.proposals.updates:
        if index == epoch.own:
            known = own_updates.get(leaf.encryption_key)
            if known is None:
                refuse("MLS-V095", "the private key of this member's own Update is not at hand")
            return {**epoch.private_keys, 2 * index: known[0]}, known[1]
    return epoch.private_keys, epoch.identity
