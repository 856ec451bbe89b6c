"""What a member does right as a sender, and how the API keeps its caller from doing wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.errors import PeerError, UsageError
from cloister.mls import (
    GREASE,
    LEFT,
    SUSPENDED,
    Add,
    ApplicationData,
    CommitOptions,
    Extension,
    Group,
    GroupContextExtensions,
    JoinOptions,
    LeafTemplate,
    PreSharedKey,
    PrivateMessage,
    PublicMessage,
    ReceivedProposal,
    ReInit,
    Remove,
    SelfRemove,
    StagedCommit,
    decode_message,
    external_senders,
    last_resort_extension,
    lifetime_from,
    make_key_package,
    required_capabilities,
    suite_of,
)
from cloister.mls.extension import DEFAULT_EXTENSIONS
from cloister.mls.proposal import DEFAULT_PROPOSALS
from cloister.mls.staged import StagedCommit as Staged
from support.mls import NOW, POLICY, SUITE, Client, agree, capabilities, group_of


def everybody_takes(clients: list[Client], message: bytes) -> None:
    for each in clients:
        each.group.process(message, NOW)


def commit_by(client: Client, others: list[Client], *proposals: object) -> StagedCommit:
    staged = client.group.commit(NOW, client.rng, proposals)
    client.group.merge(staged, NOW)
    for each in others:
        each.take(staged.message)
    return staged


# refusals


def test_nothing_is_sent_while_a_proposal_waits() -> None:
    a, b = group_of("a", "b")
    proposed = b.group.propose_update(NOW, b.rng)
    a.group.process(proposed, NOW)
    with pytest.raises(UsageError, match="pending proposals"):
        a.group.protect(b"x", a.rng)
    commit_by(a, [b])
    assert b.group.process(a.group.protect(b"x", a.rng), NOW).data == b"x"


def test_a_dropped_proposal_does_not_hold_messages_up() -> None:
    a, b = group_of("a", "b")
    received = a.group.process(b.group.propose_update(NOW, b.rng), NOW)
    assert isinstance(received, ReceivedProposal)
    a.group.drop_proposal(received.proposal.reference)
    a.group.drop_proposal(received.proposal.reference)
    assert not a.group.pending
    assert a.group.protect(b"x", a.rng)


def test_only_members_encrypt() -> None:
    a, b = group_of("a", "b")
    commit_by(a, [], Remove(1))
    staged = b.group.process
    assert a.group.members()[0][0] == 0
    with pytest.raises(PeerError):
        staged(b"", NOW)


def test_a_removed_member_can_do_nothing_more() -> None:
    a, b, c = group_of("a", "b", "c")
    staged = a.group.commit(NOW, a.rng, [Remove(1)])
    received = b.group.process(staged.message, NOW)
    assert isinstance(received, StagedCommit)
    assert received.removes_me
    with pytest.raises(UsageError, match="removed by the commit"):
        received.export("label", b"", 32)
    with pytest.raises(UsageError, match="removed by the commit"):
        assert received.epoch_authenticator
    b.group.merge(received, NOW)
    assert b.group.state == LEFT
    for attempt in (
        lambda: b.group.protect(b"x", b.rng),
        lambda: b.group.commit(NOW, b.rng),
        lambda: b.group.propose(Remove(2), NOW, b.rng),
        lambda: b.group.process(staged.message, NOW),
    ):
        with pytest.raises(UsageError):
            attempt()
    assert c.take(staged.message).removed[0][0] == 1


def test_a_group_of_another_identity_is_not_restored() -> None:
    a, b = group_of("a", "b")
    with pytest.raises(UsageError, match="identities"):
        Group.restore(a.group.changes().put, b.identity, POLICY)


def test_an_extension_that_the_creator_lacks_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        Client("a").create(extensions=(Extension(0xF123, b""),))
    assert caught.value.check == "MLS-V034"


def test_a_branch_or_reinit_needs_its_reason() -> None:
    a, _ = group_of("a", "b")
    with pytest.raises(UsageError, match="no reinitialisation"):
        a.group.reinitialise([], a.identity, NOW, a.rng)


def test_an_external_sender_cannot_propose_everything() -> None:
    from cloister.mls import external_proposal

    a = Client("a")
    with pytest.raises(UsageError):
        external_proposal(SUITE, a.identity.key, 0, b"room", 0, SelfRemove())


def test_a_key_package_of_another_identity_is_a_usage_error() -> None:
    a, _ = group_of("a", "b")
    joiner, other = Client("c"), Client("d")
    own = joiner.package()
    staged = a.group.commit(NOW, a.rng, [Add(own.package)])
    with pytest.raises(UsageError, match="not this identity's"):
        Group.join(own, other.identity, staged.welcome or b"", POLICY, NOW)


def test_an_identity_that_another_member_has_is_refused_at_once() -> None:
    a, b = group_of("a", "b", policy=replace(POLICY, successor=lambda old, new: True))
    with pytest.raises(UsageError, match="MLS-V040"):
        a.group.commit(NOW, a.rng, options=CommitOptions(identity=b.identity))


def test_a_new_identity_makes_a_path_even_where_none_was_wanted() -> None:
    a, b = group_of("a", "b", policy=replace(POLICY, successor=lambda old, new: True))
    renamed, joiner = Client("renamed").identity, Client("c")
    options = CommitOptions(identity=renamed, path=False)
    staged = a.group.commit(NOW, a.rng, [Add(joiner.package().package)], options)
    assert staged.has_path
    a.group.merge(staged, NOW)
    b.take(staged.message)
    assert b.group.process(a.group.protect(b"x", a.rng), NOW).data == b"x"


def test_members_that_are_not_there_are_usage_errors() -> None:
    a, _ = group_of("a", "b")
    with pytest.raises(UsageError, match="no member"):
        a.group._epoch.leaf(9)


# secrets


def test_secrets_are_not_printed() -> None:
    a, b = group_of("a", "b")
    epoch = a.group._epoch
    own = b.package()
    for each in (epoch.secrets, own, epoch.private_keys[0], a.identity.key):
        text = repr(each)
        assert text.startswith("<")
        assert len(text) < 40
    staged = a.group.commit(NOW, a.rng)
    assert "Epoch" not in repr(staged)
    assert epoch.secrets.init_secret.hex() not in repr(epoch)


# sending


def test_messages_are_padded_to_the_policys_size() -> None:
    a, b = group_of("a", "b", policy=replace(POLICY, pad_to=256))
    sizes = set()
    for size in (0, 1, 100):
        message = a.group.protect(bytes(size), a.rng)
        decoded = decode_message(message)
        assert isinstance(decoded, PrivateMessage)
        sizes.add(len(decoded.ciphertext))
        assert b.group.process(message, NOW).data == bytes(size)
    assert sizes == {256 + 16}


def test_each_message_draws_a_fresh_reuse_guard() -> None:
    a, _ = group_of("a", "b")
    drawn = []

    def rng(size: int) -> bytes:
        drawn.append(size)
        return bytes(size)

    a.group.protect(b"x", rng)
    a.group.protect(b"x", rng)
    assert drawn == [4, 4]


def test_default_types_are_not_listed() -> None:
    listed = capabilities()
    assert not set(listed.extensions) & DEFAULT_EXTENSIONS
    assert not set(listed.proposals) & DEFAULT_PROPOSALS
    assert set(listed.cipher_suites) == set(range(1, 8))
    assert listed.credentials == (1, 2)


def test_grease_is_ignored_everywhere() -> None:
    rng = Client("grease").rng
    greasy = capabilities().greased(rng)
    assert set(greasy.extensions) <= set(GREASE)
    kind = greasy.extensions[0]
    a, b = Client("a"), Client("b", capabilities=greasy)
    template = LeafTemplate(
        credential=b.identity.template.credential,
        capabilities=greasy,
        extensions=(Extension(kind, b"leaf"),),
    )
    own = make_key_package(SUITE, b.identity.key, template, lifetime_from(NOW), b.rng, (Extension(kind, b"package"),))
    a.create()
    options = CommitOptions(group_info_extensions=(Extension(kind, b"info"),), group_info=True)
    staged = a.group.commit(NOW, a.rng, [Add(own.package)], options)
    a.group.merge(staged, NOW)
    b.join(own, staged.welcome or b"")
    agree([a, b])
    assert decode_message(staged.group_info).extensions[0].data == b"info"
    with pytest.raises(UsageError, match="MLS-V074"):
        b.group.commit(NOW, b.rng, [GroupContextExtensions((Extension(kind, b""),))])


def test_a_commit_changes_nothing_until_it_is_merged() -> None:
    a, b = group_of("a", "b")
    before = (a.group.epoch, a.group.epoch_authenticator, a.group.ratchet_tree())
    staged = a.group.commit(NOW, a.rng, [Add(Client("c").package().package)])
    received = b.group.process(staged.message, NOW)
    assert before == (a.group.epoch, a.group.epoch_authenticator, a.group.ratchet_tree())
    assert before == (b.group.epoch, b.group.epoch_authenticator, b.group.ratchet_tree())
    assert isinstance(received, StagedCommit)
    assert [leaf.credential.identity for _, leaf in received.added] == [b"c"]
    assert received.committer == 0
    assert received.epoch == 2
    assert received.export("label", b"", 32) == staged.export("label", b"", 32)
    assert received.epoch_authenticator == staged.epoch_authenticator
    a.group.discard(staged)
    a.group.discard(staged)
    other = a.group.commit(NOW, a.rng)
    a.group.merge(other, NOW)
    assert b.take(other.message).added == ()
    agree([a, b])


def test_ones_own_messages_come_back_as_what_they_were() -> None:
    a, b = group_of("a", "b")
    proposed = a.group.propose_update(NOW, a.rng)
    echo = a.group.process(proposed, NOW)
    assert isinstance(echo, ReceivedProposal)
    b.group.process(proposed, NOW)
    staged = b.group.commit(NOW, b.rng)
    assert b.group.process(staged.message, NOW) is staged
    b.group.merge(staged, NOW)
    taken = a.take(staged.message)
    assert [index for index, _ in taken.updated] == [0]
    agree([a, b])
    commit_by(a, [b])
    agree([a, b])


def test_an_update_may_bring_a_new_identity() -> None:
    allows = replace(POLICY, successor=lambda old, new: True)
    a, b, c = group_of("a", "b", "c", policy=allows)
    renamed = Client("renamed").identity
    everybody_takes([a, c], b.group.propose_update(NOW, b.rng, renamed))
    commit_by(a, [b, c])
    agree([a, b, c])
    assert c.group.process(b.group.protect(b"x", b.rng), NOW).data == b"x"


def test_public_handshakes_where_the_policy_wants_them() -> None:
    a, b = group_of("a", "b", policy=replace(POLICY, private_handshake=False))
    message = b.group.propose_update(NOW, b.rng)
    assert isinstance(decode_message(message), PublicMessage)
    a.group.process(message, NOW)
    staged = commit_by(a, [b])
    assert isinstance(decode_message(staged.message), PublicMessage)
    agree([a, b])


def test_late_messages_open_in_their_epoch_and_once() -> None:
    a, b = group_of("a", "b")
    first, second, third = (a.group.protect(bytes((n,)), a.rng) for n in range(3))
    assert b.group.process(third, NOW).data == b"\2"
    commit_by(b, [a])
    late = b.group.process(first, NOW)
    assert isinstance(late, ApplicationData)
    assert (late.epoch, late.data, late.sender) == (1, b"\0", 0)
    assert b.group.process(second, NOW).data == b"\1"
    for again in (first, second, third):
        with pytest.raises(PeerError) as caught:
            b.group.process(again, NOW)
        assert caught.value.check == "MLS-V022"


def test_authenticated_data_arrive_with_message_proposal_and_commit() -> None:
    a, b = group_of("a", "b")
    assert b.group.process(a.group.protect(b"x", a.rng, b"ad"), NOW).authenticated_data == b"ad"
    message = a.group.propose(Remove(1), NOW, a.rng, b"ad", public=True)
    assert b.group.process(message, NOW).authenticated_data == b"ad"
    staged = a.group.commit(NOW, a.rng, options=CommitOptions(authenticated_data=b"ad"))
    received = b.group.process(staged.message, NOW)
    assert isinstance(received, Staged)
    assert received.authenticated_data == b"ad"


def test_the_selection_prefers_removals_and_leaves_a_reinit_for_later() -> None:
    a, b, c, d = group_of("a", "b", "c", "d")
    reinit = d.group.propose(ReInit(b"next", 1, 1, ()), NOW, d.rng)
    update = c.group.propose_update(NOW, c.rng)
    mine = b.group.propose(Remove(0), NOW, b.rng)
    for message, sender in ((reinit, d), (update, c), (mine, b)):
        everybody_takes([each for each in (a, b, c, d) if each is not sender], message)
    removal = b.group.propose(Remove(2), NOW, b.rng)
    everybody_takes([a, c, d], removal)
    staged = commit_by(a, [b, d])
    assert [each.proposal for each in staged.proposals] == [Remove(2)]
    assert c.group.process(staged.message, NOW).removes_me
    agree([a, b, d])


# pre-shared keys and groups that follow


def test_psk_nonces_are_fresh() -> None:
    a, _ = group_of("a", "b")
    one, other = (a.group.new_psk_id(a.rng, key_id=b"k") for _ in range(2))
    assert one.nonce != other.nonce
    assert len(one.nonce) == 32


def test_members_and_joiners_use_the_same_psks() -> None:
    a, b, c = group_of("a", "b", "c")
    commit_by(a, [b, c])
    keys = {b"one": b"1" * 32, b"two": b"2" * 32}

    def lookup(psk: object) -> bytes | None:
        return keys.get(psk.key_id)

    ids = [a.group.new_psk_id(a.rng, key_id=name) for name in (b"two", b"one")]
    resumed = a.group.new_psk_id(a.rng, epoch=1)
    joiner = Client("d")
    own = joiner.package()
    proposals = [*(PreSharedKey(each) for each in ids), Add(own.package)]
    staged = a.group.commit(NOW, a.rng, proposals, CommitOptions(path=False), lookup)
    a.group.merge(staged, NOW)
    for each in (b, c):
        received = each.group.process(staged.message, NOW, lookup)
        assert isinstance(received, StagedCommit)
        assert not received.has_path
        each.group.merge(received, NOW)
    joiner.group = Group.join(own, joiner.identity, staged.welcome or b"", POLICY, NOW, lookup)
    agree([a, b, c, joiner])
    staged = a.group.commit(NOW, a.rng, [PreSharedKey(resumed)])
    a.group.merge(staged, NOW)
    b.take(staged.message)
    with pytest.raises(PeerError) as caught:
        joiner.group.process(staged.message, NOW)
    assert caught.value.check == "MLS-V079"
    agree([a, b])


def reinitialised(suite: int) -> None:
    a, b, c = group_of("a", "b", "c")
    agreed = ReInit(b"next", 1, suite, (Extension(1, b"new"),))
    commit_by(a, [b, c], agreed)
    assert a.group.state == SUSPENDED
    with pytest.raises(UsageError, match="reinitialised"):
        b.group.protect(b"x", b.rng)
    fresh = [Client(each.name, suite_of(suite)) for each in (a, b, c)]
    packages = [each.package() for each in fresh[1:]]
    group, staged = a.group.reinitialise([each.package for each in packages], fresh[0].identity, NOW, a.rng)
    group.merge(staged, NOW)
    fresh[0].group = group
    for old, new, own in zip((b, c), fresh[1:], packages, strict=True):
        new.group = Group.join(
            own,
            new.identity,
            staged.welcome or b"",
            POLICY,
            NOW,
            old.group.resumption_psk,
            JoinOptions(origin=old.group.origin()),
        )
    agree(fresh)
    assert group.group_id == b"next"
    assert group.suite.suite_id == suite
    assert group.extensions == agreed.extensions


def test_a_group_is_reinitialised() -> None:
    reinitialised(1)
    reinitialised(3)


def test_a_group_has_a_branch() -> None:
    a, b, _ = group_of("a", "b", "c")
    own = b.package()
    group, staged = a.group.branch(b"branch", [own.package], NOW, a.rng)
    group.merge(staged, NOW)
    options = JoinOptions(origin=b.group.origin())
    joined = Group.join(own, b.identity, staged.welcome or b"", POLICY, NOW, b.group.resumption_psk, options)
    assert joined.epoch_authenticator == group.epoch_authenticator
    assert joined.own_leaf == 1


# joining


def test_trees_may_travel_beside_welcome_and_group_info() -> None:
    a, b = group_of("a", "b")
    joiner = Client("c")
    own = joiner.package()
    staged = a.group.commit(NOW, a.rng, [Add(own.package)], CommitOptions(with_tree=False))
    coming = staged.export("x", b"y", 32)
    options = JoinOptions(tree=staged.ratchet_tree())
    a.group.merge(staged, NOW)
    assert options.tree == a.group.ratchet_tree()
    b.take(staged.message)
    opened = Group.open_welcome(own, staged.welcome or b"")
    assert (opened.group_id, opened.export("x", b"y", 32)) == (a.group.group_id, coming)
    assert coming.hex() not in repr(opened)
    with pytest.raises(PeerError) as caught:
        Group.join(own, joiner.identity, staged.welcome or b"", POLICY, NOW)
    assert caught.value.check == "MLS-V121"
    joiner.group = Group.join(own, joiner.identity, staged.welcome or b"", POLICY, NOW, options=options)
    agree([a, b, joiner])
    other = Client("d")
    info = a.group.group_info(with_tree=False)
    other.group, message = Group.join_external(other.identity, info, POLICY, NOW, other.rng, options=options)
    for each in (a, b, joiner):
        each.take(message)
    agree([a, b, joiner, other])


def test_a_lost_device_comes_back_in_its_place() -> None:
    a, b, c = group_of("a", "b", "c")
    again = Client("b")
    again.group, message = Group.join_external(again.identity, a.group.group_info(), POLICY, NOW, again.rng, resync=1)
    for each in (a, c):
        staged = each.take(message)
        assert [index for index, _ in staged.removed] == [1]
    agree([a, c, again])
    assert b.group.process(message, NOW).removes_me
    commit_by(again, [a, c])
    agree([a, c, again])


def test_an_external_join_with_a_psk() -> None:
    a, b = group_of("a", "b")
    joiner = Client("c")
    psk = a.group.new_psk_id(joiner.rng, key_id=b"k")
    joiner.group, message = Group.join_external(
        joiner.identity, a.group.group_info(), POLICY, NOW, joiner.rng, lambda _: b"key", psks=(psk,)
    )
    for each in (a, b):
        staged = each.group.process(message, NOW, lambda _: b"key")
        assert isinstance(staged, StagedCommit)
        each.group.merge(staged, NOW)
    agree([a, b, joiner])


def test_a_key_package_of_last_resort_says_so() -> None:
    listed = capabilities(extensions=(last_resort_extension().extension_type,))
    a = Client("a", capabilities=listed)
    package = make_key_package(
        SUITE, a.identity.key, a.identity.template, lifetime_from(NOW), a.rng, (last_resort_extension(),)
    )
    assert package.package.last_resort
    assert not a.package().package.last_resort
    assert type(package).decode(package.encode()).package == package.package


def test_extensions_of_the_group_are_readable() -> None:
    a, _ = group_of("a", "b")
    assert external_senders(a.group.extensions) == ()
    assert required_capabilities(a.group.extensions) is None
    exported = a.group.export("label", b"context", 48)
    assert len(exported) == 48
