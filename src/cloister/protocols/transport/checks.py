"""The checks of suite `transport`, each one function with an id, in the order in which they are made.

Source: docs/spec/classic/transport.md ("Checks"). An invitation (I1) is judged when it comes, by what it says itself;
the commit (I0) that it belongs to is judged when the room's log shows it, by what I1 has fixed and by the epoch that it
ends. The rest are refusals of shared checks: the directory's, CTX-01, POL-01, RUN-14, COM-04, COM-05.

Invariants
- A check that belongs to a fix asks `Steps`; whatever else it compares is the same for the suite and its originals.
- Whoever is blamed has signed what is wrong: up to TRA-12 nobody is named.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence, Set
from typing import Final

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.aead import ZERO_NONCE
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import Verifier, verify, verify_mac
from cloister.primitives.rsa import RsaDecryptKey
from cloister.protocols.checks import check, named
from cloister.protocols.interface import NO_EPOCH, DeviceId, Envelope, Roster
from cloister.protocols.rounds.epochs import Epoch
from cloister.protocols.rounds.run import NO_TH
from cloister.protocols.transport.steps import (
    ACK_LIFE,
    NAME,
    Ack,
    Box,
    CommitEntry,
    Ending,
    Invite,
    Keys,
    Leave,
    Steps,
    Terms,
    Token,
    ending_key,
    keys_of,
)

HELD_MOST: Final = 64
"""Invitations of one inviter to a room that wait for their commit."""
_KEY: Final = 32

# --- I1, when it comes -------------------------------------------------------------------------------------


@check("TRA-01")
def check_mine(token: Token, device: DeviceId, room: bytes) -> None:
    """PeerError("misrouted") unless the invitation is for this device and room."""
    if (token.to, token.terms.room) != (device, room):
        raise PeerError("misrouted", "an invitation for somebody else", check="TRA-01")


@check("TRA-02")
def check_outer(token: Token, sender: DeviceId | None) -> None:
    """PeerError("inner_outer") unless the mailbox item was sent by the inviter."""
    if token.terms.inviter != sender:
        raise PeerError("inner_outer", check="TRA-02")


@check("TRA-03")
def check_variant(steps: Steps, variant: str, standing: str | None) -> None:
    """PeerError("not_allowed") unless this device consents to the variant, which is the room's for its whole life."""
    if variant not in steps.variants or standing not in (None, variant):
        raise PeerError("not_allowed", "a variant that nobody here consented to", check="TRA-03")


@check("TRA-04")
def check_signed(key: Verifier, invite: Invite) -> None:
    """PeerError("bad_sig") unless the inviter signed the whole of tok."""
    with named("TRA-04"):
        verify(key, invite.signature, "transport tok", invite.token.items())


@check("TRA-05")
def check_fresh(steps: Steps, token: Token, now: int) -> None:
    """PeerError("stale_timestamp") unless tok is of about now, or has waited no longer than a mailbox keeps it."""
    if not steps.fresh(token.ts, now) or not token.ts < token.terms.deadline <= token.ts + ACK_LIFE:
        raise PeerError("stale_timestamp", check="TRA-05")


@check("TRA-27")
def check_since_restored(token: Token, restored_at: int) -> None:
    """PeerError("stale_timestamp") for an invitation of before this backup was restored: the epoch may have been used.

    `restored_at` is in ms; 0 for a session that is no backup.
    """
    if token.ts < restored_at:
        raise PeerError("stale_timestamp", "an invitation of before this backup was restored", check="TRA-27")


@check("TRA-06")
def check_once(steps: Steps, seen: bool) -> None:
    """PeerError("replay") for an invitation that was seen before, or another of the same inviter to the same run."""
    if not steps.once(seen):
        raise PeerError("replay", check="TRA-06")


@check("TRA-07")
def check_follows(steps: Steps, terms: Terms, held: int) -> None:
    """PeerError("stale_epoch") unless the epoch is later than every one that is held."""
    if not steps.follows(terms.epoch, held):
        raise PeerError("stale_epoch", "an invitation to an epoch that is over", check="TRA-07")


@check("TRA-08")
def check_member_invites(steps: Steps, terms: Terms, epoch: Epoch | None) -> None:
    """PeerError("not_inviter") when somebody who is not in the standing epoch invites to the next."""
    follows = epoch is not None and terms.prev_th == epoch.th
    if follows and epoch is not None and not steps.may_invite(terms.inviter in epoch.roster):
        raise PeerError("not_inviter", check="TRA-08")


@check("TRA-09")
def check_few(waiting: int) -> None:
    """PeerError("quota") when HELD_MOST invitations of this inviter wait already."""
    if waiting >= HELD_MOST:
        raise PeerError("quota", "too many invitations without their commits", check="TRA-09")


@check("TRA-10")
def check_inside(steps: Steps, terms: Terms, payload: bytes) -> bytes:
    """The key; PeerError("inner_outer") unless inviter and room beside it are those outside."""
    expected = steps.inside(terms)
    if len(payload) != len(expected) + _KEY or not hmac.compare_digest(payload[:-_KEY], expected):
        raise PeerError("inner_outer", "the key was meant for another invitation", check="TRA-10")
    return payload[-_KEY:]


@check("TRA-11")
def check_key_hash(steps: Steps, token: Token, key: bytes) -> None:
    """PeerError("commit_mismatch") unless the key is the one that the inviter committed to."""
    if not hmac.compare_digest(steps.key_hash(token.terms.ctx, token.terms.inviter, key), token.key_hash):
        raise PeerError("commit_mismatch", "not the key that was committed to", check="TRA-11")


def open_key(steps: Steps, token: Token, own: RsaDecryptKey) -> Keys:
    """What follows from the key in tok; PeerError bad_share, inner_outer or commit_mismatch."""
    payload = steps.decrypt(own, token.terms.ctx, token.to, token.ciphertext)
    key = check_inside(steps, token.terms, payload)
    check_key_hash(steps, token, key)
    return keys_of(steps, token.terms, token.key_hash, key)


# --- I0, when the log shows it -----------------------------------------------------------------------------


@check("TRA-12")
def check_place(terms: Terms, envelope: Envelope) -> None:
    """PeerError("stale_epoch") unless the first epoch makes a room, and every later one ends another."""
    first = (terms.prev_th == NO_TH, terms.epoch == 1, envelope.token_hash == NO_EPOCH)
    if first not in ((True,) * 3, (False,) * 3):
        raise PeerError("stale_epoch", check="TRA-12")


def open_ending(exporter: bytes, entry: CommitEntry) -> Ending:
    """What the entry says to the epoch it ends; PeerError("bad_tag") unless a member of that epoch made it."""
    bound = enc(entry.run_id, entry.key_hash, sha256(entry.box))
    return Ending.decode(ending_key(exporter, entry).open(ZERO_NONCE, entry.parent or b"", bound))


@check("TRA-13")
def check_ending_signed(key: Verifier, prev_th: bytes, entry: CommitEntry, ending: Ending) -> None:
    """PeerError("bad_sig") unless the named member signed it."""
    with named("TRA-13"):
        verify(key, ending.signature, "transport ending", *ending.signed_items(prev_th, entry))


def names(token: Token, payload: bytes, entry: CommitEntry) -> bool:
    """Whether I0 is, byte for byte, what tok names, with the same k_c."""
    return sha256(payload) == token.commit_hash and entry.key_hash == token.key_hash


@check("TRA-14")
def check_named(payload: bytes, entry: CommitEntry, token: Token) -> None:
    """PeerError("commit_mismatch") unless the invitation `names` I0."""
    if not names(token, payload, entry):
        raise PeerError("commit_mismatch", "the inviter told two different things", check="TRA-14")


@check("TRA-26")
def check_maker(ending: Ending, token: Token) -> None:
    """PeerError("not_inviter") for an invitation to a commit that somebody else has made: a run's name is no secret."""
    if ending.inviter != token.terms.inviter:
        raise PeerError("not_inviter", "another's commit", check="TRA-26")


@check("TRA-15")
def check_box(keys: Keys, entry: CommitEntry, ctx: bytes) -> Box:
    """The box; PeerError("commit_mismatch") unless it opens with the key that this device was given."""
    try:
        plain = keys.box.open(ZERO_NONCE, entry.box, ctx)
    except PeerError as error:
        raise PeerError("commit_mismatch", "a key that does not open the room", check="TRA-15") from error
    return Box.decode(plain)


@check("TRA-16")
def check_same_terms(box: Box, terms: Terms, again: Terms) -> None:
    """PeerError("wrong_context") unless the box has the context of tok, and is of this suite."""
    if box.context.suite != NAME or again != terms:
        raise PeerError("wrong_context", "another context than the invitation's", check="TRA-16")


@check("TRA-17")
def check_box_signed(key: Verifier, box: Box, ctx: bytes, key_hash: bytes) -> None:
    """PeerError("bad_sig") unless the inviter signed the box."""
    with named("TRA-17"):
        verify(key, box.signature, "transport commit", *box.signed_items(ctx, key_hash))


@check("TRA-18")
def check_members(box: Box, device: DeviceId) -> None:
    """PeerError("roster") unless inviter and this device are members, and so are all who are newly asked in."""
    if not {box.context.proposer, device, *box.invitees} <= set(box.context.roster):
        raise PeerError("roster", "an invitation by or for a stranger", check="TRA-18")


@check("TRA-19")
def check_roster(box: Box, ending: Ending, old: Roster, gone: Set[DeviceId]) -> None:
    """PeerError("roster") unless the roster is the old one, less the removed, and the newly asked in.

    `gone` are members who are out of the realm: every commit takes them out.
    """
    new, removed = set(box.context.roster), set(ending.removed)
    follows = new == (set(old) - removed) | set(box.invitees) and not set(box.invitees) & set(old)
    if not follows or not gone <= removed <= set(old):
        raise PeerError("roster", check="TRA-19")


@check("TRA-20")
def check_may_invite(steps: Steps, allowed: bool) -> None:
    """PeerError("not_inviter") unless the inviter's role, or its rule for need, lets the sender make this commit."""
    if not steps.may_invite(allowed):
        raise PeerError("not_inviter", check="TRA-20")


@check("TRA-21")
def check_newcomer(box: Box, device: DeviceId, *, locked: bool) -> None:
    """PeerError("not_allowed") unless this newcomer is asked in; in a new room all but the inviter are.

    A device that could not follow an earlier commit (`locked`) is still a member, and is asked in by nobody.
    """
    others = set(box.context.roster) - {box.context.proposer}
    asked = device in box.invitees if box.context.prev_th != NO_TH else set(box.invitees) == others
    if not asked and not (locked and box.context.prev_th != NO_TH):
        raise PeerError("not_allowed", "not invited by this commit", check="TRA-21")


# --- I2 and leaves -----------------------------------------------------------------------------------------


@check("TRA-22")
def check_notice_sender(notice: Ack | Leave, roster: Sequence[DeviceId], room: bytes) -> None:
    """PeerError("unknown_sender") unless a member says it, `wrong_context` unless it is for this room."""
    if notice.sender not in roster:
        raise PeerError("unknown_sender", check="TRA-22")
    if notice.room != room:
        raise PeerError("wrong_context", check="TRA-22")


@check("TRA-23")
def check_ack_signed(key: Verifier, ack: Ack, ctx: bytes) -> None:
    """PeerError("bad_sig") unless the named member signed the ack."""
    with named("TRA-23"):
        verify(key, ack.signature, "transport ack", ctx, ack.sender, ack.mac)


@check("TRA-24")
def check_ack_mac(confirm: bytes, ack: Ack, ctx: bytes, commit_hash: bytes) -> None:
    """PeerError("confirm_mismatch") unless the member holds this key, and has read this I0."""
    with named("TRA-24"):
        verify_mac(ack.mac, confirm, "transport ack mac", ctx, commit_hash, ack.sender, code="confirm_mismatch")


@check("TRA-25")
def check_leave(key: Verifier, leave: Leave, th: bytes) -> None:
    """PeerError unless the named member signed the leave (`bad_sig`), for this epoch (`wrong_context`)."""
    with named("TRA-25"):
        verify(key, leave.signature, "transport leave", leave.room, leave.th, leave.sender)
    if leave.th != th:
        raise PeerError("wrong_context", "a leave of another epoch", check="TRA-25")
