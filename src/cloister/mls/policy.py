"""What the application decides: credentials, successors, lifetimes, what is kept, which commits it accepts.

The engine asks; it never guesses. There is no default for `validate`: an application without an
authentication service must say so by passing a function that accepts.

Invariants
- The hooks are pure: they are asked before anything changes and their refusal changes nothing.
- Times are milliseconds since the epoch where they are called `now`, seconds in lifetimes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cloister.mls.credential import Credential
from cloister.mls.framing import NEW_MEMBER_PROPOSAL, Sender
from cloister.mls.proposal import Proposal

DAY: Final = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class SentProposal:
    """A proposal with who made it; `reference` is empty for one that a commit carries by value."""

    sender: Sender
    proposal: Proposal
    reference: bytes = b""
    public: bool = False


Validate = Callable[[Credential, bytes, int], bool]
"""`validate(credential, signature_key, now)`: whether the credential is true for this key."""
Successor = Callable[[Credential, Credential], bool]
"""`successor(old, new)`: whether a member may replace the one by the other."""
Accept = Callable[[Sender, tuple[SentProposal, ...]], bool]
"""`accept(sender, proposals)`: whether the application's rules allow this commit, or one proposal that arrives."""


def same_credential(old: Credential, new: Credential) -> bool:
    """The strictest rule for successors: no change at all."""
    return old == new


def no_strangers(sender: Sender, proposals: tuple[SentProposal, ...]) -> bool:
    """Members and registered external senders may propose; who asks to be added itself is not authorised by default."""
    return all(sent.sender.kind != NEW_MEMBER_PROPOSAL for sent in proposals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The hooks and limits of one application.

    `max_lifetime` is the longest total lifetime of a key package in seconds; of past epochs the newest
    `kept_epochs` are kept for late messages, each for `kept_for` milliseconds after it has passed;
    `pad_to` is the size in bytes to whose multiples messages are padded; `private_handshake` encrypts proposals
    and commits too.
    """

    validate: Validate
    successor: Successor = same_credential
    accept: Accept = no_strangers
    max_lifetime: int = 90 * DAY
    kept_epochs: int = 4
    kept_for: int = 7 * DAY * 1000
    pad_to: int = 1
    private_handshake: bool = True
