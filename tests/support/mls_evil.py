"""A member who breaks rules with valid keys: whatever it alters, it signs, tags and encrypts again.

`evil()` switches every check off while the attacker works, so that the engine itself makes the bad message;
`patched` replaces one step of it. Receivers are honest: `deliver` verifies that a refusal changed nothing.
A case is a function of `bad`: False is the control and must pass, True must be refused by the case's check.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

import cloister.mls
from cloister.codec.tls import opaque
from cloister.errors import PeerError
from cloister.mls import (
    CommitOptions,
    Group,
    Proposal,
    PublicMessage,
    SentProposal,
    StagedCommit,
    committing,
    encode_message,
    private_message,
    public_message,
)
from cloister.mls.framing import MEMBER, PUBLIC_MESSAGE, AuthenticatedContent, FramedContent, Sender
from cloister.mls.private_message import PrivateMessage
from support.mls import NOW, Client

MODULES = [importlib.import_module(f"cloister.mls.{each.name}") for each in pkgutil.iter_modules(cloister.mls.__path__)]
Case = Callable[[bool], object]
CASES: dict[str, list[Case]] = {}


def case(check_id: str) -> Callable[[Case], Case]:
    """Register a case of one check."""

    def register(function: Case) -> Case:
        CASES.setdefault(check_id, []).append(function)
        return function

    return register


def cases_of(module: str) -> list[Any]:
    """The cases that a test module defines, as parameters of its one test."""
    return [
        pytest.param(check_id, each, id=f"{check_id}-{each.__name__}")
        for check_id, every in CASES.items()
        for each in every
        if each.__module__ == module
    ]


def judge(check_id: str, each: Case) -> None:
    """The control passes, the attack is refused by this check."""
    each(False)
    with pytest.raises(PeerError) as caught:
        each(True)
    assert caught.value.check == check_id, f"{caught.value} by {caught.value.check}"
    assert caught.value.code == cloister.mls.CHECKS[check_id].code


@contextmanager
def evil(bad: bool = True) -> Iterator[None]:
    """No check refuses anything in here (when `bad`)."""
    with ExitStack() as stack:
        for module in MODULES if bad else ():
            if hasattr(module, "refuse"):
                stack.enter_context(mock.patch.object(module, "refuse", return_value=None))
        yield


@contextmanager
def patched(bad: bool, name: str, replacement: Any) -> Iterator[None]:
    """One function or attribute of the engine replaced (when `bad`), in every module that imported it."""
    module_name, attribute = name.rsplit(".", 1)
    with ExitStack() as stack:
        if bad:
            owner = importlib.import_module(f"cloister.mls.{module_name}")
            original = getattr(owner, attribute)
            for module in MODULES:
                if getattr(module, attribute, None) is original:
                    stack.enter_context(mock.patch.object(module, attribute, replacement))
        yield


def snapshot(group: Group) -> object:
    """Everything a refusal must not touch."""
    state = group._state
    secrets = state.live.secrets
    return (
        state.live.epoch,
        state.live.epoch.tree.encode(),
        dict(secrets.nodes),
        dict(secrets.ratchets),
        {place: dict(kept) for place, kept in secrets.keys.items()},
        dict(state.proposals),
        list(state.past),
        set(state._dirty),
        state.state,
    )


def deliver(client: Client, message: bytes, **arguments: Any) -> Any:
    """Process a message; a refusal must leave the group as it was. Commits are merged."""
    before = snapshot(client.group)
    try:
        received = client.group.process(message, NOW, **arguments)
    except PeerError:
        assert snapshot(client.group) == before
        raise
    if isinstance(received, StagedCommit):
        client.group.merge(received, NOW)
    return received


def sent(client: Client, proposal: Proposal, reference: bytes = b"") -> SentProposal:
    """A proposal by a client, by value unless there is a reference."""
    return SentProposal(
        sender=Sender(MEMBER, client.group.own_leaf), proposal=proposal, reference=reference, public=True
    )


def commit_of(client: Client, *proposals: SentProposal, bad: bool = True, **options: Any) -> StagedCommit:
    """A commit of exactly these proposals, valid or not, public unless said otherwise."""
    group = client.group
    chosen = CommitOptions(**{"public": True, **options})
    with evil(bad):
        return committing.create(
            group._epoch,
            group._state.live.secrets,
            proposals,
            group.policy,
            group.resumption_psk,
            NOW,
            client.rng,
            chosen,
        )


def framed(client: Client, content: Any, sender: Sender | None = None, **changes: Any) -> FramedContent:
    """A content by a client, or under a sender that is not its own."""
    group = client.group
    values: dict[str, Any] = {
        "group_id": group.group_id,
        "epoch": group.epoch,
        "sender": sender or Sender(MEMBER, group.own_leaf),
        "content": content,
        **changes,
    }
    return FramedContent(**values)


def public(client: Client, content: FramedContent, **changes: Any) -> bytes:
    """A PublicMessage with the client's signature and a right membership tag, unless `changes` say otherwise."""
    epoch = client.group._epoch
    signed = AuthenticatedContent.sign(epoch.suite, client.identity.key, PUBLIC_MESSAGE, content, epoch.context)
    signed = replace(signed, **changes)
    tag = public_message._tag(epoch.suite, epoch.secrets.membership_key, signed, epoch.context)
    return encode_message(PublicMessage(content=signed, membership_tag=tag))


def private(
    client: Client,
    plain: bytes,
    *,
    leaf: int | None = None,
    generation: int | None = None,
    sender_data: bytes | None = None,
    content_type: int = 1,
) -> bytes:
    """A PrivateMessage over any plaintext, under the keys of any leaf."""
    live = client.group._state.live
    epoch = live.epoch
    suite, secret = epoch.suite, epoch.secrets.sender_data_secret
    at = epoch.own if leaf is None else leaf
    use = live.secrets.next_key(epoch.own, 1)
    number = use.generation if generation is None else generation
    head = opaque(epoch.context.group_id) + epoch.number.to_bytes(8, "big") + bytes((content_type,))
    ciphertext = suite.aead(use.key).seal(use.nonce, plain, head + b"\0")
    key, nonce = private_message.sender_data_key(suite, secret, ciphertext)
    data = at.to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(4)
    sealed = suite.aead(key).seal(nonce, data if sender_data is None else sender_data, head)
    return encode_message(PrivateMessage(epoch.context.group_id, epoch.number, content_type, b"", sealed, ciphertext))
