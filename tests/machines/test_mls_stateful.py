"""Random lives of groups: members come, go, speak and miss messages; those who are in agree, others know nothing.

The log orders commits, as a room's log does: each is processed by all who can, in one order. Application messages
are lost, delayed and reordered at will. After each commit all members have the same epoch authenticator, and who was
removed has no part in the new epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cloister.errors import PeerError
from cloister.mls import (
    LEFT,
    Add,
    ApplicationData,
    CommitOptions,
    Extension,
    Group,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    Remove,
    SelfRemove,
    StagedCommit,
)
from support.mls import NOW, POLICY, Client

LIMIT = 30
POLICY_30 = replace(POLICY, kept_epochs=3)
KEYS = {b"one": b"1" * 32, b"two": b"2" * 32}


def lookup(psk: object) -> bytes | None:
    return KEYS.get(psk.key_id)


class Groups(RuleBasedStateMachine):
    """One group; `members` are in it, `gone` were."""

    def __init__(self) -> None:
        super().__init__()
        self.members: list[Client] = []
        self.gone: list[Client] = []
        self.count = 0
        self.flying: list[tuple[Client, int, bytes, bytes]] = []
        self.authenticators: set[bytes] = set()

    def fresh(self) -> Client:
        self.count += 1
        return Client(f"client {self.count}", policy=POLICY_30)

    def pick(self, number: int) -> Client:
        return self.members[number % len(self.members)]

    @initialize(size=st.integers(1, 4))
    def create(self, size: int) -> None:
        creator = self.fresh()
        creator.create()
        self.members = [creator]
        for _ in range(size - 1):
            self.commit(creator, [], adds=1)

    def commit(self, committer: Client, proposals: list[Proposal], adds: int = 0, path: bool = True) -> None:
        """One commit, processed by everybody."""
        joiners = [self.fresh() for _ in range(min(adds, LIMIT - len(self.members)))]
        packages = [each.package() for each in joiners]
        every = [*proposals, *(Add(each.package) for each in packages)]
        options = CommitOptions(path=path, public=self.count % 2 == 0)
        staged = committer.group.commit(NOW, committer.rng, every, options, lookup)
        committer.group.merge(staged, NOW)
        self.everybody(staged.message, committer)
        for joiner, own in zip(joiners, packages, strict=True):
            joiner.group = Group.join(own, joiner.identity, staged.welcome or b"", POLICY_30, NOW, lookup)
            self.members.append(joiner)

    def everybody(self, message: bytes, *done: Client) -> None:
        for each in list(self.members):
            if each in done:
                continue
            staged = each.group.process(message, NOW, lookup)
            assert isinstance(staged, StagedCommit)
            each.group.merge(staged, NOW)
            if each.group.state == LEFT:
                self.members.remove(each)
                self.gone.append(each)
        for each in self.gone:
            with pytest.raises(Exception, match="removed"):
                each.group.process(message, NOW)

    def propose(self, sender: Client, make: Callable[[], bytes]) -> None:
        message = make()
        for each in self.members:
            if each is not sender:
                each.group.process(message, NOW, lookup)

    @rule(who=st.integers(0), adds=st.integers(0, 3), path=st.booleans())
    def commit_adds(self, who: int, adds: int, path: bool) -> None:
        self.commit(self.pick(who), [], adds, path or adds == 0)

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=st.integers(0), whom=st.integers(0), adds=st.integers(0, 1))
    def commit_remove(self, who: int, whom: int, adds: int) -> None:
        committer, removed = self.pick(who), self.pick(whom)
        if committer is not removed:
            self.commit(committer, [Remove(removed.group.own_leaf)], adds)

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=st.integers(0), committer=st.integers(0))
    def propose_update(self, who: int, committer: int) -> None:
        sender = self.pick(who)
        self.propose(sender, lambda: sender.group.propose_update(NOW, sender.rng))
        other = self.pick(committer)
        self.commit(other, [])

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=st.integers(0), committer=st.integers(0))
    def leave(self, who: int, committer: int) -> None:
        sender, other = self.pick(who), self.pick(committer)
        if sender is not other:
            self.propose(sender, lambda: sender.group.propose(SelfRemove(), NOW, sender.rng))
            self.commit(other, [])
            assert sender not in self.members

    @rule(who=st.integers(0), name=st.sampled_from(sorted(KEYS)))
    def commit_psk(self, who: int, name: bytes) -> None:
        committer = self.pick(who)
        psk = committer.group.new_psk_id(committer.rng, key_id=name)
        self.commit(committer, [PreSharedKey(psk)], path=False)

    @rule(who=st.integers(0), data=st.binary(max_size=4))
    def change_extensions(self, who: int, data: bytes) -> None:
        self.commit(self.pick(who), [GroupContextExtensions((Extension(1, data),))])

    @precondition(lambda self: len(self.members) < LIMIT)
    @rule(who=st.integers(0), back=st.booleans())
    def join_from_outside(self, who: int, back: bool) -> None:
        helper = self.pick(who)
        joiner = self.fresh()
        resync = None
        lost = self.members[-1]
        if back and lost is not helper:
            joiner.identity, resync = lost.identity, lost.group.own_leaf
            joiner.name = lost.name
        joiner.group, message = Group.join_external(
            joiner.identity, helper.group.group_info(), POLICY_30, NOW, joiner.rng, resync=resync
        )
        self.everybody(message)
        self.members.append(joiner)

    @rule(who=st.integers(0), lost=st.booleans())
    def speak(self, who: int, lost: bool) -> None:
        sender = self.pick(who)
        data = sender.rng(8)
        message = sender.group.protect(data, sender.rng)
        if not lost:
            self.flying.append((sender, sender.group.epoch, data, message))

    @precondition(lambda self: self.flying)
    @rule(order=st.randoms(use_true_random=False))
    def listen(self, order: object) -> None:
        order.shuffle(self.flying)
        for sender, epoch, data, message in self.flying:
            for each in self.members:
                if each is sender:
                    continue
                try:
                    received = each.group.process(message, NOW)
                except PeerError as error:
                    if error.check != "MLS-V025":  # it joined later, or the epoch is not kept any more
                        raise
                    continue
                assert isinstance(received, ApplicationData)
                assert (received.data, received.epoch) == (data, epoch)
        self.flying.clear()

    @rule(who=st.integers(0))
    def restart(self, who: int) -> None:
        client = self.pick(who)
        state = client.group._state
        for live in (state.live, *(kept for kept, _ in state.past.values())):
            state._mark_epoch(live.epoch.number)
            from cloister.mls.store import secret_items

            live.secrets.changed.update(secret_items(live.secrets))
        client.group = Group.restore(dict(client.group.changes().put), client.identity, POLICY_30)

    @invariant()
    def members_agree(self) -> None:
        seen = {(each.group.epoch, each.group.epoch_authenticator) for each in self.members}
        assert len(seen) <= 1
        leaves = [index for each in self.members[:1] for index, _ in each.group.members()]
        assert len(leaves) == len(self.members)

    @invariant()
    def who_is_gone_holds_no_secret_of_the_epoch(self) -> None:
        for each in self.gone:
            epoch = each.group._epoch
            assert not epoch.private_keys
            assert not epoch.secrets.init_secret
            for member in self.members[:1]:
                assert epoch.secrets.epoch_authenticator != member.group.epoch_authenticator


def run(examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(Groups, settings=chosen)


def test_groups_agree() -> None:
    run(10, 15)


@pytest.mark.slow
def test_many_groups_agree() -> None:
    run(200, 50)
