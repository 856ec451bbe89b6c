"""What a group refuses of messages before it looks at proposals and commits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.mls import (
    Add,
    Extension,
    ExternalSender,
    GroupContextExtensions,
    Remove,
    decode_message,
    encode_message,
    external_proposal,
    external_senders_extension,
    join_proposal,
)
from cloister.mls.commit import Commit
from cloister.mls.framing import (
    EXTERNAL,
    MEMBER,
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    Sender,
    encode_content,
)
from support.mls import NOW, POLICY, Client, group_of
from support.mls_evil import Case, case, cases_of, deliver, evil, framed, judge, private, public


def update_of(client: Client) -> bytes:
    return client.group.propose_update(NOW, client.rng)


def plain(client: Client, data: bytes, generation: int = 0) -> bytes:
    """Content and signature of an application message, ready to be encrypted."""
    from cloister.mls.framing import PRIVATE_MESSAGE, AuthenticatedContent

    epoch = client.group._epoch
    content = framed(client, data)
    signed = AuthenticatedContent.sign(epoch.suite, client.identity.key, PRIVATE_MESSAGE, content, epoch.context)
    return encode_content(data) + signed.auth()


@case("MLS-V001")
def trailing_bytes(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, a.group.protect(b"x", a.rng) + (b"\0" if bad else b""))


@case("MLS-V001")
def truncated(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = a.group.protect(b"x", a.rng)
    deliver(b, message[:-1] if bad else message)


@case("MLS-V001")
def length_in_two_bytes_instead_of_one(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = a.group.protect(b"x", a.rng)
    assert message[4:9] == b"\x04room"
    deliver(b, message[:4] + b"\x40" + message[4:] if bad else message)


@case("MLS-V001")
def sender_data_of_another_size(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, private(a, plain(a, b"x"), sender_data=b"short" if bad else None))


@case("MLS-V002")
def another_protocol_version(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = a.group.protect(b"x", a.rng)
    deliver(b, (b"\0\2" if bad else b"\0\1") + message[2:])


@case("MLS-V003")
def unknown_wire_format(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = a.group.protect(b"x", a.rng)
    deliver(b, message[:2] + (b"\0\x09" if bad else b"\0\2") + message[4:])


@case("MLS-V003")
def unknown_content_type(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = bytearray(a.group.protect(b"x", a.rng))
    assert message[17] == 1
    message[17] = 9 if bad else 1
    deliver(b, bytes(message))


@case("MLS-V003")
def unknown_sender_type(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = bytearray(a.group.propose(Remove(1), NOW, a.rng, public=True))
    assert message[17] == MEMBER
    message[17] = 7 if bad else MEMBER
    deliver(b, bytes(message))


@case("MLS-V004")
def extension_twice(bad: bool) -> None:
    a, b = group_of("a", "b")
    extension = Extension(1, b"x")
    proposal = GroupContextExtensions((extension, extension) if bad else (extension,))
    with evil():
        message = a.group.propose(proposal, NOW, a.rng)
    deliver(b, message)


@case("MLS-V008")
def padding_that_is_not_zero(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, private(a, plain(a, b"x") + (b"\0\1\0" if bad else b"\0\0\0")))


@case("MLS-V009")
def key_package_instead_of_message(bad: bool) -> None:
    a, b = group_of("a", "b")
    package = encode_message(a.package().package)
    deliver(b, package if bad else a.group.protect(b"x", a.rng))


@case("MLS-V010")
def another_group(bad: bool) -> None:
    a, b = group_of("a", "b")
    if bad:
        a.create(b"other")
    deliver(b, a.group.protect(b"x", a.rng))


@case("MLS-V010")
def another_group_publicly(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, public(a, framed(a, Remove(1), group_id=b"other" if bad else b"room")))


@case("MLS-V011")
def proposal_of_an_old_epoch(bad: bool) -> None:
    a, b = group_of("a", "b")
    old = update_of(b)
    if bad:
        staged = b.group.commit(NOW, b.rng)
        b.group.merge(staged, NOW)
        a.take(staged.message)
    deliver(a, old)


@case("MLS-V012")
def application_data_in_public(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, public(a, framed(a, b"data" if bad else Remove(1))))


@case("MLS-V013")
def member_at_a_blank_leaf(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, public(a, framed(a, Remove(1), Sender(MEMBER, 7) if bad else None)))


@case("MLS-V014")
def membership_tag_altered(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = public(a, framed(a, Remove(1)))
    deliver(b, message[:-1] + bytes((message[-1] ^ bad,)))


@case("MLS-V014")
def membership_tag_truncated(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = decode_message(public(a, framed(a, Remove(1))))
    deliver(b, encode_message(replace(message, membership_tag=message.membership_tag[: 16 if bad else 32])))


@case("MLS-V015")
def empty_signature(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, public(a, framed(a, Remove(1)), **({"signature": b""} if bad else {})))


@case("MLS-V015")
def forged_sender(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    deliver(b, public(a, framed(a, Remove(1), Sender(MEMBER, 2 if bad else 0))))


@case("MLS-V015")
def signature_of_a_private_message_in_a_public_one(bad: bool) -> None:
    from cloister.mls.framing import PRIVATE_MESSAGE, PUBLIC_MESSAGE, AuthenticatedContent

    a, b = group_of("a", "b")
    epoch = a.group._epoch
    content = framed(a, Remove(1))
    kind = PRIVATE_MESSAGE if bad else PUBLIC_MESSAGE
    signed = AuthenticatedContent.sign(epoch.suite, a.identity.key, kind, content, epoch.context)
    deliver(b, public(a, content, signature=signed.signature))


def with_external_sender() -> tuple[Client, Client]:
    a, outside = Client("a"), Client("outside")
    sender = ExternalSender(
        signature_key=outside.identity.key.public.raw, credential=outside.identity.template.credential
    )
    a.create(extensions=(external_senders_extension((sender,)),))
    a.add(Client("b"))
    return a, outside


def external(outside: Client, index: int, proposal: object, bad: bool) -> bytes:
    with evil(bad):
        from cloister.mls import outside as module

        suite, key = outside.suite, outside.identity.key
        return module._message(suite, key, Sender(EXTERNAL, index), b"room", 1, proposal)


@case("MLS-V016")
def external_sender_proposes_an_update(bad: bool) -> None:
    a, outside = with_external_sender()
    from cloister.mls import SelfRemove

    deliver(a, external(outside, 0, SelfRemove() if bad else Remove(1), bad))


@case("MLS-V017")
def external_sender_that_is_not_registered(bad: bool) -> None:
    a, outside = with_external_sender()
    deliver(a, external(outside, 1 if bad else 0, Remove(1), bad))


def test_external_proposal_is_signed_by_the_registered_key() -> None:
    a, outside = with_external_sender()
    good = external_proposal(a.suite, outside.identity.key, 0, b"room", 1, Remove(1))
    assert deliver(a, good).proposal.sender == Sender(EXTERNAL, 0)


@case("MLS-V018")
def new_member_proposes_a_removal(bad: bool) -> None:
    from cloister.mls import outside as module

    (a,) = group_of("a")
    joiner = Client("joiner")
    proposal = Remove(0) if bad else Add(joiner.package().package)
    sender = Sender(NEW_MEMBER_PROPOSAL)
    message = module._message(a.suite, joiner.identity.key, sender, b"room", 0, proposal)
    deliver(a, message)


@case("MLS-V019")
def new_member_commit_that_is_none(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("joiner")
    if bad:
        joiner.group = a.group
        deliver(a, public(joiner, framed(joiner, Commit((), None), Sender(NEW_MEMBER_COMMIT))))
    else:
        deliver(a, join_proposal(a.suite, joiner.identity.key, b"room", 0, joiner.package().package))


@case("MLS-V020")
def sender_data_name_a_blank_leaf(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, private(a, plain(a, b"x"), leaf=9 if bad else None))


@case("MLS-V021")
def ciphertext_altered(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = a.group.protect(b"x", a.rng)
    deliver(b, message[:-1] + bytes((message[-1] ^ bad,)))


@case("MLS-V021")
def ciphertext_under_another_members_keys(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    deliver(b, private(a, plain(a, b"x"), leaf=2 if bad else None))


@case("MLS-V021")
def content_type_unlike_the_outer_kind(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = bytearray(update_of(a))
    assert message[17] == 2
    message[17] = 1 if bad else 2
    deliver(b, bytes(message))


@case("MLS-V022")
def a_message_twice(bad: bool) -> None:
    a, b = group_of("a", "b")
    message = a.group.protect(b"x", a.rng)
    deliver(b, message)
    deliver(b, message if bad else a.group.protect(b"x", a.rng))


@case("MLS-V023")
def a_generation_far_ahead(bad: bool) -> None:
    a, b = group_of("a", "b")
    a.group.protect(b"first", a.rng)
    if bad:
        secrets = a.group._state.live.secrets
        secrets.ratchets[0, 1] = (5000, secrets.ratchets[0, 1][1])
    deliver(b, a.group.protect(b"x", a.rng))


@case("MLS-V024")
def somebody_else_under_the_receivers_leaf(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, private(a, plain(a, b"x"), leaf=1 if bad else None))


@case("MLS-V025")
def an_epoch_that_is_not_kept(bad: bool) -> None:
    a, b = group_of("a", "b", policy=replace(POLICY, kept_epochs=1))
    late = a.group.protect(b"late", a.rng)
    for _ in range(2 if bad else 1):
        staged = b.group.commit(NOW, b.rng)
        b.group.merge(staged, NOW)
    assert deliver(b, late).data == b"late"


@case("MLS-V025")
def an_epoch_that_is_too_old(bad: bool) -> None:
    a, b = group_of("a", "b")
    late = a.group.protect(b"late", a.rng)
    b.group.merge(b.group.commit(NOW, b.rng), NOW - (POLICY.kept_for + 1) * bad)
    assert deliver(b, late).data == b"late"


@case("MLS-V026")
def an_epoch_to_come(bad: bool) -> None:
    a, b = group_of("a", "b")
    if bad:
        a.group.merge(a.group.commit(NOW, a.rng), NOW)
    deliver(b, a.group.protect(b"x", a.rng))


@pytest.mark.parametrize(("check_id", "each"), cases_of(__name__))
def test_messages(check_id: str, each: Case) -> None:
    judge(check_id, each)
