"""The fold against a model, over random histories; and no answer at an earlier size ever changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloister.errors import PeerError
from cloister.identity.credential import device_id
from cloister.identity.manifest import Row
from cloister.identity.realm import MANIFESTS_PER_DAY, RealmState
from support.people import DAY, Person, Realm, device_keys, seeded

NAMES = ("alice", "bob", "carol")
LIFE = 90 * DAY


@dataclass
class Known:
    """What the model knows of a user's first device."""

    person: Person
    certified_until: int
    listed: bool = True
    revoked: bool = False
    manifests: list[int] = field(default_factory=list)


def verdict(state: RealmState, device: str, size: int | None = None) -> str:
    try:
        return state.device(device, size).device_id
    except PeerError as error:
        return error.code


class RealmMachine(RuleBasedStateMachine):
    """Enrols, renews, lists, strikes out, revokes and lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.realm = Realm(seed="machine")
        self.known: dict[str, Known] = {}
        self.answers: dict[tuple[int, str], str] = {}

    def ends(self) -> int:
        return self.realm.now // 1000 * 1000 + LIFE

    def refused(self, code: str, step: Callable[[], object]) -> None:
        before = self.realm.state
        with pytest.raises(PeerError) as caught:
            step()
        assert caught.value.code == code
        assert self.realm.state is before

    @rule(days=st.sampled_from([1, 20, 61, 95]))
    def time_passes(self, days: int) -> None:
        self.realm.now += days * DAY

    @rule(name=st.sampled_from(NAMES))
    def enrol(self, name: str) -> None:
        if name in self.known:
            stranger = Realm(seed="stranger").person(name)
            record = stranger.application.record((b"never read",)).encode()
            self.refused("identity_changed", lambda: self.realm.append(record))
            return
        person = self.realm.enrol(name)
        self.known[name] = Known(person, self.ends(), manifests=[self.realm.now])

    @precondition(lambda self: self.known)
    @rule(draw=st.data())
    def renew(self, draw: st.DataObject) -> None:
        known = draw.draw(st.sampled_from(list(self.known.values())))
        if known.revoked:
            self.refused("revoked", lambda: self.realm.renew(known.person))
        elif not known.listed:
            self.refused("not_in_manifest", lambda: self.realm.renew(known.person))
        elif self.ends() <= known.certified_until:
            self.refused("replay", lambda: self.realm.renew(known.person))
        else:
            self.realm.renew(known.person)
            known.certified_until = self.ends()

    @precondition(lambda self: self.known)
    @rule(draw=st.data(), listed=st.booleans())
    def publish(self, draw: st.DataObject, listed: bool) -> None:
        known = draw.draw(st.sampled_from(list(self.known.values())))
        person = known.person
        other = Row.of(device_id(self.realm.name, person.name, "other"), device_keys(seeded(person.name)).hashes())
        rows = [person.row, other] if listed else [other]
        manifest = person.manifest.successor(person.keys, rows, self.realm.now)
        if sum(at > self.realm.now - DAY for at in known.manifests) >= MANIFESTS_PER_DAY:
            self.refused("quota", lambda: self.realm.publish(person, manifest))
            return
        self.realm.publish(person, manifest)
        known.listed = listed
        known.manifests.append(self.realm.now)

    @precondition(lambda self: self.known)
    @rule(draw=st.data())
    def revoke(self, draw: st.DataObject) -> None:
        known = draw.draw(st.sampled_from(list(self.known.values())))
        self.realm.revoke(known.person)
        known.revoked = True

    @invariant()
    def the_newest_answers_are_the_models(self) -> None:
        state = self.realm.state
        assert state.users() == tuple(sorted(self.known))
        for known in self.known.values():
            expected = known.person.id
            if known.certified_until < state.time():
                expected = "expired"
            if not known.listed:
                expected = "not_in_manifest"
            if known.revoked:
                expected = "revoked"
            assert verdict(state, known.person.id) == expected
            self.answers.setdefault((state.size, known.person.id), expected)

    @invariant()
    def earlier_answers_stand(self) -> None:
        for (size, device), expected in self.answers.items():
            assert verdict(self.realm.state, device, size) == expected

    def teardown(self) -> None:
        again = RealmState.fold(self.realm.records)
        for (size, device), expected in self.answers.items():
            assert verdict(again, device, size) == expected


RealmMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRealm = RealmMachine.TestCase
