"""The parts of the engine that the official test vectors look at, for tests only.

The vectors of mlswg/mls-implementations check single steps (one hash, one derivation, one tree operation) that an
application never calls. This module names the very functions the engine runs, so that a test needs no second
implementation; nothing in the product imports it, and it promises no stability.
"""

from cloister.codec.tls import Reader, Writer, decode, encode, opaque
from cloister.mls import treemath
from cloister.mls.authentication import check_sender
from cloister.mls.commit import Commit, UpdatePath
from cloister.mls.framing import (
    MEMBER,
    PRIVATE_MESSAGE,
    PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    encode_content,
)
from cloister.mls.group_context import GroupContext
from cloister.mls.group_info import check_info_signature
from cloister.mls.joining import check_info_tag
from cloister.mls.key_schedule import (
    CommitSecret,
    EncryptionSecret,
    InitSecret,
    JoinerSecret,
    MembershipKey,
    PskSecret,
    SenderDataSecret,
    confirmation_tag,
    derive_epoch,
    export,
    external_key,
    from_epoch_secret,
    joiner_secret,
    welcome_secret,
)
from cloister.mls.private_message import open_content, open_sender_data, sender_data_key
from cloister.mls.private_message import protect as protect_private
from cloister.mls.proposal import encode_proposal, read_proposal
from cloister.mls.proposal_list import change_tree, sort
from cloister.mls.psk import psk_secret
from cloister.mls.public_message import check_content_type, check_membership_tag
from cloister.mls.public_message import protect as protect_public
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.secret_tree import SecretTree
from cloister.mls.transcript import confirmed_hash, interim_hash
from cloister.mls.tree_hash import node_hash, root_hash, verify_parent_hashes
from cloister.mls.treekem import (
    apply_path,
    derive_node,
    make_path,
    next_path_secret,
    open_path,
    seal_path,
)
from cloister.mls.validation import Situation, check_leaf_signature, check_tree
from cloister.mls.welcome import GroupSecrets, open_info, open_secrets

__all__ = [
    "MEMBER",
    "PRIVATE_MESSAGE",
    "PUBLIC_MESSAGE",
    "AuthenticatedContent",
    "Commit",
    "CommitSecret",
    "EncryptionSecret",
    "FramedContent",
    "GroupContext",
    "GroupSecrets",
    "InitSecret",
    "JoinerSecret",
    "MembershipKey",
    "PskSecret",
    "RatchetTree",
    "Reader",
    "SecretTree",
    "SenderDataSecret",
    "Situation",
    "UpdatePath",
    "Writer",
    "apply_path",
    "change_tree",
    "check_content_type",
    "check_info_signature",
    "check_info_tag",
    "check_leaf_signature",
    "check_membership_tag",
    "check_sender",
    "check_tree",
    "confirmation_tag",
    "confirmed_hash",
    "decode",
    "derive_epoch",
    "derive_node",
    "encode",
    "encode_content",
    "encode_proposal",
    "export",
    "external_key",
    "from_epoch_secret",
    "interim_hash",
    "joiner_secret",
    "make_path",
    "next_path_secret",
    "node_hash",
    "opaque",
    "open_content",
    "open_info",
    "open_path",
    "open_secrets",
    "open_sender_data",
    "protect_private",
    "protect_public",
    "psk_secret",
    "read_proposal",
    "root_hash",
    "seal_path",
    "sender_data_key",
    "sort",
    "treemath",
    "verify_parent_hashes",
    "welcome_secret",
]
