"""What is refused of commits beyond their proposals: paths, parent hashes, path secrets, confirmation tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.errors import PeerError, UsageError
from cloister.mls import Add, Remove, is_public
from cloister.mls.commit import Commit, HpkeCiphertext, UpdatePath
from cloister.mls.tree_hash import path_hashes
from cloister.mls.treekem import derive_node, seal_path
from support.mls import NOW, Client, group_of
from support.mls_evil import Case, case, cases_of, commit_of, deliver, framed, judge, patched, public, sent


def warm(*names: str) -> list[Client]:
    """A group in which everybody has committed once."""
    clients = group_of(*names)
    for each in clients:
        staged = each.group.commit(NOW, each.rng)
        each.group.merge(staged, NOW)
        for other in clients:
            if other is not each:
                other.take(staged.message)
    return clients


@case("MLS-V090")
def a_removal_without_path(bad: bool) -> None:
    a, b, _ = group_of("a", "b", "c")
    by_hand = Commit((Remove(2),), None)
    if bad:
        deliver(b, public(a, framed(a, by_hand), confirmation_tag=bytes(32)))
    else:
        deliver(b, commit_of(a, sent(a, Remove(2))).message)


@case("MLS-V090")
def an_empty_commit_without_path(bad: bool) -> None:
    a, b = group_of("a", "b")
    if bad:
        deliver(b, public(a, framed(a, Commit((), None)), confirmation_tag=bytes(32)))
    else:
        deliver(b, commit_of(a, sent(a, Add(Client("c").package().package)), path=False).message)


def with_path(bad: bool, rewrite: Any) -> None:
    """A commit whose path is rewritten before it is signed."""
    a, b, *_ = warm(*"abcdefgh")

    def sealed(*args: Any) -> UpdatePath:
        return rewrite(seal_path(*args))

    with patched(bad, "treekem.seal_path", sealed):
        message = commit_of(a).message
    deliver(b, message)


@case("MLS-V091")
def a_path_node_too_few(bad: bool) -> None:
    with_path(bad, lambda path: replace(path, nodes=path.nodes[:-1]))


@case("MLS-V091")
def a_path_node_too_many(bad: bool) -> None:
    with_path(bad, lambda path: replace(path, nodes=(*path.nodes, path.nodes[0])))


@case("MLS-V092")
def a_ciphertext_too_few(bad: bool) -> None:
    def rewrite(path: UpdatePath) -> UpdatePath:
        return replace(path, nodes=(replace(path.nodes[0], ciphertexts=()), *path.nodes[1:]))

    with_path(bad, rewrite)


@case("MLS-V092")
def a_ciphertext_too_many(bad: bool) -> None:
    def rewrite(path: UpdatePath) -> UpdatePath:
        first = path.nodes[0]
        return replace(path, nodes=(replace(first, ciphertexts=first.ciphertexts * 2), *path.nodes[1:]))

    with_path(bad, rewrite)


@case("MLS-V093")
def a_wrong_parent_hash(bad: bool) -> None:
    a, b = warm("a", "b")
    with patched(bad, "tree_hash.path_hashes", lambda *args: (path_hashes(*args)[0], bytes(32))):
        message = commit_of(a).message
    deliver(b, message)


@case("MLS-V093")
def a_path_key_that_the_parent_hash_does_not_cover(bad: bool) -> None:
    def rewrite(path: UpdatePath) -> UpdatePath:
        other = derive_node(Client("x").suite, bytes(32)).public
        return replace(path, nodes=(replace(path.nodes[0], encryption_key=other), *path.nodes[1:]))

    with_path(bad, rewrite)


@case("MLS-V094")
def a_path_key_that_stands_in_the_tree(bad: bool) -> None:
    a, b, c = warm("a", "b", "c")
    stolen = c.group._epoch.private_keys[4]
    with patched(bad, "treekem.derive_node", lambda suite, secret: stolen):
        message = commit_of(a).message
    deliver(b, message)


@case("MLS-V094")
def a_path_key_that_is_none(bad: bool) -> None:
    with_path(
        bad,
        lambda path: replace(path, nodes=(replace(path.nodes[0], encryption_key=b"x"), *path.nodes[1:])),
    )


@case("MLS-V095")
def a_garbled_path_secret(bad: bool) -> None:
    def rewrite(path: UpdatePath) -> UpdatePath:
        first = path.nodes[0]
        garbled = tuple(HpkeCiphertext(each.kem_output, bytes(48)) for each in first.ciphertexts)
        return replace(path, nodes=(replace(first, ciphertexts=garbled), *path.nodes[1:]))

    with_path(bad, rewrite)


@case("MLS-V095")
def an_encapsulation_of_another_size(bad: bool) -> None:
    def rewrite(path: UpdatePath) -> UpdatePath:
        first = path.nodes[0]
        garbled = tuple(HpkeCiphertext(b"", each.ciphertext) for each in first.ciphertexts)
        return replace(path, nodes=(replace(first, ciphertexts=garbled), *path.nodes[1:]))

    with_path(bad, rewrite)


@case("MLS-V096")
def a_path_secret_of_other_keys(bad: bool) -> None:
    a, b = warm("a", "b")
    other = derive_node(a.suite, b"\7" * 32)
    with patched(bad, "treekem.derive_node", lambda suite, secret: other):
        message = commit_of(a).message
    deliver(b, message)


@case("MLS-V097")
def a_wrong_confirmation_tag(bad: bool) -> None:
    a, b = group_of("a", "b")
    with patched(bad, "key_schedule.confirmation_tag", lambda *args: bytes(32)):
        message = commit_of(a).message
    deliver(b, message)


@case("MLS-V097")
def a_truncated_confirmation_tag(bad: bool) -> None:
    from cloister.mls import key_schedule

    right = key_schedule.confirmation_tag
    a, b = group_of("a", "b")
    with patched(bad, "key_schedule.confirmation_tag", lambda *args: right(*args)[:16]):
        message = commit_of(a).message
    deliver(b, message)


@pytest.mark.parametrize(("check_id", "each"), cases_of(__name__))
def test_commits(check_id: str, each: Case) -> None:
    judge(check_id, each)


def test_the_verdict_on_a_path_secret_is_private_and_on_a_signature_public() -> None:
    assert not is_public(PeerError("bad_commit", check="MLS-V095"))
    assert is_public(PeerError("bad_sig", check="MLS-V015"))
    assert not is_public(PeerError("bad_sig"))


def test_a_commit_cannot_be_merged_into_another_epoch() -> None:
    a, b = group_of("a", "b")
    first, second = a.group.commit(NOW, a.rng), a.group.commit(NOW, a.rng)
    a.group.merge(first, NOW)
    with pytest.raises(UsageError, match="another epoch"):
        a.group.merge(second, NOW)
    assert b.take(first.message).epoch == 2


def test_ones_own_invalid_commit_is_a_usage_error_and_changes_nothing() -> None:
    a, _ = group_of("a", "b")
    before = a.group.epoch_authenticator
    with pytest.raises(UsageError, match="MLS-V062"):
        a.group.commit(NOW, a.rng, [Remove(0)])
    with pytest.raises(UsageError, match="MLS-V064"):
        a.group.propose(Remove(9), NOW, a.rng)
    assert a.group.epoch_authenticator == before
