"""Every error of the product, in one tree and one registry.

CloisterError
├── UsageError        the caller asked for what is forbidden now
├── PeerError         a member or the relay broke a rule; `check` may name the rule
├── UnavailableError  network, disk, clock or version stands in the way; a retry may help
└── InternalError     a bug of ours

Source: docs/architecture.md ("Errors"), docs/spec/errors.md (generated from REGISTRY).

Invariants
- Each error carries a `code` that stands in REGISTRY; an unknown code is itself an InternalError.
- `sentence` is for a person, `hint` is the next thing to do; every surface shows exactly these.
- From untrusted bytes only PeerError escapes a decoder or a check.
- `detail` is ours: it never holds a secret and never unescaped text of a peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """One row of the registry: what a person reads, and how a command ends.

    `exit_code` is the process exit code of docs/spec/errors.md, 1 where nothing better fits.
    """

    code: str
    sentence: str
    hint: str
    exit_code: int = 1


_ROWS: Final = (
    # what peers and relays can break
    ErrorInfo("bad_encoding", "the bytes are not a well-formed message", "ask the sender to update", 10),
    ErrorInfo("bad_cert", "a certificate is not valid here", "run: cloister authority verify CERT", 10),
    ErrorInfo("expired", "a certificate is past its end", "renew it, or ask the realm's authority", 10),
    ErrorInfo("wrong_authority", "a certificate is not from this realm's authority", "nothing was taken over", 10),
    ErrorInfo("wrong_usage", "a certificate is made for another use", "nothing was taken over", 10),
    ErrorInfo("revoked", "a certificate or device has been revoked", "enrol the device again", 5),
    ErrorInfo("disabled", "the relay's operator does not serve this user", "ask the operator", 5),
    ErrorInfo("unknown_sender", "the sender is not a member", "nothing was taken over; no action needed", 10),
    ErrorInfo("misrouted", "a message does not belong where it was found", "nothing was taken over", 10),
    ErrorInfo("bad_sig", "a signature does not verify", "nothing was taken over; tell the room", 10),
    ErrorInfo("bad_tag", "a sealed message does not open", "nothing was taken over; tell the room", 10),
    ErrorInfo("bad_head", "a log head is not signed by this relay", "nothing was taken over", 10),
    ErrorInfo(
        "bad_chain",
        "the relay's log does not join what was seen before",
        "keep the profile; it holds the proof: cloister room show ROOM",
        10,
    ),
    ErrorInfo(
        "fork",
        "the relay signed two different logs for one room",
        "keep the profile; it holds the proof: cloister room show ROOM",
        10,
    ),
    ErrorInfo(
        "withheld",
        "the relay keeps back entries that another member has seen",
        "ask the relay's operator; compare heads with the members",
        10,
    ),
    ErrorInfo("wrong_context", "a message was made for another room, run or epoch", "nothing was taken over", 10),
    ErrorInfo("wrong_realm", "a link or key belongs to another realm", "ask for a link of this realm", 4),
    ErrorInfo("wrong_name", "a certificate bears another name than it must", "nothing was taken over", 10),
    ErrorInfo("stale_epoch", "the room has moved to a newer key", "it is sealed again by itself", 1),
    ErrorInfo("stale_timestamp", "a message is too old or from the future", "check both clocks", 10),
    ErrorInfo("clock_skew", "this clock and the relay's differ by more than two minutes", "set the clock", 3),
    ErrorInfo("replay", "a message was seen before", "nothing was shown twice", 10),
    ErrorInfo("gap", "a message is missing before this one", "it is asked for by itself", 10),
    ErrorInfo("conflict", "the same id was used for other bytes", "nothing was overwritten", 10),
    ErrorInfo("commit_mismatch", "a share does not fit what was committed to", "start a new run", 10),
    ErrorInfo("commit_copied", "two members committed to the same value", "start a new run without the copier", 10),
    ErrorInfo("bad_share", "a key share cannot be opened", "start a new run", 10),
    ErrorInfo("bad_answer", "a member's answer to a nonce is wrong", "start a new run", 10),
    ErrorInfo("zero_key", "a key agreement gave the zero key", "start a new run", 10),
    ErrorInfo("bad_element", "a public value is outside the group", "start a new session", 10),
    ErrorInfo("confirm_mismatch", "a member holds another key", "start a new run", 10),
    ErrorInfo("not_confirmed", "the members have not all confirmed the key", "wait until all have been online", 1),
    ErrorInfo("wrong_code_or_mitm", "the code is wrong, or somebody sits between", "compare codes, try again", 10),
    ErrorInfo("inner_outer", "the names inside and outside differ", "nothing was taken over", 10),
    ErrorInfo("not_inviter", "the sender may not invite here", "ask the room's inviter", 9),
    ErrorInfo("not_allowed", "the room's or relay's policy does not allow this", "ask who may", 9),
    ErrorInfo("roster", "the list of members does not follow from the last one", "nothing was taken over", 10),
    ErrorInfo(
        "identity_changed",
        "an identity key changed since it was pinned",
        "compare safety numbers before you write again",
        4,
    ),
    ErrorInfo(
        "bad_manifest",
        "a user's list of devices does not follow from the last one",
        "nothing was taken over",
        10,
    ),
    ErrorInfo("not_in_manifest", "a key does not stand in its owner's newest manifest", "nothing was taken over", 10),
    ErrorInfo("bad_enrolment", "an enrolment does not fit its link, names or keys", "ask for a new link", 9),
    ErrorInfo("declined", "the other side declined", "ask them", 1),
    ErrorInfo("no_session", "there is no such session", "start one", 6),
    ErrorInfo("session_full", "the session has its two members already", "start a new one", 9),
    ErrorInfo("quota", "a limit was reached", "wait, or ask the relay's operator", 9),
    ErrorInfo("storage_full", "the relay's disk is full; nothing was accepted", "tell the relay's operator", 9),
    ErrorInfo("timeout", "not everybody answered in time", "propose it again", 8),
    ErrorInfo("not_ready", "the room's key is not agreed yet", "wait until all have been online", 1),
    ErrorInfo("unsupported", "this kind of message is not known here", "update cloister", 1),
    ErrorInfo("locked_out", "the device has no session in this room", "ask a member to add it again", 1),
    ErrorInfo("bad_leaf", "a member's keys or abilities do not fit the group", "nothing was taken over", 10),
    ErrorInfo("bad_tree", "the tree of members does not hold together", "ask for a new invitation", 10),
    ErrorInfo("bad_proposal", "a proposed change breaks the rules", "nothing was taken over", 10),
    ErrorInfo("bad_commit", "a change of the group breaks the rules", "nothing was taken over", 10),
    ErrorInfo("unknown_proposal", "a change rests on a proposal not seen here", "it is asked for by itself", 10),
    ErrorInfo("unknown_psk", "a key that both sides must hold is missing here", "ask who set it up", 10),
    # what the caller can get wrong
    ErrorInfo("usage", "the command cannot be carried out as given", "see: cloister help", 2),
    ErrorInfo("no_room", "there is no such room", "see: cloister room list", 6),
    ErrorInfo("no_user", "there is no such user", "see: cloister users", 6),
    ErrorInfo("no_profile", "there is no profile of this name", "run: cloister setup", 6),
    ErrorInfo("bad_name", "a name is not of the allowed form", "use another; small letters and digits always fit", 2),
    ErrorInfo("bad_recovery_code", "the recovery code is mistyped or incomplete", "look at the named word", 2),
    ErrorInfo("exists", "that name is taken", "choose another", 2),
    ErrorInfo("bad_invite", "the invite link is not whole or not for here", "ask for the link again", 2),
    ErrorInfo("used_invite", "the invite has been used up or has ended", "ask for a new one", 9),
    ErrorInfo(
        "wrong_password",
        "the password is wrong or the vault was altered",
        "try again; no attempt is counted",
        5,
    ),
    ErrorInfo("bad_vault", "the vault file is damaged or of an unknown form", "restore it from a backup", 5),
    ErrorInfo("loose_files", "files of the profile can be read by others", "close it to others: chmod -R go= PATH", 5),
    ErrorInfo("profile_in_use", "another process owns the profile and does not answer", "end it, or wait", 5),
    ErrorInfo("relay_in_use", "another process has the relay's folder", "see: cloister relay status", 5),
    ErrorInfo("not_owner", "the socket belongs to another user", "use your own profile", 5),
    ErrorInfo("read_only", "the room cannot be written to", "see: cloister room show ROOM", 9),
    # what stands in the way
    ErrorInfo("unreachable", "the relay cannot be reached", "check the network; it is tried again by itself", 3),
    ErrorInfo(
        "listen",
        "the relay cannot listen where it is told to",
        "end what listens there, or change port and listen in relay.toml",
        1,
    ),
    ErrorInfo("not_stored", "the relay has not stored the text yet", "it goes out by itself, later", 8),
    ErrorInfo("time_over", "the time to wait is over", "wait longer: --timeout SECONDS", 8),
    ErrorInfo("closed", "the connection ended", "it is opened again by itself", 3),
    ErrorInfo("tls", "the relay's TLS certificate is not the pinned one", "ask the operator; never click it away", 4),
    ErrorInfo("version", "the two sides share no protocol version", "update cloister", 3),
    ErrorInfo("disk", "a file cannot be read or written", "check space and permissions", 1),
    ErrorInfo("damaged", "the stored data do not verify", "restore from a backup", 10),
    ErrorInfo(
        "leak",
        "something secret stands in what the relay stored",
        "please report it; look at the files with: cloister demo --keep DIR",
        10,
    ),
    ErrorInfo("demo_failed", "the demo did not come to its end", "look at the logs: cloister demo --keep DIR", 1),
    # what is ours
    ErrorInfo("internal", "something went wrong inside cloister", "please report it; your data are safe", 1),
)

REGISTRY: Final[Mapping[str, ErrorInfo]] = MappingProxyType({row.code: row for row in _ROWS})
"""All rows by code; the tables of the documents are generated from it."""


class CloisterError(Exception):
    """Root of all errors; `code` stands in REGISTRY, `detail` narrows it down for a person."""

    default = "internal"

    def __init__(self, code: str = "", detail: str = "") -> None:
        self.code = code or self.default
        self.info = REGISTRY[self.code]
        self.detail = detail
        super().__init__(f"{self.code}: {detail}" if detail else self.code)

    @property
    def sentence(self) -> str:
        """What happened, for a person: the registry's sentence and our detail."""
        return f"{self.info.sentence}: {self.detail}" if self.detail else self.info.sentence

    @property
    def hint(self) -> str:
        """The next thing to do."""
        return self.info.hint


class UsageError(CloisterError):
    """The caller asked for what is forbidden now."""

    default = "usage"


class PeerError(CloisterError):
    """A member or the relay broke a rule; `check` is the id of the rule where it has one (MLS-V042)."""

    default = "bad_encoding"

    def __init__(self, code: str = "", detail: str = "", *, check: str = "") -> None:
        super().__init__(code, detail)
        self.check = check


class UnavailableError(CloisterError):
    """Network, disk, clock or version stands in the way; the same call may succeed later."""

    default = "unreachable"


class InternalError(CloisterError):
    """A bug of ours; never caused by bytes of a peer."""

    default = "internal"
