"""What a joiner refuses of Welcomes, GroupInfos and trees, and what it refuses of groups that follow from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from cloister.codec.tls import Reader, opaque
from cloister.errors import PeerError
from cloister.mls import (
    Add,
    CommitOptions,
    Extension,
    Group,
    JoinOptions,
    KeyPackageSecrets,
    PreSharedKey,
    PreSharedKeyId,
    ReInit,
    Remove,
    Welcome,
    committing,
    decode_message,
    encode_message,
    suite_of,
)
from cloister.mls.group_info import GroupInfo
from cloister.mls.psk import APPLICATION, BRANCH, REINIT
from cloister.mls.ratchet_tree import ParentNode, RatchetTree
from cloister.mls.tree_hash import path_hashes
from support.mls import NOW, POLICY, Client, capabilities, group_of
from support.mls_evil import Case, case, cases_of, evil, judge, patched

Mutate = Callable[[RatchetTree], None]
PATHLESS = CommitOptions(path=False)


def warm() -> list[Client]:
    """Four members; the tree has parents everywhere."""
    clients = group_of(*"abcd")
    for each in clients:
        staged = each.group.commit(NOW, each.rng)
        each.group.merge(staged, NOW)
        for other in clients:
            if other is not each:
                other.take(staged.message)
    return clients


def tree_beside(bad: bool, rewrite: Callable[[bytes], bytes]) -> None:
    """Join with a tree that came beside the Welcome and was altered on the way."""
    a, *_ = warm()
    joiner = Client("e")
    own = joiner.package()
    options = CommitOptions(with_tree=False, path=False)
    staged = a.group.commit(NOW, a.rng, [Add(own.package)], options)
    tree = staged.pending.tree.encode()
    inner = Reader(tree).opaque()
    beside = opaque(rewrite(inner)) if bad else tree
    assert staged.welcome
    Group.join(own, joiner.identity, staged.welcome, POLICY, NOW, options=JoinOptions(tree=beside))


def joined(bad: bool, mutate: Mutate) -> None:
    """Join a group whose committer put another tree into Welcome and tree hash."""
    a, *_ = warm()
    joiner = Client("e")
    own = joiner.package()
    change_tree = committing.proposal_list.change_tree

    def changed(tree: RatchetTree, proposals: Any) -> tuple[int, ...]:
        added = change_tree(tree, proposals)
        mutate(tree)
        tree.hashes = [None] * len(tree.hashes)
        return added

    with evil(bad), patched(bad, "proposal_list.change_tree", changed):
        staged = a.group.commit(NOW, a.rng, [Add(own.package)], PATHLESS)
    joiner.join(own, staged.welcome or b"")


@case("MLS-V005")
def unmerged_leaves_out_of_order(bad: bool) -> None:
    joined(bad, lambda tree: tree.set_parent(1, ParentNode(b"k" * 32, b"", (1, 0))))


@case("MLS-V006")
def a_tree_with_a_blank_end(bad: bool) -> None:
    tree_beside(bad, lambda inner: inner + b"\0")


@case("MLS-V006")
def a_tree_of_nothing(bad: bool) -> None:
    tree_beside(bad, lambda inner: b"")


@case("MLS-V007")
def a_tree_that_begins_with_a_parent(bad: bool) -> None:
    tree_beside(bad, lambda inner: b"\1\2\0\0\0")


@case("MLS-V003")
def a_tree_with_a_node_of_no_kind(bad: bool) -> None:
    tree_beside(bad, lambda inner: b"\1\3")


@case("MLS-V040")
def a_tree_with_a_signature_key_twice(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        tree.nodes[2] = tree.nodes[0]

    joined(bad, mutate)


@case("MLS-V041")
def a_tree_with_an_encryption_key_twice(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        leaf = tree.leaf(0)
        assert leaf
        tree.nodes[1] = ParentNode(leaf.encryption_key, b"", ())

    joined(bad, mutate)


@case("MLS-V030")
def a_tree_with_a_leaf_in_another_place(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        tree.nodes[0], tree.nodes[2] = tree.nodes[2], tree.nodes[0]
        for node in range(1, len(tree.nodes), 2):
            tree.nodes[node] = None

    joined(bad, mutate)


@case("MLS-V100")
def a_foreign_tree(bad: bool) -> None:
    other = group_of("x", "y")[0]
    tree_beside(bad, lambda inner: Reader(other.group.ratchet_tree()).opaque())


@case("MLS-V101")
def a_parent_that_nobody_vouches_for(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        old = tree.parent(1)
        assert old
        key = tree.suite.derive_key_pair(bytes(32)).public
        tree.nodes[1] = ParentNode(key, old.parent_hash, ())

    joined(bad, mutate)


@case("MLS-V101")
def a_committer_with_a_wrong_parent_hash(bad: bool) -> None:
    a, *_ = warm()
    joiner = Client("e")
    own = joiner.package()
    with patched(bad, "tree_hash.path_hashes", lambda *args: (path_hashes(*args)[0], bytes(32))):
        staged = a.group.commit(NOW, a.rng, [Add(own.package)])
    joiner.join(own, staged.welcome or b"")


@case("MLS-V123")
def a_parent_with_a_key_that_is_none(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        tree.nodes[1] = ParentNode(b"short", b"", ())

    joined(bad, mutate)


@case("MLS-V122")
def a_tree_beyond_the_limit(bad: bool) -> None:
    from cloister.mls import ratchet_tree

    a, *_ = warm()
    joiner = Client("e")
    own, welcome = welcome_of(a, joiner)
    with mock.patch.object(ratchet_tree, "MAX_LEAVES", 4 if bad else 8):
        joiner.join(own, welcome)


@case("MLS-V102")
def an_unmerged_leaf_elsewhere(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        old = tree.parent(1)
        assert old
        tree.nodes[1] = ParentNode(old.encryption_key, old.parent_hash, (3,))

    joined(bad, mutate)


@case("MLS-V102")
def an_unmerged_leaf_that_is_blank(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        old = tree.parent(7) or ParentNode(b"k" * 32, b"", ())
        tree.nodes[7] = ParentNode(old.encryption_key, old.parent_hash, (4, 6))

    joined(bad, mutate)


@case("MLS-V103")
def an_unmerged_leaf_that_a_parent_between_does_not_know(bad: bool) -> None:
    def mutate(tree: RatchetTree) -> None:
        old = tree.parent(3)
        assert old
        tree.nodes[3] = ParentNode(old.encryption_key, old.parent_hash, (1,))

    joined(bad, mutate)


def with_info(bad: bool, rewrite: Callable[[GroupInfo], GroupInfo]) -> None:
    """Join by a Welcome whose GroupInfo is rewritten before it is sealed."""
    a, *_ = group_of("a", "b")
    joiner = Client("e")
    own = joiner.package()
    signed = GroupInfo.signed

    def made(info: GroupInfo, suite: Any, key: Any) -> GroupInfo:
        return rewrite(signed(info, suite, key))

    with mock.patch.object(GroupInfo, "signed", made if bad else signed):
        staged = a.group.commit(NOW, a.rng, [Add(own.package)])
    joiner.join(own, staged.welcome or b"")


@case("MLS-V104")
def a_group_info_with_an_altered_signature(bad: bool) -> None:
    with_info(bad, lambda info: replace(info, signature=bytes(64)))


@case("MLS-V104")
def a_group_info_in_another_members_name(bad: bool) -> None:
    with_info(bad, lambda info: replace(info, signer=1))


@case("MLS-V104")
def a_group_info_for_joiners_with_an_altered_signature(bad: bool) -> None:
    a, _ = group_of("a", "b")
    info = a.group.group_info()
    joiner = Client("e")
    altered = info[:-1] + bytes((info[-1] ^ bad,))
    Group.join_external(joiner.identity, altered, POLICY, NOW, joiner.rng)


@case("MLS-V105")
def a_group_info_by_nobody(bad: bool) -> None:
    with_info(bad, lambda info: replace(info, signer=9))


def welcome_of(a: Client, joiner: Client) -> tuple[KeyPackageSecrets, bytes]:
    own = joiner.package()
    staged = a.group.commit(NOW, a.rng, [Add(own.package)])
    return own, staged.welcome or b""


@case("MLS-V106")
def a_group_that_the_client_is_in(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    own, welcome = welcome_of(a, joiner)
    options = JoinOptions(known=lambda group_id: bad and group_id == b"room")
    Group.join(own, joiner.identity, welcome, POLICY, NOW, options=options)


@case("MLS-V107")
def a_group_with_an_extension_the_joiner_lacks(bad: bool) -> None:
    listed = capabilities(extensions=(0xF123,))
    a = Client("a", capabilities=listed)
    a.create(extensions=(Extension(0xF123, b""),))
    joiner = Client("e", capabilities=None if bad else listed)
    with evil(bad):
        own, welcome = welcome_of(a, joiner)
    joiner.join(own, welcome)


@case("MLS-V107")
def an_external_join_without_an_extension_of_the_group(bad: bool) -> None:
    listed = capabilities(extensions=(0xF123,))
    a = Client("a", capabilities=listed)
    a.create(extensions=(Extension(0xF123, b""),))
    joiner = Client("e", capabilities=None if bad else listed)
    Group.join_external(joiner.identity, a.group.group_info(), POLICY, NOW, joiner.rng)


@case("MLS-V108")
def a_welcome_for_another_key_package(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    own, welcome = welcome_of(a, joiner)
    joiner.join(joiner.package() if bad else own, welcome)


@case("MLS-V109")
def a_welcome_with_an_altered_group_info(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    own, welcome = welcome_of(a, joiner)
    joiner.join(own, welcome[:-1] + bytes((welcome[-1] ^ bad,)))


@case("MLS-V109")
def a_group_info_under_another_key(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    with patched(bad, "key_schedule.welcome_key", lambda *args: (bytes(16), bytes(12))):
        own, welcome = welcome_of(a, joiner)
    joiner.join(own, welcome)


@case("MLS-V110")
def a_welcome_of_another_suite(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    own, data = welcome_of(a, joiner)
    welcome = decode_message(data)
    assert isinstance(welcome, Welcome)
    joiner.join(own, encode_message(replace(welcome, suite_id=3 if bad else 1)))


@case("MLS-V110")
def a_group_info_of_another_suite(bad: bool) -> None:
    with_info(bad, lambda info: replace(info, context=info.context.with_(suite_id=3)))


@case("MLS-V111")
def a_tree_without_the_joiner(bad: bool) -> None:
    joined(bad, lambda tree: tree.nodes.__setitem__(8, other_leaf()))


def other_leaf() -> Any:
    joiner = Client("e")
    joiner.package()
    return joiner.package().package.leaf_node


@case("MLS-V112")
def a_path_secret_of_other_keys(bad: bool) -> None:
    from cloister.mls.treekem import NewPath

    a, _ = group_of("a", "b")
    joiner = Client("e")
    right = NewPath.secret_for
    with mock.patch.object(NewPath, "secret_for", (lambda *args: bytes(32)) if bad else right):
        own, welcome = welcome_of(a, joiner)
    joiner.join(own, welcome)


@case("MLS-V112")
def a_path_secret_for_a_blank_parent(bad: bool) -> None:
    a, *_ = group_of("a", "b")
    joiner = Client("e")
    own = joiner.package()
    made = newcomer_with_secret if bad else committing.Newcomer
    with mock.patch.object(committing, "Newcomer", made):
        staged = a.group.commit(NOW, a.rng, [Add(own.package)], PATHLESS)
    joiner.join(own, staged.welcome or b"")


def newcomer_with_secret(*, package: Any, path_secret: Any) -> Any:
    from cloister.mls.welcome import Newcomer

    return Newcomer(package=package, path_secret=bytes(32))


@case("MLS-V113")
def a_group_info_with_a_wrong_confirmation_tag(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    with patched(bad, "key_schedule.confirmation_tag", lambda *args: bytes(32)):
        own, welcome = welcome_of(a, joiner)
    joiner.join(own, welcome)


# reinitialisation and branches


def special(usage: int, nonce: bytes, epoch: int = 1) -> PreSharedKey:
    psk = PreSharedKeyId(kind=2, usage=usage, group_id=b"room", epoch=epoch, nonce=nonce)
    return PreSharedKey(psk)


def followed(
    old: list[Client],
    usage: int,
    *,
    group_id: bytes = b"next",
    suite: int = 1,
    extensions: tuple[Extension, ...] = (),
    psks: int = 1,
    epochs: int = 0,
    joiners: list[Client] | None = None,
) -> None:
    """The first member founds a group on the old one as told; the second judges the Welcome."""
    a, b, *_ = old
    others = joiners or old[1:]
    fresh = {each.name: Client(each.name, suite_of(suite)) for each in (a, *others)}
    packages = [fresh[each.name].package() for each in others]
    number = a.group.epoch
    group = Group.create(fresh[a.name].identity, suite_of(suite), group_id, POLICY, NOW, a.rng, extensions)
    for _ in range(epochs):
        group.merge(group.commit(NOW, a.rng), NOW)
    proposals = [Add(each.package) for each in packages]
    keys = [special(usage, bytes((step,)) * 32, number) for step in range(psks)]
    with evil():
        staged = group._commit(NOW, a.rng, (*proposals, *keys), CommitOptions(), a.group.resumption_psk, usage, False)
    Group.join(
        packages[0],
        fresh[others[0].name].identity,
        staged.welcome or b"",
        POLICY,
        NOW,
        b.group.resumption_psk,
        JoinOptions(origin=b.group.origin()),
    )


def ended() -> list[Client]:
    """Three members of a group that has agreed on its successor."""
    clients = group_of("a", "b", "c")
    staged = clients[0].group.commit(NOW, clients[0].rng, [ReInit(b"next", 1, 1, ())])
    clients[0].group.merge(staged, NOW)
    for each in clients[1:]:
        each.take(staged.message)
    return clients


@case("MLS-V114")
def two_branch_keys(bad: bool) -> None:
    followed(group_of("a", "b", "c"), BRANCH, psks=2 if bad else 1)


@case("MLS-V115")
def a_branch_at_a_later_epoch(bad: bool) -> None:
    followed(group_of("a", "b"), BRANCH, epochs=1 if bad else 0)


@case("MLS-V116")
def a_reinit_with_another_group_id(bad: bool) -> None:
    followed(ended(), REINIT, group_id=b"elsewhere" if bad else b"next")


@case("MLS-V116")
def a_reinit_with_other_extensions(bad: bool) -> None:
    followed(ended(), REINIT, extensions=(Extension(1, b""),) if bad else ())


@case("MLS-V116")
def a_reinit_that_nobody_agreed_on(bad: bool) -> None:
    followed(group_of("a", "b", "c") if bad else ended(), REINIT)


@case("MLS-V117")
def a_reinit_that_leaves_somebody_out(bad: bool) -> None:
    old = ended()
    followed(old, REINIT, joiners=old[1:2] if bad else None)


@case("MLS-V118")
def a_branch_of_another_suite(bad: bool) -> None:
    followed(group_of("a", "b"), BRANCH, suite=3 if bad else 1)


@case("MLS-V118")
def a_branch_of_a_group_that_is_not_at_hand(bad: bool) -> None:
    a, b = group_of("a", "b")
    own = b.package()
    _, staged = a.group.branch(b"branch", [own.package], NOW, a.rng)
    origin = None if bad else b.group.origin()
    options = JoinOptions(origin=origin)
    lookup = b.group.resumption_psk
    Group.join(own, b.identity, staged.welcome or b"", POLICY, NOW, lookup, options)


@case("MLS-V119")
def a_branch_with_a_stranger(bad: bool) -> None:
    old = group_of("a", "b")
    followed(old, BRANCH, joiners=[old[1], Client("stranger")] if bad else None)


@case("MLS-V003")
def a_welcome_with_a_key_of_an_unknown_use(bad: bool) -> None:
    followed(group_of("a", "b"), 9 if bad else APPLICATION)


@case("MLS-V120")
def a_group_info_without_the_external_key(bad: bool) -> None:
    a, _ = group_of("a", "b")
    joiner = Client("e")
    info = a.group.group_info(with_external_pub=not bad)
    Group.join_external(joiner.identity, info, POLICY, NOW, joiner.rng)


@case("MLS-V121")
def a_group_info_without_tree(bad: bool) -> None:
    a, _ = group_of("a", "b")
    joiner = Client("e")
    info = a.group.group_info(with_tree=not bad)
    Group.join_external(joiner.identity, info, POLICY, NOW, joiner.rng)


@case("MLS-V009")
def a_message_instead_of_a_welcome(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    own, welcome = welcome_of(a, joiner)
    joiner.join(own, a.group.group_info() if bad else welcome)


@case("MLS-V009")
def a_welcome_instead_of_a_group_info(bad: bool) -> None:
    (a,) = group_of("a")
    joiner = Client("e")
    _, welcome = welcome_of(a, joiner)
    info = welcome if bad else a.group.group_info()
    Group.join_external(joiner.identity, info, POLICY, NOW, joiner.rng)


@case("MLS-V040")
def an_external_join_beside_ones_old_self(bad: bool) -> None:
    a, _ = group_of("a", "b")
    again = Client("b")
    info = a.group.group_info()
    Group.join_external(again.identity, info, POLICY, NOW, again.rng, resync=None if bad else 1)


def self_remove_case(bad: bool, change: Callable[[Client, Client], bytes]) -> None:
    from cloister.mls import SelfRemove, read_self_remove

    a, b, _ = group_of("a", "b", "c")
    info = decode_message(a.group.group_info())
    assert isinstance(info, GroupInfo)
    right = b.group.propose(SelfRemove(), NOW, b.rng)
    read_self_remove(info.tree(None), info.context, change(a, b) if bad else right)


@case("MLS-V081")
def another_proposal_for_a_self_remove(bad: bool) -> None:
    self_remove_case(bad, lambda a, b: a.group.propose(Remove(1), NOW, a.rng, public=True))


@case("MLS-V081")
def an_encrypted_message_for_a_self_remove(bad: bool) -> None:
    self_remove_case(bad, lambda a, b: a.group.propose(Remove(1), NOW, a.rng))


@case("MLS-V010")
def a_self_remove_of_another_group(bad: bool) -> None:
    def other(a: Client, b: Client) -> bytes:
        from cloister.mls import SelfRemove

        stranger = Client("x")
        stranger.create(b"other")
        stranger.add(Client("y"))
        return stranger.group.propose(SelfRemove(), NOW, stranger.rng)

    self_remove_case(bad, other)


@case("MLS-V011")
def a_self_remove_of_another_epoch(bad: bool) -> None:
    def later(a: Client, b: Client) -> bytes:
        from cloister.mls import SelfRemove

        a.group.merge(a.group.commit(NOW, a.rng), NOW)
        return a.group.propose(SelfRemove(), NOW, a.rng)

    self_remove_case(bad, later)


@pytest.mark.parametrize(("check_id", "each"), cases_of(__name__))
def test_joining(check_id: str, each: Case) -> None:
    judge(check_id, each)


def test_the_errors_of_a_joiner_carry_their_check() -> None:
    with pytest.raises(PeerError) as caught:
        decode_message(b"")
    assert caught.value.check == "MLS-V001"
