"""What is stored, what is deleted, and that a thief of the store opens nothing that was read before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.errors import PeerError, UnavailableError, UsageError
from cloister.mls import SUSPENDED, Add, CommitOptions, Group, ReInit, Remove, StagedCommit, stored_secrets
from support.mls import NOW, POLICY, Client, agree


class Stored(Client):
    """A client whose group lives in a dictionary and is read again before each use."""

    def save(self) -> dict[bytes, bytes]:
        self.items: dict[bytes, bytes] = getattr(self, "items", {})
        changes = self.group.changes()
        self.items.update(changes.put)
        for key in changes.drop:
            self.items.pop(key, None)
        return self.items

    def reload(self) -> None:
        self.group = Group.restore(dict(self.save()), self.identity, self.policy)


def pair() -> tuple[Stored, Stored]:
    a, b = Stored("a"), Stored("b")
    a.create()
    a.add(b)
    return a, b


def test_what_is_damaged_or_newer_is_unavailable() -> None:
    a, _ = pair()
    items = dict(a.save())
    with pytest.raises(UnavailableError, match="damaged"):
        Group.restore({}, a.identity, POLICY)
    with pytest.raises(UnavailableError, match="version"):
        Group.restore({**items, b"g": b"\xff" + items[b"g"][1:]}, a.identity, POLICY)
    with pytest.raises(UnavailableError, match="not stored whole"):
        Group.restore({key: items[key] for key in items if key[:1] != b"t"}, a.identity, POLICY)


def test_a_restored_group_goes_on() -> None:
    a, b = pair()
    for step in range(3):
        for one, other in ((a, b), (b, a)):
            one.reload()
            message = one.group.protect(bytes((step,)), one.rng)
            one.reload()
            other.reload()
            assert other.group.process(message, NOW).data == bytes((step,))
        a.reload()
        staged = a.group.commit(NOW, a.rng)
        a.reload()
        echo = a.group.process(staged.message, NOW)
        assert isinstance(echo, StagedCommit)
        a.group.merge(echo, NOW)
        b.take(staged.message)
        a.reload()
        b.reload()
        agree([a, b])


def test_a_restored_sender_does_not_use_a_generation_again() -> None:
    a, b = pair()
    first = a.group.protect(b"1", a.rng)
    a.reload()
    second = a.group.protect(b"2", a.rng)
    assert b.group.process(second, NOW).data == b"2"
    assert b.group.process(first, NOW).data == b"1"


def test_only_what_changed_is_stored() -> None:
    a, b = pair()
    a.save()
    b.save()
    a.group.protect(b"x", a.rng)
    assert a.group.changes().put.keys() <= {b"n" + bytes(7) + b"\1" + bytes(3) + b"\2"} | {
        b"r" + bytes(7) + b"\1" + bytes(4) + bytes((kind,)) for kind in (0, 1)
    }
    message = a.group.protect(b"y", a.rng)
    changes = a.group.changes()
    assert len(changes.put) == 1
    assert not changes.drop
    b.group.process(message, NOW)
    changes = b.group.changes()
    assert sum(map(len, changes.put.values())) < 400
    assert all(key[:1] != b"t" for key in changes.put)


def test_the_thief_of_a_stored_copy_opens_nothing_old() -> None:
    a, b = pair()
    read = [a.group.protect(bytes((n,)), a.rng) for n in range(5)]
    for message in (read[0], read[4], read[2]):
        b.group.process(message, NOW)
    thief = Group.restore(dict(b.save()), b.identity, POLICY)
    for message in (read[0], read[4], read[2]):
        with pytest.raises(PeerError) as caught:
            thief.process(message, NOW)
        assert caught.value.check == "MLS-V022"
    for message in (read[1], read[3]):  # not read yet: kept keys open them, once
        assert thief.process(message, NOW)
    assert not {key for key in b.items if key[:1] == b"n" and b.items[key] == b""}


def test_replaced_tree_keys_are_forgotten() -> None:
    a, b = pair()
    old = set(a.group._epoch.private_keys.values())
    commit = a.group.commit(NOW, a.rng)
    a.group.merge(commit, NOW)
    b.take(commit.message)
    assert not old & set(a.group._epoch.private_keys.values())
    items = a.save()
    for key in old:
        assert not any(key.raw in value for value in items.values())
    past = [value for key, value in items.items() if key == b"e" + (1).to_bytes(8, "big")]
    assert len(past) == 1
    thief = Group.restore(dict(items), a.identity, POLICY)
    assert thief._state.past[1][0].epoch.private_keys == {}
    assert thief._state.past[1][0].epoch.secrets.init_secret == b""


def test_old_epochs_are_dropped_by_count_and_age() -> None:
    a, b = Stored("a", policy=replace(POLICY, kept_epochs=2, kept_for=1000)), Client("b")
    a.create()
    a.add(b)
    for _ in range(4):
        a.group.merge(a.group.commit(NOW, a.rng), NOW)
        a.save()
    assert sorted(a.group._state.past) == [3, 4]
    kept = {int.from_bytes(key[1:9], "big") for key in a.items if key[:1] in b"etnrk"}
    assert kept == {3, 4, 5}
    a.group.merge(a.group.commit(NOW, a.rng), NOW + 5000)
    a.save()
    assert sorted(a.group._state.past) == [5]
    a.reload()
    assert sorted(a.group._state.past) == [5]


def test_proposals_updates_and_commits_survive_a_restart() -> None:
    a, b = pair()
    proposed = b.group.propose_update(NOW, b.rng)
    b.reload()
    assert b.group.process(proposed, NOW).proposal.sender.index == 1
    a.group.process(proposed, NOW)
    a.reload()
    assert len(a.group.pending) == 1
    joiner = Client("c")
    own = joiner.package()
    staged = a.group.commit(NOW, a.rng, [Add(own.package)])
    a.reload()
    again = a.group.process(staged.message, NOW)
    assert isinstance(again, StagedCommit)
    for name in ("added", "updated", "removed", "proposals", "welcome", "message", "committer"):
        assert getattr(again, name) == getattr(staged, name)
    a.group.merge(again, NOW)
    b.take(staged.message)
    joiner.join(own, staged.welcome or b"")
    agree([a, b, joiner])
    a.reload()
    assert {key[:1] for key in a.items} <= {b"g", b"e", b"t", b"n", b"r", b"k"}
    a.group.discard(a.group.commit(NOW, a.rng))
    assert b"c" not in {key[:1] for key in a.save()}
    received = b.group.process(joiner.group.propose_update(NOW, joiner.rng), NOW)
    b.save()
    b.group.drop_proposal(received.proposal.reference)
    assert b"p" not in {key[:1] for key in b.save()}


def test_a_suspended_group_is_restored_with_its_reinit() -> None:
    a, b = pair()
    staged = a.group.commit(NOW, a.rng, [ReInit(b"next", 1, 1, ())])
    a.reload()
    again = a.group.process(staged.message, NOW)
    assert isinstance(again, StagedCommit)
    assert again.reinit == staged.reinit
    a.group.merge(again, NOW)
    a.reload()
    assert a.group.state == SUSPENDED
    assert a.group.origin().reinit == staged.reinit
    assert b.take(staged.message).reinit == staged.reinit


def test_nothing_is_left_of_a_group_that_one_was_removed_from() -> None:
    a, b = pair()
    staged = a.group.commit(NOW, a.rng, [Remove(1)])
    b.save()
    b.take(staged.message)
    assert b.save() == {}


def test_every_kind_of_stored_secret_is_named() -> None:
    a, b, c = Stored("a"), Stored("b"), Stored("c")
    a.create()
    a.add(b, c)
    _, second = (a.group.protect(text, a.rng) for text in (b"skipped", b"read"))
    b.group.process(second, NOW)
    b.group.propose_update(NOW, b.rng)
    found = stored_secrets(b.save())
    assert {kind for kind, _ in found} >= {
        "exporter secret", "init secret", "key of a tree node", "secret of a message tree", "ratchet secret",
        "key of a skipped message", "leaf key",
    }  # fmt: skip
    assert b.group.epoch_authenticator not in {value for _, value in found}


def renaming_pair() -> tuple[Stored, Stored]:
    policy = replace(POLICY, successor=lambda old, new: True, kept_epochs=1)
    a, b = Stored("a", policy=policy), Stored("b", policy=policy)
    a.create()
    a.add(b)
    return a, b


def test_an_update_that_brings_another_identity_survives_a_restart() -> None:
    a, b = renaming_pair()
    renamed = Client("renamed").identity
    a.group.process(b.group.propose_update(NOW, b.rng, renamed), NOW)
    with pytest.raises(UsageError, match="none of these"):
        Group.restore(dict(b.save()), b.identity, POLICY)
    b.group = Group.restore(dict(b.save()), b.identity, b.policy, renamed)
    staged = a.group.commit(NOW, a.rng)
    a.group.merge(staged, NOW)
    b.take(staged.message)
    agree([a, b])
    b.group = Group.restore(dict(b.save()), b.identity, b.policy, renamed)
    assert b.group.members()[1][1].signature_key == renamed.key.public.raw
    b.identity = renamed
    b.reload()
    a.take(b.group.commit(NOW, b.rng).message)


def test_an_updates_key_without_the_update_is_damage() -> None:
    a, _ = pair()
    a.group.propose_update(NOW, a.rng)
    items = {key: value for key, value in a.save().items() if key[:1] != b"p"}
    with pytest.raises(UnavailableError, match="without the Update"):
        Group.restore(items, a.identity, POLICY)


def test_a_commit_under_a_new_identity_survives_a_restart_with_it() -> None:
    a, b = renaming_pair()
    renamed = Client("renamed").identity
    staged = a.group.commit(NOW, a.rng, options=CommitOptions(identity=renamed))
    with pytest.raises(UsageError, match="none of these"):
        Group.restore(dict(a.save()), a.identity, POLICY)
    a.group = Group.restore(dict(a.save()), a.identity, a.policy, renamed)
    a.take(staged.message)
    b.take(staged.message)
    agree([a, b])
