"""What is refused of leaf nodes and key packages, in Adds, Updates and paths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.codec.tls import Reader, Writer, decode, opaque
from cloister.mls import (
    Add,
    CommitOptions,
    Credential,
    Extension,
    Group,
    KeyPackage,
    LeafNode,
    Lifetime,
    RequiredCapabilities,
    Update,
    suite_of,
)
from cloister.mls.leaf_node import SOURCE_COMMIT, SOURCE_KEY_PACKAGE, SOURCE_UPDATE, LeafPlace, make_leaf
from support.mls import NOW, POLICY, SUITE, Client, capabilities, group_of
from support.mls_evil import Case, case, cases_of, commit_of, deliver, evil, judge, patched, sent

DAY = 24 * 3600
NORMAL = Lifetime(NOW // 1000 - DAY, NOW // 1000 + DAY)


def leaf_of(client: Client, place: LeafPlace, key: bytes = b"", **template: Any) -> LeafNode:
    fresh = client.suite.derive_key_pair(client.rng(66)).public
    chosen = replace(client.identity.template, **template)
    return make_leaf(client.suite, client.identity.key, chosen, key or fresh, place)


def update_of(client: Client, group_id: bytes = b"room", source: int = SOURCE_UPDATE, **changes: Any) -> Update:
    place = LeafPlace(source=source, group_id=group_id, leaf_index=client.group.own_leaf)
    return Update(leaf_of(client, place, **changes))


def package_of(client: Client, lifetime: Lifetime = NORMAL, **changes: Any) -> KeyPackage:
    """A key package with anything in it, properly signed."""
    init_key = changes.pop("init_key", client.suite.derive_key_pair(client.rng(66)).public)
    extensions = changes.pop("extensions_of_package", ())
    signature = changes.pop("signature", None)
    suite_id = changes.pop("suite_id", client.suite.suite_id)
    source = changes.pop("source", SOURCE_KEY_PACKAGE)
    place = LeafPlace(source=source, lifetime=lifetime if source == SOURCE_KEY_PACKAGE else None)
    writer = Writer().u16(1).u16(suite_id).opaque(init_key)
    leaf_of(client, place, **changes).write(writer)
    content = writer.vector(extensions).done()
    made = client.suite.sign_with_label(client.identity.key, b"KeyPackageTBS", content)
    return KeyPackage.read(Reader(content + opaque(made if signature is None else signature)))


def propose(client: Client, proposal: Add | Update) -> bytes:
    with evil():
        return client.group.propose(proposal, NOW, client.rng)


def add(bad: bool, changes: dict[str, Any], control: dict[str, Any] | None = None, **joiner: Any) -> None:
    """An Add of a key package that is altered, and of one that is not."""
    a, b = group_of("a", "b")
    package = package_of(Client("joiner", **joiner), **(changes if bad else control or {}))
    deliver(b, propose(a, Add(package)))


@case("MLS-V030")
def a_leaf_signed_for_another_group(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, propose(a, update_of(a, b"other" if bad else b"room")))


@case("MLS-V030")
def a_leaf_signed_for_another_place(bad: bool) -> None:
    a, b = group_of("a", "b")
    place = LeafPlace(source=SOURCE_UPDATE, group_id=b"room", leaf_index=1 if bad else 0)
    deliver(b, propose(a, Update(leaf_of(a, place))))


@case("MLS-V031")
def an_update_with_a_leaf_made_for_a_path(bad: bool) -> None:
    a, b = group_of("a", "b")
    deliver(b, propose(a, update_of(a, source=SOURCE_COMMIT if bad else SOURCE_UPDATE)))


@case("MLS-V031")
def an_add_with_a_leaf_made_for_an_update(bad: bool) -> None:
    add(bad, {"source": SOURCE_UPDATE})


@case("MLS-V031")
def a_path_with_a_leaf_made_for_an_update(bad: bool) -> None:
    a, b = group_of("a", "b")

    def made(*args: Any) -> LeafNode:
        return make_leaf(*args[:-1], replace(args[-1], source=SOURCE_UPDATE))

    with patched(bad, "leaf_node.make_leaf", made):
        staged = commit_of(a, bad=bad)
    deliver(b, staged.message)


@case("MLS-V032")
def a_leaf_with_an_extension_it_does_not_list(bad: bool) -> None:
    listed = capabilities() if bad else capabilities(extensions=(0xF123,))
    add(
        True,
        {"extensions": (Extension(0xF123, b""),), "capabilities": listed},
    )


@case("MLS-V033")
def a_leaf_with_a_credential_it_does_not_list(bad: bool) -> None:
    add(bad, {"capabilities": capabilities(credentials=(2,))})


@case("MLS-V034")
def a_leaf_without_the_groups_suite(bad: bool) -> None:
    add(bad, {"capabilities": capabilities(cipher_suites=(2, 3))})


@case("MLS-V034")
def a_leaf_without_the_protocol_version(bad: bool) -> None:
    add(bad, {"capabilities": capabilities(versions=(2,))})


@case("MLS-V034")
def a_leaf_without_the_groups_extension(bad: bool) -> None:
    listed = capabilities(extensions=(0xF123,))
    a = Client("a", capabilities=listed)
    a.create(extensions=(Extension(0xF123, b"policy"),))
    joiner = Client("joiner", capabilities=capabilities() if bad else listed)
    deliver(a, propose_from_outside(a, joiner))


def propose_from_outside(group: Client, joiner: Client) -> bytes:
    from cloister.mls import join_proposal

    package = package_of(joiner)
    return join_proposal(joiner.suite, joiner.identity.key, group.group.group_id, group.group.epoch, package)


@case("MLS-V035")
def a_leaf_without_what_the_group_requires(bad: bool) -> None:
    a = Client("a")
    a.create(extensions=(RequiredCapabilities(proposals=(0x000A,)).extension(),))
    listed = capabilities(proposals=()) if bad else None
    deliver(a, propose_from_outside(a, Client("joiner", capabilities=listed)))


def of_types(bad: bool, first: tuple[int, ...], joiner: tuple[int, ...]) -> None:
    """A joiner with an X.509 credential beside members who list `first`."""
    a, b = (Client(name, capabilities=capabilities(credentials=first)) for name in "ab")
    a.create()
    a.add(b)
    package = package_of(
        Client("joiner"),
        credential=Credential.x509((b"certificate",)),
        capabilities=capabilities(credentials=joiner),
    )
    deliver(b, commit_of(a, sent(a, Add(package)), bad=bad).message)


@case("MLS-V036")
def a_credential_type_that_a_member_does_not_support(bad: bool) -> None:
    of_types(bad, (1,) if bad else (1, 2), (1, 2))


@case("MLS-V037")
def a_member_that_does_not_support_a_credential_in_use(bad: bool) -> None:
    of_types(bad, (1, 2), (2,) if bad else (1, 2))


@case("MLS-V038")
def a_lifetime_of_a_year(bad: bool) -> None:
    add(bad, {"lifetime": Lifetime(NOW // 1000, NOW // 1000 + 365 * DAY)})


@case("MLS-V038")
def a_lifetime_for_ever(bad: bool) -> None:
    add(bad, {"lifetime": Lifetime(0, 2**64 - 1)})


@case("MLS-V039")
def an_expired_key_package(bad: bool) -> None:
    add(bad, {"lifetime": Lifetime(NOW // 1000 - 2 * DAY, NOW // 1000 - DAY)})


@case("MLS-V039")
def a_key_package_that_does_not_count_yet(bad: bool) -> None:
    add(bad, {"lifetime": Lifetime(NOW // 1000 + DAY, NOW // 1000 + 2 * DAY)})


@case("MLS-V040")
def a_joiner_with_a_members_signature_key(bad: bool) -> None:
    a, b = group_of("a", "b")
    joiner = Client("b" if bad else "c")
    info = a.group.group_info()
    with evil():
        _, message = Group.join_external(joiner.identity, info, POLICY, NOW, joiner.rng)
    deliver(a, message)
    assert b.group.epoch == 1


@case("MLS-V041")
def a_joiner_with_a_members_encryption_key(bad: bool) -> None:
    a, b = group_of("a", "b")
    key = b.group.members()[0][1].encryption_key if bad else b""
    package = package_of(Client("joiner"), key=key)
    deliver(b, commit_of(a, sent(a, Add(package)), bad=bad).message)


@case("MLS-V042")
def an_update_with_the_old_encryption_key(bad: bool) -> None:
    a, b = group_of("a", "b")
    key = a.group.members()[0][1].encryption_key if bad else b""
    deliver(b, propose(a, update_of(a, key=key)))


@case("MLS-V042")
def a_path_with_the_old_encryption_key(bad: bool) -> None:
    a, b = group_of("a", "b")
    old = a.group._epoch.private_keys[0].public

    def made(suite: Any, key: Any, template: Any, public: bytes, place: Any) -> LeafNode:
        return make_leaf(suite, key, template, old, place)

    with patched(bad, "leaf_node.make_leaf", made):
        staged = commit_of(a, bad=bad)
    deliver(b, staged.message)


NO_MALLORY = replace(POLICY, validate=lambda credential, key, now: credential.identity != b"mallory")


@case("MLS-V043")
def a_credential_that_the_validator_refuses(bad: bool) -> None:
    a, b = group_of("a", "b")
    b.group.policy = NO_MALLORY
    package = package_of(Client("mallory" if bad else "joiner"))
    deliver(b, propose(a, Add(package)))


@case("MLS-V043")
def a_path_with_a_credential_that_the_validator_refuses(bad: bool) -> None:
    a, b = group_of("a", "b")
    b.group.policy = replace(NO_MALLORY, successor=lambda old, new: True)
    template = replace(a.identity.template, credential=Credential.basic(b"mallory" if bad else b"alice"))
    identity = replace(a.identity, template=template)
    deliver(b, commit_of(a, identity=identity).message)


@case("MLS-V044")
def an_update_with_another_credential(bad: bool) -> None:
    a, b = group_of("a", "b")
    changed = {"credential": Credential.basic(b"c")} if bad else {}
    deliver(b, propose(a, update_of(a, **changed)))


@case("MLS-V044")
def a_path_with_another_credential(bad: bool) -> None:
    a, b = group_of("a", "b")
    template = replace(a.identity.template, credential=Credential.basic(b"c" if bad else b"a"))
    deliver(b, commit_of(a, identity=replace(a.identity, template=template)).message)


@case("MLS-V046")
def a_leaf_with_an_encryption_key_that_is_none(bad: bool) -> None:
    add(bad, {"key": b"short"})


@case("MLS-V046")
def a_key_package_with_an_init_key_that_is_none(bad: bool) -> None:
    add(bad, {"init_key": b"short"})


@case("MLS-V043")
def a_credential_of_an_unknown_type(bad: bool) -> None:
    data = b"\0\x09\1x" if bad else b"\0\1\1x"
    decode(Credential.read, data)


@case("MLS-V050")
def a_key_package_with_an_empty_signature(bad: bool) -> None:
    add(bad, {"signature": b""})


@case("MLS-V051")
def a_key_package_of_another_suite(bad: bool) -> None:
    add(bad, {}, suite=suite_of(2) if bad else SUITE)


@case("MLS-V051")
def a_key_package_that_claims_another_suite(bad: bool) -> None:
    add(bad, {"suite_id": 3})


@case("MLS-V052")
def one_key_for_welcome_and_leaf(bad: bool) -> None:
    key = SUITE.derive_key_pair(bytes(32)).public
    add(bad, {"init_key": key, "key": key})


@case("MLS-V053")
def a_key_package_with_an_extension_it_does_not_list(bad: bool) -> None:
    changes = {"extensions_of_package": (Extension(0xF123, b""),)}
    listed = {**changes, "capabilities": capabilities(extensions=(0xF123,))}
    add(bad, changes, listed)


@pytest.mark.parametrize(("check_id", "each"), cases_of(__name__))
def test_leaves(check_id: str, each: Case) -> None:
    judge(check_id, each)


def test_a_successor_that_the_policy_allows_takes_over_the_leaf() -> None:
    a, b = group_of("a", "b", policy=replace(POLICY, successor=lambda old, new: True))
    renamed = Client("renamed").identity
    staged = a.group.commit(NOW, a.rng, options=CommitOptions(identity=renamed))
    a.group.merge(staged, NOW)
    taken = b.take(staged.message)
    assert b.group.members()[0][1].credential.identity == b"renamed"
    assert taken.committer == 0
    assert b.group.process(a.group.protect(b"x", a.rng), NOW).data == b"x"
