"""Entering a group: creating it, joining by Welcome, joining by an external commit (RFC 9420 sections 11, 12.4.3).

Invariants
- Nothing of a Welcome or GroupInfo is used before tree, signature and confirmation tag have verified; the signature
  of a GroupInfo for an external join is all that a stranger can verify, so its source must be trusted to be
  fresh (docs/spec/threat-model.md).
- A joiner holds private keys for its own leaf and for the nodes that the Welcome's path secret opens, no others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloister.mls import committing, key_schedule, successor, treekem, treemath
from cloister.mls import validation as valid
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite, suite_of
from cloister.mls.commit import Commit
from cloister.mls.epoch import Epoch, Identity, next_context
from cloister.mls.extension import DEFAULT_EXTENSIONS, Extensions, parse_group_extensions
from cloister.mls.framing import NEW_MEMBER_COMMIT, PUBLIC_MESSAGE, AuthenticatedContent, FramedContent, Sender
from cloister.mls.group_context import GroupContext
from cloister.mls.group_info import GroupInfo, check_info_signature, check_signer
from cloister.mls.key_package import KeyPackageSecrets, lifetime_from
from cloister.mls.key_schedule import EncryptionSecret, PskSecret
from cloister.mls.leaf_node import SOURCE_KEY_PACKAGE, Capabilities, LeafNode, LeafPlace, make_leaf
from cloister.mls.message import encode_message
from cloister.mls.policy import Policy, SentProposal
from cloister.mls.proposal import ExternalInit, PreSharedKey, Reference, Remove
from cloister.mls.psk import PreSharedKeyId, psk_secret
from cloister.mls.public_message import PublicMessage
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.tree_hash import root_hash
from cloister.mls.welcome import GroupSecrets, Welcome, open_info, open_secrets
from cloister.primitives import Rng

Start = tuple[Epoch, EncryptionSecret]
"""A first epoch and what its secret tree starts from."""


def create(
    identity: Identity, suite: CipherSuite, group_id: bytes, extensions: Extensions, policy: Policy, now: int, rng: Rng
) -> Start:
    """A group of one member at epoch 0."""
    parse_group_extensions(extensions)
    leaf_key = suite.derive_key_pair(rng(max(suite.nh, 66)))
    place = LeafPlace(source=SOURCE_KEY_PACKAGE, lifetime=lifetime_from(now))
    leaf = make_leaf(suite, identity.key, identity.template, leaf_key.public, place)
    tree = RatchetTree.of_creator(suite, leaf)
    situation = valid.Situation.of(suite, group_id, extensions, policy, now)
    valid.check_leaf(situation, leaf, 0)
    valid.check_external_sender_credentials(situation)
    context = GroupContext(
        suite_id=suite.suite_id,
        group_id=group_id,
        epoch=0,
        tree_hash=root_hash(tree),
        confirmed_transcript_hash=b"",
        extensions=extensions,
    )
    secrets, encryption = key_schedule.from_epoch_secret(suite, rng(suite.nh))
    epoch = Epoch(
        suite=suite,
        context=context,
        tree=tree,
        secrets=secrets,
        confirmation_tag=key_schedule.confirmation_tag(suite, secrets.confirmation_key, b""),
        own=0,
        identity=identity,
        private_keys={0: leaf_key},
    )
    return epoch, encryption


# by Welcome


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """What a join needs beside the Welcome or GroupInfo.

    `tree` is the ratchet tree where it comes separately, `origin` the group that a reinit or branch comes from,
    `known` tells whether the client is in a group of this id already.
    """

    tree: bytes | None = None
    origin: successor.Origin | None = None
    known: Callable[[bytes], bool] = lambda group_id: False


def check_not_known(options: JoinOptions, group_id: bytes) -> None:
    """MLS-V106: the client is not in the group yet."""
    if options.known(group_id):
        refuse("MLS-V106")


def check_joiner_supports(capabilities: Capabilities, extensions: Extensions) -> None:
    """MLS-V107: the joiner supports every extension of the group."""
    for extension in extensions:
        kind = extension.extension_type
        if kind not in DEFAULT_EXTENSIONS and kind not in capabilities.extensions:
            refuse("MLS-V107")
    parse_group_extensions(extensions)


def check_own_leaf(tree: RatchetTree, leaf: LeafNode) -> int:
    """MLS-V111: the leaf of the joiner's key package stands in the tree; its index."""
    for index, member in tree.members():
        if member.encryption_key == leaf.encryption_key and member == leaf:
            return index
    refuse("MLS-V111")


def _check_info(info: GroupInfo, tree: RatchetTree, policy: Policy, now: int) -> None:
    context = info.context
    situation = valid.Situation.of(tree.suite, context.group_id, context.extensions, policy, now)
    valid.check_tree(situation, tree, context.tree_hash)
    check_info_signature(tree.suite, check_signer(tree, info), info)


def _path_keys(tree: RatchetTree, own: int, signer: int, secrets: GroupSecrets) -> treekem.PrivateKeys:
    """MLS-V112: the private keys that the Welcome's path secret gives."""
    if secrets.path_secret is None:
        return {}
    ancestor = treemath.common_ancestor(2 * signer, 2 * own)
    above = [ancestor, *treemath.direct_path(ancestor, tree.size)]
    nodes = [node for node in above if tree.nodes[node] is not None or node == ancestor]
    return treekem.climb(tree, nodes, secrets.path_secret, "MLS-V112")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedWelcome:
    """What a Welcome holds for one newcomer, without its tree: decrypted, but by nobody's signature yet.

    Enough to find and open what lies beside the Welcome, by the exporter of the epoch it leads into; `Group.join` with
    the tree is what verifies.
    """

    suite: CipherSuite
    info: GroupInfo
    group_secrets: GroupSecrets
    special: PreSharedKeyId | None
    secrets: key_schedule.EpochSecrets
    encryption_secret: EncryptionSecret

    @property
    def group_id(self) -> bytes:
        """The group that the Welcome says it leads into."""
        return self.info.context.group_id

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """The exporter of that epoch: `length` bytes."""
        return key_schedule.export(self.suite, self.secrets.exporter_secret, label, context, length)

    def __repr__(self) -> str:
        return "<OpenedWelcome>"


def open_welcome(own: KeyPackageSecrets, welcome: Welcome, lookup: committing.PskLookup) -> OpenedWelcome:
    """Decrypt a Welcome and derive its epoch's secrets."""
    suite = suite_of(own.package.suite_id)
    secrets = open_secrets(suite, welcome, own)
    special = successor.special_psk(suite, secrets.psks)
    psk = PskSecret(psk_secret(suite, committing.look_up_psks(lookup, secrets.psks)))
    info = open_info(suite, welcome, secrets.joiner_secret, psk)
    derived, encryption = key_schedule.derive_epoch(suite, secrets.joiner_secret, psk, info.context.encoded)
    return OpenedWelcome(
        suite=suite,
        info=info,
        group_secrets=secrets,
        special=special,
        secrets=derived,
        encryption_secret=encryption,
    )


def join(
    own: KeyPackageSecrets,
    identity: Identity,
    welcome: Welcome,
    policy: Policy,
    lookup: committing.PskLookup,
    now: int,
    options: JoinOptions,
) -> Start:
    """The epoch that a Welcome leads into."""
    opened = open_welcome(own, welcome, lookup)
    suite, info = opened.suite, opened.info
    context = info.context
    check_not_known(options, context.group_id)
    check_joiner_supports(own.package.leaf_node.capabilities, context.extensions)
    tree = info.tree(options.tree)
    _check_info(info, tree, policy, now)
    index = check_own_leaf(tree, own.package.leaf_node)
    check_info_tag(suite, opened.secrets, info)
    keys = {2 * index: own.leaf_key, **_path_keys(tree, index, info.signer, opened.group_secrets)}
    successor.check_origin(opened.special, options.origin, context, tree, policy)
    epoch = Epoch(
        suite=suite,
        context=context,
        tree=tree,
        secrets=opened.secrets,
        confirmation_tag=info.confirmation_tag,
        own=index,
        identity=identity,
        private_keys=keys,
    )
    return epoch, opened.encryption_secret


def check_info_tag(suite: CipherSuite, secrets: key_schedule.EpochSecrets, info: GroupInfo) -> None:
    """MLS-V113: the GroupInfo's confirmation tag verifies."""
    hashed = info.context.confirmed_transcript_hash
    if not key_schedule.tag_matches(suite, secrets.confirmation_key, hashed, info.confirmation_tag):
        refuse("MLS-V113")


# by external commit


def join_external(
    identity: Identity,
    info: GroupInfo,
    policy: Policy,
    lookup: committing.PskLookup,
    now: int,
    rng: Rng,
    options: JoinOptions,
    *,
    resync: int | None = None,
    psks: tuple[PreSharedKeyId, ...] = (),
    self_removes: tuple[SentProposal, ...] = (),
    authenticated_data: bytes = b"",
) -> tuple[Start, bytes]:
    """The epoch that one's own external commit starts, and the commit to be sent.

    `resync` is the leaf index of one's old self, to be removed. `self_removes` come from `outside_proposal`.
    """
    context = info.context
    suite = suite_of(context.suite_id)
    check_not_known(options, context.group_id)
    check_joiner_supports(identity.template.capabilities, context.extensions)
    tree = info.tree(options.tree)
    _check_info(info, tree, policy, now)
    kem_output, init = key_schedule.external_init_sender(suite, suite.hpke_public(info.external_pub()), rng)
    sender = Sender(NEW_MEMBER_COMMIT)
    removal = () if resync is None else (Remove(resync),)
    values = (ExternalInit(kem_output), *removal, *(PreSharedKey(psk) for psk in psks))
    proposals = (*(SentProposal(sender=sender, proposal=each) for each in values), *self_removes)
    outside = _seen_from_outside(info, tree, identity)
    made = committing.draft(outside, sender, proposals, policy, now)
    found = committing.look_up_psks(lookup, made.proposals.psks)
    if identity.key.public.raw in made.tree.signers:
        refuse("MLS-V040")
    own = made.tree.free_leaf()
    new = treekem.make_path(made.tree, own, context.group_id, identity.key, identity.template, rng)
    provisional = next_context(context, made.tree, context.extensions)
    path = treekem.seal_path(made.tree, own, new, provisional.encoded, frozenset(), rng)
    _check_own_leaf_valid(made, path.leaf_node, own)
    content = FramedContent(
        group_id=context.group_id,
        epoch=context.epoch,
        sender=sender,
        authenticated_data=authenticated_data,
        content=Commit((*values, *(Reference(each.reference) for each in self_removes)), path),
    )
    signed = AuthenticatedContent.sign(suite, identity.key, PUBLIC_MESSAGE, content, context)
    after = committing.advance(outside, provisional, signed, init, new.commit_secret, found)
    epoch = Epoch(
        suite=suite,
        context=after.context,
        tree=made.tree,
        secrets=after.secrets,
        confirmation_tag=after.tag,
        own=own,
        identity=identity,
        private_keys=treekem.still_valid(made.tree, new.private_keys),
    )
    return (epoch, after.encryption_secret), encode_message(PublicMessage(content=signed.with_tag(after.tag)))


def _seen_from_outside(info: GroupInfo, tree: RatchetTree, identity: Identity) -> Epoch:
    """The epoch that an external commit ends: its public part, without any of its secrets."""
    return Epoch(
        suite=suite_of(info.context.suite_id),
        context=info.context,
        tree=tree,
        secrets=NO_SECRETS,
        confirmation_tag=info.confirmation_tag,
        own=0,
        identity=identity,
        private_keys={},
    )


def _check_own_leaf_valid(made: committing.Draft, leaf: LeafNode, index: int) -> None:
    valid.check_leaf(made.situation, leaf, index)
    valid.check_among(made.tree, leaf)


NO_SECRETS = key_schedule.EpochSecrets(
    sender_data_secret=key_schedule.SenderDataSecret(b""),
    exporter_secret=key_schedule.ExporterSecret(b""),
    external_secret=key_schedule.ExternalSecret(b""),
    confirmation_key=key_schedule.ConfirmationKey(b""),
    membership_key=key_schedule.MembershipKey(b""),
    resumption_psk=key_schedule.ResumptionPsk(b""),
    epoch_authenticator=b"",
    init_secret=key_schedule.InitSecret(b""),
)
"""What an outsider knows of an epoch's secrets."""
