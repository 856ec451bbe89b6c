"""docs/walkthroughs.md, walked line by line: with fakes that mypy checks against the interface, and with two suites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from cloister.primitives import Rng
from cloister.protocols.interface import (
    Caps,
    Change,
    Channel,
    ChannelKind,
    Commit,
    Deliver,
    Effect,
    Effects,
    EntryId,
    EntryKind,
    Envelope,
    EpochChanged,
    Follow,
    Me,
    OpenRun,
    Post,
    PreKey,
    Put,
    RoomId,
    RoomPolicy,
    Session,
    SessionView,
    SignedHead,
    State,
    Suite,
    Unfollow,
)
from cloister.protocols.nonces.suite import CAPS, Nonces
from cloister.protocols.shares.suite import Shares
from support.suite_net import MAILBOX, NOW, POLICY, ROOM, FakeDirectory, keys_of, seeded
from support.walks import NAMES, Step, Walk, change_of, seen, walks

WALKS = walks()
_RUN = Channel(ChannelKind.RUN, bytes(16))


def _effect(name: str) -> Effect:
    """Some effect of this name."""
    kind, _, state = name.rstrip(")").partition("(")
    made: dict[str, Effect] = {
        "store": Put(key=b"k", value=b"v"),
        "Post": Post(channel=_RUN, kind=EntryKind.HANDSHAKE, entry_id=bytes(16), payload=b""),
        "Commit": Commit(room=ROOM, expects=bytes(32), entry_id=bytes(16), payload=b"", next_token_hash=bytes(32)),
        "OpenRun": OpenRun(run_id=bytes(16), room=None, token=bytes(32), deadline=0, sealed=()),
        "Follow": Follow(run_id=bytes(16), token=bytes(32)),
        "Unfollow": Unfollow(run_id=bytes(16)),
        "Deliver": Deliver(sender="d", epoch=1, seq=1, entry_id=bytes(16), content=b"", head=None),
    }
    if kind == "EpochChanged":
        return EpochChanged(epoch=0, roster=(), state=State(state))
    return made[kind]


@dataclass
class Script:
    """What the fakes are to be asked, and what they answer."""

    steps: list[Step] = field(default_factory=list)

    def answer(self, call: str) -> Effects:
        step = self.steps.pop(0)
        assert step.call == call
        return tuple(_effect(name) for name in step.effects)


@dataclass
class FakeSession:
    """A session that follows a script."""

    script: Script

    @property
    def view(self) -> SessionView:
        return SessionView(suite="fake", room=ROOM, epoch=0, roster=(), state=State.PENDING, policy=POLICY)

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        assert changes
        return self.script.answer("change")

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        return self.script.answer("receive")

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        return self.script.answer("answer")

    def wake(self, now: int, rng: Rng) -> Effects:
        return self.script.answer("wake")

    def seal(self, content: bytes, entry_id: EntryId, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        return self.script.answer("seal")

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        return bytes(length)


@dataclass
class FakeSuite:
    """A suite whose sessions follow a script."""

    script: Script

    @property
    def caps(self) -> Caps:
        return CAPS

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        return ()

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[Session, Effects]:
        return FakeSession(self.script), self.script.answer("create")

    def join(self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng) -> tuple[Session, Effects]:
        return FakeSession(self.script), self.script.answer("receive")

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> tuple[Session, Effects]:
        return FakeSession(self.script), ()

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        return FakeSession(self.script)


def _fake_step(suite: Suite, sessions: dict[str, Session], me: Me, step: Step) -> Effects:
    """One call as a driver makes it."""
    rng, envelope = seeded(1), Envelope(channel=MAILBOX, kind=" ".join(step.words), payload=b"")
    if step.call == "create":
        sessions[step.who], effects = suite.create(me, ROOM, POLICY, NOW, rng)
        return effects
    if step.call == "receive" and step.who not in sessions:
        sessions[step.who], effects = suite.join(me, envelope, None, NOW, rng)
        return effects
    if step.call == "restart":
        sessions[step.who] = suite.restore(me, {})
        return sessions[step.who].wake(NOW, rng)
    session = sessions[step.who]
    match step.call:
        case "change":
            return session.change(change_of(step.words, {name: name for name in NAMES}), NOW, rng)
        case "receive":
            return session.receive(envelope, NOW, rng)
        case "wake":
            return session.wake(NOW, rng)
        case _:
            return session.seal(b"x", bytes(16), None, NOW, rng)


def test_all_six_walks_are_there() -> None:
    assert list(WALKS) == ["create", "join", "change", "race", "remove", "restart"]
    assert all(len(steps) > 15 for steps in WALKS.values())


@pytest.mark.parametrize("name", WALKS)
def test_the_walk_fits_the_interface(name: str) -> None:
    directory = FakeDirectory()
    me = Me(device="d", keys=keys_of(0, rsa=False), directory=lambda: directory, realm="home")
    scripts = {who: Script() for who in NAMES}
    for step in WALKS[name]:
        call = "wake" if step.call == "restart" else step.call
        scripts[step.who].steps.append(Step(step.who, call, step.words, step.effects))
    suites = {who: FakeSuite(script) for who, script in scripts.items()}
    sessions: dict[str, Session] = {}
    for step in WALKS[name]:
        assert seen(_fake_step(suites[step.who], sessions, me, step)) == step.effects
    assert not any(script.steps for script in scripts.values())


@pytest.mark.parametrize("suite", [Nonces(), Shares()], ids=["nonces", "shares"])
@pytest.mark.parametrize("name", WALKS)
def test_a_suite_walks_it(suite: Suite, name: str) -> None:
    walk = Walk(suite)
    for number, step in enumerate(WALKS[name], 1):
        assert walk.step(step) == step.effects, f"line {number}: {step}"
    used = [node for node in walk.nodes.values() if node.session is not None]
    assert all(not node.faults for node in used)
    assert walk.net.refused == [] or name == "race"
