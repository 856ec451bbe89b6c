"""MLS (RFC 9420) in pure Python, a library of its own: imports codec, primitives and errors only.

Start with `Group`. Untrusted bytes enter by `Group.process`, `Group.join`, `Group.join_external` and
`decode_message`; whatever they contain, nothing but PeerError comes out, with the id of the check that refused
(docs/spec/mls-checks.md). Commits come back as `StagedCommit`, to be judged before `Group.merge`.

Not audited. README.md beside this file says what is implemented and where it differs from the RFC.
"""

from cloister.mls.checks import CHECKS, Check, is_public
from cloister.mls.ciphersuite import SUITES, CipherSuite, suite_of
from cloister.mls.committing import CommitOptions, PskLookup
from cloister.mls.credential import Credential
from cloister.mls.epoch import Identity
from cloister.mls.extension import (
    GREASE,
    Extension,
    ExternalSender,
    RequiredCapabilities,
    external_senders,
    external_senders_extension,
    required_capabilities,
)
from cloister.mls.framing import Sender
from cloister.mls.group import Group, Received, no_psks
from cloister.mls.group_info import GroupInfo
from cloister.mls.joining import JoinOptions, OpenedWelcome
from cloister.mls.key_package import (
    KeyPackage,
    KeyPackageSecrets,
    last_resort_extension,
    lifetime_from,
    make_key_package,
)
from cloister.mls.leaf_node import Capabilities, LeafNode, LeafTemplate, Lifetime
from cloister.mls.message import Message, decode_message, encode_message
from cloister.mls.outside import external_proposal, join_proposal, read_self_remove
from cloister.mls.policy import Policy, SentProposal
from cloister.mls.private_message import PrivateMessage
from cloister.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from cloister.mls.psk import PreSharedKeyId
from cloister.mls.public_message import PublicMessage
from cloister.mls.receiving import ApplicationData, ReceivedProposal
from cloister.mls.staged import StagedCommit
from cloister.mls.store import ACTIVE, LEFT, SUSPENDED, Changes, stored_secrets
from cloister.mls.successor import Origin
from cloister.mls.welcome import Welcome

__all__ = [
    # the group and what it gives
    "Group",
    "Received",
    "ApplicationData",
    "ReceivedProposal",
    "StagedCommit",
    "CommitOptions",
    "JoinOptions",
    "OpenedWelcome",
    "Origin",
    "Changes",
    "stored_secrets",
    "ACTIVE",
    "SUSPENDED",
    "LEFT",
    # who and by which rules
    "Identity",
    "Policy",
    "Credential",
    "Capabilities",
    "LeafTemplate",
    "LeafNode",
    "Sender",
    "SentProposal",
    # key packages
    "KeyPackage",
    "KeyPackageSecrets",
    "Lifetime",
    "make_key_package",
    "lifetime_from",
    "last_resort_extension",
    # proposals
    "Proposal",
    "Add",
    "Update",
    "Remove",
    "PreSharedKey",
    "PreSharedKeyId",
    "PskLookup",
    "no_psks",
    "ReInit",
    "ExternalInit",
    "GroupContextExtensions",
    "SelfRemove",
    "external_proposal",
    "join_proposal",
    "read_self_remove",
    # extensions
    "Extension",
    "ExternalSender",
    "RequiredCapabilities",
    "external_senders",
    "external_senders_extension",
    "required_capabilities",
    "GREASE",
    # messages
    "Message",
    "decode_message",
    "encode_message",
    "PublicMessage",
    "PrivateMessage",
    "Welcome",
    "GroupInfo",
    # suites and checks
    "CipherSuite",
    "SUITES",
    "suite_of",
    "CHECKS",
    "Check",
    "is_public",
]
