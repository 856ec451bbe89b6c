"""What is refused of lists of proposals, by value and by reference, in commits of members and of joiners."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from cloister.mls import (
    SUSPENDED,
    Add,
    Extension,
    ExternalInit,
    Group,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    ReInit,
    Remove,
    RequiredCapabilities,
    Sender,
    SentProposal,
    StagedCommit,
    Update,
)
from cloister.mls.commit import Commit
from cloister.mls.framing import NEW_MEMBER_COMMIT
from cloister.mls.leaf_node import SOURCE_UPDATE, LeafPlace, make_leaf
from cloister.mls.proposal import Reference, SelfRemove
from support.mls import NOW, POLICY, Client, capabilities, group_of
from support.mls_evil import Case, case, cases_of, commit_of, deliver, evil, framed, judge, patched, public, sent

NONCE = bytes(32)


def commit(bad: bool, wrong: list[Proposal], right: list[Proposal], *names: str) -> None:
    """The second member's verdict on the first one's commit of these proposals by value."""
    a, b, *_ = group_of("a", "b", *names)
    chosen = wrong if bad else right
    deliver(b, commit_of(a, *(sent(a, each) for each in chosen), bad=bad).message)


def by_reference(a: Client, b: Client, proposal: Proposal, *, public: bool = False) -> SentProposal:
    """A proposal that `a` sent and `b` accepted."""
    with evil():
        message = a.group.propose(proposal, NOW, a.rng, public=public)
        b.group.process(message, NOW)
    return a.group.pending[-1]


def update_of(client: Client) -> Update:
    place = LeafPlace(source=SOURCE_UPDATE, group_id=b"room", leaf_index=client.group.own_leaf)
    key = client.suite.derive_key_pair(client.rng(66)).public
    return Update(make_leaf(client.suite, client.identity.key, client.identity.template, key, place))


@case("MLS-V060")
def a_reference_to_nothing(bad: bool) -> None:
    a, b, c = group_of("a", "b", "c")
    message = c.group.propose_update(NOW, c.rng)
    deliver(a, message)
    if not bad:
        deliver(b, message)
    deliver(b, a.group.commit(NOW, a.rng).message)


@case("MLS-V061")
def a_committer_that_updates_itself(bad: bool) -> None:
    a, b, c = group_of("a", "b", "c")
    who = a if bad else c
    proposal = by_reference(who, b, update_of(who))
    with evil(bad):
        a.group._state.add_proposal(proposal)
    deliver(b, commit_of(a, proposal, bad=bad).message)


@case("MLS-V062")
def a_committer_that_removes_itself(bad: bool) -> None:
    commit(bad, [Remove(0)], [Remove(2)], "c")


@case("MLS-V062")
def a_committer_that_takes_up_its_own_self_remove(bad: bool) -> None:
    a, b, c = group_of("a", "b", "c")
    who = a if bad else c
    proposal = by_reference(who, b, SelfRemove())
    deliver(b, commit_of(a, proposal, bad=bad).message)


@case("MLS-V063")
def a_leaf_removed_twice(bad: bool) -> None:
    commit(bad, [Remove(2), Remove(2)], [Remove(2), Remove(3)], "c", "d")


@case("MLS-V063")
def a_leaf_updated_and_removed(bad: bool) -> None:
    a, b, c, _ = group_of("a", "b", "c", "d")
    update = by_reference(c, b, update_of(c))
    by_hand = Commit((Reference(update.reference), Remove(2)), None)
    if bad:
        deliver(b, public(a, framed(a, by_hand), confirmation_tag=bytes(32)))
    else:
        deliver(b, commit_of(a, update, sent(a, Remove(3))).message)


@case("MLS-V064")
def a_blank_leaf_removed(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    by_hand = public(a, framed(a, Commit((Remove(3),), None)), confirmation_tag=bytes(32))
    deliver(b, by_hand if bad else commit_of(a, sent(a, Remove(2))).message)


@case("MLS-V064")
def a_blank_leaf_proposed_for_removal(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    deliver(b, public(a, framed(a, Remove(77 if bad else 2))))


@case("MLS-V065")
def one_client_added_twice(bad: bool) -> None:
    c, d = Client("c"), Client("d")
    packages = [c.package().package, (c if bad else d).package().package]
    commit(True, [Add(each) for each in packages], [])


@case("MLS-V065")
def a_member_added_again(bad: bool) -> None:
    c = Client("c" if bad else "e")
    commit(True, [Add(c.package().package)], [], "c")


def test_a_member_may_be_added_again_when_it_is_removed_in_the_same_commit() -> None:
    a, b, c = group_of("a", "b", "c")
    own = c.package()
    staged = a.group.commit(NOW, a.rng, [Remove(2), Add(own.package)])
    a.group.merge(staged, NOW)
    b.take(staged.message)
    c.join(own, staged.welcome or b"")
    assert c.group.epoch_authenticator == a.group.epoch_authenticator == b.group.epoch_authenticator


def external_psk(name: bytes, nonce: bytes = NONCE) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyId(kind=1, key_id=name, nonce=nonce))


def with_psks(bad: bool, wrong: list[Proposal], right: list[Proposal]) -> None:
    a, b = group_of("a", "b")
    chosen = wrong if bad else right
    with patched(True, "committing.look_up_psks", lambda lookup, ids: tuple((each, b"key") for each in ids)):
        message = commit_of(a, *(sent(a, each) for each in chosen), bad=bad).message
    deliver(b, message, lookup=lambda psk: b"key")


@case("MLS-V066")
def a_key_named_twice(bad: bool) -> None:
    with_psks(bad, [external_psk(b"k"), external_psk(b"k")], [external_psk(b"k"), external_psk(b"l")])


def resumption(usage: int, nonce: bytes = NONCE) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyId(kind=2, usage=usage, group_id=b"room", epoch=1, nonce=nonce))


@case("MLS-V067")
def a_key_for_reinit_in_a_living_group(bad: bool) -> None:
    commit(bad, [resumption(2)], [resumption(1)])


@case("MLS-V067")
def a_key_for_branches_in_a_living_group(bad: bool) -> None:
    commit(bad, [resumption(3)], [resumption(1)])


@case("MLS-V068")
def a_short_nonce(bad: bool) -> None:
    with_psks(bad, [external_psk(b"k", bytes(31))], [external_psk(b"k")])


@case("MLS-V069")
def two_group_context_extensions(bad: bool) -> None:
    proposal = GroupContextExtensions((Extension(1, b""),))
    commit(bad, [proposal, GroupContextExtensions(())], [proposal])


REINIT = ReInit(b"next", 1, 1, ())


@case("MLS-V070")
def a_reinit_in_company(bad: bool) -> None:
    commit(bad, [REINIT, Remove(2)], [REINIT], "c")


@case("MLS-V071")
def a_reinit_to_an_older_version(bad: bool) -> None:
    commit(bad, [replace(REINIT, version=0)], [REINIT])


@case("MLS-V072")
def an_external_init_by_a_member(bad: bool) -> None:
    commit(bad, [ExternalInit(bytes(32))], [Remove(2)], "c")


@case("MLS-V073")
def a_self_remove_that_not_all_support(bad: bool) -> None:
    a, b = Client("a"), Client("b", capabilities=capabilities(proposals=()) if bad else None)
    c = Client("c")
    a.create()
    a.add(b, c)
    with evil():
        message = c.group.propose(SelfRemove(), NOW, c.rng)
    deliver(a, message)


@case("MLS-V073")
def a_proposal_of_an_unknown_type(bad: bool) -> None:
    from cloister.codec.tls import decode
    from cloister.mls.proposal import read_proposal

    decode(read_proposal, b"\x0a\x0a" if bad else b"\0\x0a")


@case("MLS-V074")
def an_extension_that_not_all_support(bad: bool) -> None:
    listed = capabilities(extensions=(0xF123,))
    a, b = Client("a", capabilities=listed), Client("b", capabilities=None if bad else listed)
    a.create()
    a.add(b)
    proposal = GroupContextExtensions((Extension(0xF123, b""),))
    deliver(b, commit_of(a, sent(a, proposal), bad=bad).message)


@case("MLS-V074")
def a_required_proposal_that_not_all_support(bad: bool) -> None:
    a, b = Client("a"), Client("b", capabilities=capabilities(proposals=()) if bad else None)
    a.create()
    a.add(b)
    proposal = GroupContextExtensions((RequiredCapabilities(proposals=(0x000A,)).extension(),))
    deliver(b, commit_of(a, sent(a, proposal), bad=bad).message)


# external commits


def external_commit(group: Client, joiner: Client, bad: bool, rewrite: Any, **arguments: Any) -> bytes:
    """A joiner's commit whose list of proposals `rewrite` replaces before it is signed."""
    from cloister.mls import joining

    def made(proposals: tuple[Any, ...], path: Any) -> Commit:
        return Commit(rewrite(proposals), path)

    with evil(bad), mock.patch.object(joining, "Commit", made if bad else Commit):
        _, message = Group.join_external(
            joiner.identity, group.group.group_info(), POLICY, NOW, joiner.rng, **arguments
        )
    return message


@case("MLS-V075")
def an_external_commit_without_external_init(bad: bool) -> None:
    a, _ = group_of("a", "b")
    deliver(a, external_commit(a, Client("c"), bad, lambda proposals: ()))


@case("MLS-V075")
def an_external_commit_with_two_external_inits(bad: bool) -> None:
    a, _ = group_of("a", "b")
    deliver(a, external_commit(a, Client("c"), bad, lambda proposals: proposals * 2))


@case("MLS-V076")
def an_external_commit_that_removes_two(bad: bool) -> None:
    a, *_ = group_of("a", "b", "c", "d")
    message = external_commit(a, Client("c"), bad, lambda proposals: (*proposals, Remove(3)), resync=2)
    deliver(a, message)


@case("MLS-V077")
def an_external_commit_that_adds(bad: bool) -> None:
    a, _ = group_of("a", "b")
    other = Add(Client("d").package().package)
    deliver(a, external_commit(a, Client("c"), bad, lambda proposals: (*proposals, other)))


@case("MLS-V078")
def an_external_commit_that_refers_to_a_proposal(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    known = by_reference(b, a, Remove(2))
    reference = Reference(known.reference)
    deliver(a, external_commit(a, Client("d"), bad, lambda proposals: (*proposals, reference)))


@case("MLS-V079")
def a_key_that_is_not_at_hand(bad: bool) -> None:
    a, b = group_of("a", "b")
    with patched(True, "committing.look_up_psks", lambda lookup, ids: tuple((each, b"key") for each in ids)):
        message = commit_of(a, sent(a, external_psk(b"k")), bad=False).message
    deliver(b, message, lookup=lambda psk: None if bad else b"key")


@case("MLS-V080")
def a_commit_that_the_application_refuses(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")

    def accept(committer: Sender, proposals: tuple[SentProposal, ...]) -> bool:
        return not (bad and any(isinstance(each.proposal, Remove) for each in proposals))

    b.group.policy = replace(POLICY, accept=accept)
    deliver(b, commit_of(a, sent(a, Remove(2))).message)


@case("MLS-V080")
def a_stranger_that_proposes_itself(bad: bool) -> None:
    from cloister.mls import Policy, join_proposal

    a, _ = group_of("a", "b")
    if bad:
        a.group.policy = Policy(validate=lambda credential, key, now: True)
    joiner = Client("c")
    deliver(a, join_proposal(a.suite, joiner.identity.key, b"room", 1, joiner.package().package))


@case("MLS-V085")
def one_proposal_too_many(bad: bool) -> None:
    from cloister.mls import proposal_list

    a, b, _ = group_of("a", "b", "c")
    with mock.patch.object(proposal_list, "MAX_PENDING", 1 if bad else 2):
        for index in (2, 1):
            deliver(b, public(a, framed(a, Remove(index))))


@case("MLS-V081")
def a_self_remove_by_value(bad: bool) -> None:
    a, b, c = group_of("a", "b", "c")
    known = by_reference(c, b, SelfRemove())
    by_value = SentProposal(sender=known.sender, proposal=known.proposal)
    chosen = by_value if bad else known
    with patched(bad, "self_remove.removed_leaf", lambda proposal: proposal.sender.index):
        message = commit_of(a, chosen, bad=bad).message
    deliver(b, message)


@case("MLS-V081")
def an_encrypted_self_remove(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    content, message = b.group._send(SelfRemove(), b.rng, b"", public=not bad)
    assert content.content.sender.index == 1
    deliver(a, message)


@case("MLS-V082")
def required_capabilities_that_do_not_parse(bad: bool) -> None:
    broken = GroupContextExtensions((Extension(3, b"\x09"),))
    a, b = group_of("a", "b")
    deliver(b, public(a, framed(a, broken if bad else GroupContextExtensions(()))))


@case("MLS-V082")
def external_senders_that_do_not_parse(bad: bool) -> None:
    broken = GroupContextExtensions((Extension(5, b"\x09"),))
    a, b = group_of("a", "b")
    deliver(b, public(a, framed(a, broken if bad else GroupContextExtensions(()))))


@case("MLS-V083")
def an_encapsulation_that_is_none(bad: bool) -> None:
    a, _ = group_of("a", "b")
    wrong = ExternalInit(bytes(31))
    deliver(a, external_commit(a, Client("c"), bad, lambda proposals: (wrong, *proposals[1:])))


@case("MLS-V083")
def an_encapsulation_of_small_order(bad: bool) -> None:
    a, _ = group_of("a", "b")
    wrong = ExternalInit(bytes(32))
    deliver(a, external_commit(a, Client("c"), bad, lambda proposals: (wrong, *proposals[1:])))


@case("MLS-V084")
def an_update_by_a_joiner(bad: bool) -> None:
    a, b = group_of("a", "b")
    update = update_of(b)
    deliver(a, external_commit(a, Client("c"), bad, lambda proposals: (*proposals, update)))


@case("MLS-V098")
def a_proposal_after_a_reinit(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    if bad:
        staged = a.group.commit(NOW, a.rng, [REINIT])
        a.group.merge(staged, NOW)
        b.take(staged.message)
        assert b.group.state == SUSPENDED
    deliver(b, public(a, framed(a, Remove(2))))


@pytest.mark.parametrize(("check_id", "each"), cases_of(__name__))
def test_proposals(check_id: str, each: Case) -> None:
    judge(check_id, each)


def test_an_external_commit_takes_up_self_removes() -> None:
    from cloister.mls import decode_message, read_self_remove

    a, b, c = group_of("a", "b", "c")
    leaving = c.group.propose(SelfRemove(), NOW, c.rng)
    for each in (a, b):
        deliver(each, leaving)
    info = decode_message(a.group.group_info())
    taken = read_self_remove(info.tree(None), info.context, leaving)
    joiner = Client("d")
    joiner.group, message = Group.join_external(
        joiner.identity, a.group.group_info(), POLICY, NOW, joiner.rng, self_removes=(taken,)
    )
    staged = a.group.process(message, NOW)
    assert isinstance(staged, StagedCommit)
    assert [index for index, _ in staged.removed] == [2]
    assert staged.sender == Sender(NEW_MEMBER_COMMIT)
    assert staged.committer == 2
    for each in (a, b):
        each.take(message)
    assert a.group.epoch_authenticator == b.group.epoch_authenticator == joiner.group.epoch_authenticator
    assert c.group.process(message, NOW).removes_me
