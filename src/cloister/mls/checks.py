"""The register of everything a receiver verifies: ids, classes, error codes and rules.

Source: RFC 9420 and, for SelfRemove, draft-ietf-mls-extensions; docs/spec/mls-checks.md lists every MUST of
the RFC against these ids and is compared with this table, the sources and the tests by a test.

Each id is refused by `refuse(id)`, and has a negative test with its control.

Classes
- `public`: every member reaches the same verdict from public bytes and secrets that all members share;
- `private`: the verdict rests on a secret path or on the new epoch's keys, so that members may differ.
The room's rule for commits (first *publicly* valid one wins) is built on this distinction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Never

from cloister.errors import PeerError

PUBLIC: Final = "public"
PRIVATE: Final = "private"


@dataclass(frozen=True, slots=True)
class Check:
    """One row: its id, the section of RFC 9420 (or `ext`), its class, the error code and the rule."""

    check_id: str
    section: str
    kind: str
    code: str
    rule: str


_ROWS: Final = (
    # encoding
    Check("MLS-V001", "2.1", PUBLIC, "bad_encoding", "bytes decode strictly: nothing short, long or surplus"),
    Check("MLS-V002", "6", PUBLIC, "unsupported", "the protocol version is mls10"),
    Check("MLS-V003", "6", PUBLIC, "bad_encoding", "an enumeration holds a value that it defines"),
    Check("MLS-V004", "13.4", PUBLIC, "bad_encoding", "a list of extensions holds no type twice"),
    Check("MLS-V005", "7.1", PUBLIC, "bad_encoding", "unmerged leaves are sorted and each is listed once"),
    Check("MLS-V006", "12.4.3.3", PUBLIC, "bad_encoding", "a ratchet tree ends with a node that is not blank"),
    Check("MLS-V007", "12.4.3.3", PUBLIC, "bad_encoding", "leaves and parents stand at even and odd places"),
    Check("MLS-V008", "6.3.1", PUBLIC, "bad_encoding", "padding is all zero"),
    Check("MLS-V009", "6", PUBLIC, "misrouted", "a group takes public and private messages only"),
    # framing
    Check("MLS-V010", "6", PUBLIC, "wrong_context", "a message names this group"),
    Check("MLS-V011", "12.4.2", PUBLIC, "stale_epoch", "a handshake message names the current epoch"),
    Check("MLS-V012", "6", PUBLIC, "bad_encoding", "application data comes in a PrivateMessage only"),
    Check("MLS-V013", "6.1", PUBLIC, "unknown_sender", "a member sender stands at a leaf that is not blank"),
    Check("MLS-V014", "6.2", PUBLIC, "bad_tag", "the membership tag verifies"),
    Check("MLS-V015", "6.1", PUBLIC, "bad_sig", "the signature verifies under the sender's key"),
    Check("MLS-V016", "6.1", PUBLIC, "not_allowed", "an external sender proposes what it may"),
    Check("MLS-V017", "12.1.8", PUBLIC, "unknown_sender", "an external sender stands in external_senders"),
    Check("MLS-V018", "6.1", PUBLIC, "not_allowed", "a new member proposes nothing but to add itself"),
    Check("MLS-V019", "6.1", PUBLIC, "not_allowed", "a new member commits, and proposes nothing that way"),
    Check("MLS-V020", "6.3.2", PUBLIC, "unknown_sender", "sender data name a leaf that is not blank"),
    Check("MLS-V021", "6.3", PUBLIC, "bad_tag", "sender data and content of a PrivateMessage open"),
    Check("MLS-V022", "9.1", PUBLIC, "replay", "a generation is used once"),
    Check("MLS-V023", "15.3", PUBLIC, "gap", "a generation is not too far ahead"),
    Check("MLS-V024", "6.3", PUBLIC, "unknown_sender", "nobody else sends under this member's own leaf"),
    Check("MLS-V025", "15.3", PUBLIC, "stale_epoch", "an application message's epoch is still kept"),
    Check("MLS-V026", "6", PUBLIC, "gap", "a message's epoch has been reached"),
    # leaf nodes
    Check("MLS-V030", "7.3", PUBLIC, "bad_sig", "a leaf's signature verifies"),
    Check("MLS-V031", "7.3", PUBLIC, "bad_leaf", "a leaf's source fits the place where it appears"),
    Check("MLS-V032", "7.2", PUBLIC, "bad_leaf", "a leaf's capabilities list its own extensions"),
    Check("MLS-V033", "7.2", PUBLIC, "bad_leaf", "a leaf's capabilities list its own credential type"),
    Check("MLS-V034", "7.3", PUBLIC, "bad_leaf", "a leaf supports the group's version, suite and extensions"),
    Check("MLS-V035", "11.1", PUBLIC, "bad_leaf", "a leaf supports what the group requires"),
    Check("MLS-V036", "7.3", PUBLIC, "bad_leaf", "every member supports a leaf's credential type"),
    Check("MLS-V037", "7.3", PUBLIC, "bad_leaf", "a leaf supports every credential type in use"),
    Check("MLS-V038", "7.2", PUBLIC, "bad_leaf", "a leaf's lifetime is not longer than the policy allows"),
    Check("MLS-V039", "7.3", PUBLIC, "expired", "now lies within a new member's lifetime"),
    Check("MLS-V040", "7.3", PUBLIC, "bad_leaf", "a signature key stands at one leaf only"),
    Check("MLS-V041", "7.3", PUBLIC, "bad_leaf", "an encryption key stands at one node only"),
    Check("MLS-V042", "7.3", PUBLIC, "bad_leaf", "a replaced leaf has another encryption key"),
    Check("MLS-V043", "5.3.1", PUBLIC, "not_allowed", "the authentication service accepts a credential"),
    Check("MLS-V044", "5.3.1", PUBLIC, "identity_changed", "a credential is a valid successor of the old one"),
    Check("MLS-V046", "10", PUBLIC, "bad_leaf", "a leaf's and a package's keys are keys of the suite"),
    # key packages
    Check("MLS-V050", "10.1", PUBLIC, "bad_sig", "a key package's signature verifies"),
    Check("MLS-V051", "10.1", PUBLIC, "unsupported", "a key package is of the group's version and suite"),
    Check("MLS-V052", "10.1", PUBLIC, "bad_leaf", "init key and encryption key differ"),
    Check("MLS-V053", "10", PUBLIC, "bad_leaf", "a key package lists its own extensions as capabilities"),
    # proposals
    Check("MLS-V060", "12.4", PUBLIC, "unknown_proposal", "a proposal reference is known in this epoch"),
    Check("MLS-V061", "12.2", PUBLIC, "bad_proposal", "a committer does not update itself by a proposal"),
    Check("MLS-V062", "12.2", PUBLIC, "bad_proposal", "a committer does not remove itself"),
    Check("MLS-V063", "12.2", PUBLIC, "bad_proposal", "a leaf is updated or removed at most once"),
    Check("MLS-V064", "12.1.3", PUBLIC, "bad_proposal", "a removed leaf is not blank"),
    Check("MLS-V065", "12.2", PUBLIC, "bad_proposal", "an added client is not added twice, nor a member"),
    Check("MLS-V066", "12.2", PUBLIC, "bad_proposal", "a pre-shared key is named once"),
    Check("MLS-V067", "12.1.4", PUBLIC, "bad_proposal", "a resumption key has the usage that fits its place"),
    Check("MLS-V068", "12.1.4", PUBLIC, "bad_proposal", "a pre-shared key's nonce has the hash's length"),
    Check("MLS-V069", "12.2", PUBLIC, "bad_proposal", "at most one GroupContextExtensions is committed"),
    Check("MLS-V070", "12.2", PUBLIC, "bad_proposal", "a ReInit is committed alone"),
    Check("MLS-V071", "12.1.5", PUBLIC, "bad_proposal", "a ReInit does not lower the version"),
    Check("MLS-V072", "12.2", PUBLIC, "bad_proposal", "a member's commit holds no ExternalInit"),
    Check("MLS-V073", "12.2", PUBLIC, "bad_proposal", "every member that stays supports a proposal's type"),
    Check("MLS-V074", "12.1.7", PUBLIC, "bad_proposal", "every member supports the group's new extensions"),
    Check("MLS-V075", "12.2", PUBLIC, "bad_proposal", "an external commit holds exactly one ExternalInit"),
    Check("MLS-V076", "12.2", PUBLIC, "bad_proposal", "an external commit removes at most one leaf"),
    Check("MLS-V077", "12.2", PUBLIC, "bad_proposal", "an external commit holds no other proposals"),
    Check("MLS-V078", "12.4.3.2", PUBLIC, "bad_proposal", "an external commit refers to no proposals"),
    Check("MLS-V079", "12.4", PRIVATE, "unknown_psk", "a named pre-shared key is at hand"),
    Check("MLS-V080", "12.2", PUBLIC, "not_allowed", "the application's filter accepts a proposal or commit"),
    Check("MLS-V081", "ext", PUBLIC, "bad_proposal", "a SelfRemove is public, by reference, from a member"),
    Check("MLS-V082", "12.1.8.1", PUBLIC, "bad_proposal", "external_senders and required capabilities parse"),
    Check("MLS-V083", "12.1.6", PRIVATE, "bad_proposal", "an ExternalInit's encapsulation opens"),
    Check("MLS-V084", "12.1.2", PUBLIC, "bad_proposal", "an Update comes from a member"),
    Check("MLS-V085", "-", PRIVATE, "quota", "at most 1,024 proposals wait (a limit of this engine)"),
    # commits
    Check("MLS-V090", "12.4", PUBLIC, "bad_commit", "a commit that needs a path has one"),
    Check("MLS-V091", "7.6", PUBLIC, "bad_commit", "a path has one node for each filtered parent"),
    Check("MLS-V092", "7.6", PUBLIC, "bad_commit", "a path node has one ciphertext for each resolved key"),
    Check("MLS-V093", "7.5", PUBLIC, "bad_commit", "the committer's leaf holds the right parent hash"),
    Check("MLS-V094", "12.4.2", PUBLIC, "bad_commit", "a path's keys are new to the tree"),
    Check("MLS-V095", "7.5", PRIVATE, "bad_commit", "a path secret opens"),
    Check("MLS-V096", "7.5", PRIVATE, "bad_commit", "path secrets give the path's public keys"),
    Check("MLS-V097", "12.4.2", PRIVATE, "confirm_mismatch", "the confirmation tag verifies"),
    Check("MLS-V098", "11.2", PUBLIC, "not_allowed", "a group that is to be reinitialised goes no further"),
    # trees, Welcome, GroupInfo
    Check("MLS-V100", "12.4.3.1", PUBLIC, "bad_tree", "the tree has the hash that the group context names"),
    Check("MLS-V101", "7.9.2", PUBLIC, "bad_tree", "every parent is parent-hash valid by exactly one child"),
    Check("MLS-V102", "12.4.3.1", PUBLIC, "bad_tree", "unmerged leaves are members below their parent"),
    Check("MLS-V103", "12.4.3.1", PUBLIC, "bad_tree", "unmerged leaves stand at every parent in between"),
    Check("MLS-V104", "12.4.3.1", PUBLIC, "bad_sig", "the GroupInfo's signature is its signer's"),
    Check("MLS-V105", "12.4.3.1", PUBLIC, "unknown_sender", "the GroupInfo's signer is a member"),
    Check("MLS-V106", "12.4.3", PUBLIC, "conflict", "the group is not one that the client is in already"),
    Check("MLS-V107", "13.4", PUBLIC, "unsupported", "the joiner supports the group's extensions"),
    Check("MLS-V108", "12.4.3.1", PRIVATE, "misrouted", "the Welcome has an entry for the key package"),
    Check("MLS-V109", "12.4.3.1", PRIVATE, "bad_tag", "the Welcome's secrets and GroupInfo open"),
    Check("MLS-V110", "12.4.3.1", PRIVATE, "unsupported", "Welcome, GroupInfo and key package agree on a suite"),
    Check("MLS-V111", "12.4.3.1", PRIVATE, "bad_tree", "the joiner's leaf stands in the tree"),
    Check("MLS-V112", "12.4.3.1", PRIVATE, "bad_tree", "the Welcome's path secret gives the tree's keys"),
    Check("MLS-V113", "12.4.3.1", PRIVATE, "confirm_mismatch", "the GroupInfo's confirmation tag verifies"),
    Check("MLS-V114", "12.4.3.1", PRIVATE, "bad_proposal", "a reinit or branch key is the only one of its kind"),
    Check("MLS-V115", "12.4.3.1", PRIVATE, "wrong_context", "a group made by reinit or branch is at epoch 1"),
    Check("MLS-V116", "11.2", PRIVATE, "wrong_context", "a reinitialised group has the parameters agreed on"),
    Check("MLS-V117", "11.2", PRIVATE, "roster", "a reinitialised group has all members of the old one"),
    Check("MLS-V118", "11.3", PRIVATE, "wrong_context", "a branch has the version and suite of its origin"),
    Check("MLS-V119", "11.3", PRIVATE, "roster", "a branch's members are members of its origin"),
    Check("MLS-V120", "12.4.3.2", PUBLIC, "not_allowed", "a GroupInfo for an external join has external_pub"),
    Check("MLS-V122", "-", PUBLIC, "quota", "a tree has at most 131,072 leaves (a limit of this engine)"),
    Check("MLS-V123", "7.1", PUBLIC, "bad_tree", "the keys of parents are keys of the suite"),
    Check("MLS-V121", "12.4.3.3", PUBLIC, "bad_tree", "the tree comes with the GroupInfo or beside it"),
)

CHECKS: Final = {row.check_id: row for row in _ROWS}
"""All checks by id."""


def refuse(check_id: str, detail: str = "", cause: Exception | None = None) -> Never:
    """Raise the PeerError of one check: its code, its rule as the sentence, its id."""
    row = CHECKS[check_id]
    raise PeerError(row.code, detail or f"not so: {row.rule}", check=check_id) from cause


def is_public(error: PeerError) -> bool:
    """Whether every member reaches this verdict on the same message."""
    row = CHECKS.get(error.check)
    return row is not None and row.kind == PUBLIC
