"""The realm's log, its views, and mailbox keys at the relay."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.errors import UnavailableError
from cloister.identity import manifest as manifests
from cloister.identity.certificate import Authorities, VerifiedCertificate, build_requests
from cloister.identity.keys import identity_fingerprint
from cloister.identity.mailbox import MailboxKey
from cloister.identity.records import NewCertificates, NewCrl, NewManifest
from cloister.primitives.dh import DhKey
from cloister.primitives.signature import VerifyKey
from cloister.relay.core.directory import found_key
from cloister.relay.store.interface import PutMeta
from cloister.wire import frames, limits
from cloister.wire.frames import (
    REALM_LOG,
    Ack,
    Append,
    Certify,
    Done,
    GetMailKeys,
    GetPubkey,
    MailKeys,
    PutMailKey,
    UserList,
)
from support.people import Person
from support.relays import Client, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ann(world: World) -> Client:
    return world.client("ann")


def next_manifest(person: Person, now: int) -> bytes:
    person.manifest = person.manifest.successor(person.keys, [person.row], now)
    return NewManifest(manifest=person.manifest.encoded).encode()


# --- refused ------------------------------------------------------------------------------------------------


def test_a_record_that_the_fold_refuses_is_not_appended(world: World, ann: Client) -> None:
    record = next_manifest(world.people["ann"], world.now)
    ann.ask(Append(rid=ann.next(), record=record), Ack)
    person = world.people["ann"]
    old = person.application.manifest.successor(person.keys, [], world.now)
    assert ann.refused(Append(rid=ann.next(), record=NewManifest(manifest=old.encoded).encode())) == "bad_manifest"
    assert ann.refused(Append(rid=ann.next(), record=b"\x00")) == "bad_encoding"
    assert world.store.last(REALM_LOG).seq == 5  # type: ignore[union-attr]


def test_only_the_authority_admits(world: World, ann: Client) -> None:
    genesis = world.realm.records[0][0]
    person = world.people["ann"]
    leaves = world.realm.certify(person)
    for record in (genesis, NewCertificates(device_id=person.id, leaves=leaves).encode()):
        if record == genesis:
            continue
        assert ann.refused(Append(rid=ann.next(), record=record)) == "not_allowed"


def test_a_user_publishes_twenty_manifests_a_day(world: World, ann: Client) -> None:
    for _ in range(limits.MANIFESTS.value - 1):  # the first came with the enrolment
        ann.ask(Append(rid=ann.next(), record=next_manifest(world.people["ann"], world.now)), Ack)
    assert ann.refused(Append(rid=ann.next(), record=next_manifest(world.people["ann"], world.now))) == "quota"


def test_an_unknown_user_has_no_key(ann: Client) -> None:
    assert ann.refused(GetPubkey(rid=ann.next(), username="nobody")) == "no_user"


def test_a_mailbox_key_of_another_device_is_refused(world: World, ann: Client) -> None:
    bob = world.people["bob"]
    statement = MailboxKey.make(bob.id, bob.device, world.now).encode()
    assert ann.refused(PutMailKey(rid=ann.next(), statement=statement)) == "misrouted"


def test_a_mailbox_key_that_the_device_did_not_sign_is_refused(world: World, ann: Client) -> None:
    bob, me = world.people["bob"], world.people["ann"]
    statement = MailboxKey.make(me.id, bob.device, world.now).encode()
    assert ann.refused(PutMailKey(rid=ann.next(), statement=statement)) == "bad_sig"


def test_an_older_mailbox_key_is_refused(world: World, ann: Client) -> None:
    me = world.people["ann"]
    ann.ask(PutMailKey(rid=ann.next(), statement=MailboxKey.make(me.id, me.device, world.now).encode()), Done)
    older = MailboxKey.make(me.id, me.device, world.now - 1).encode()
    assert ann.refused(PutMailKey(rid=ann.next(), statement=older)) == "replay"


# --- certificates -------------------------------------------------------------------------------------------


def certify(world: World, client: Client, name: str = "ann") -> Certify:
    person = world.people[name]
    return Certify(rid=client.next(), requests=list(build_requests(person.device, person.id)))


def ripe(world: World) -> None:
    """Sixty days later: renewals are due."""
    world.now += 60 * limits.DAY + limits.MINUTE


def test_certificates_are_not_renewed_before_their_time(world: World, ann: Client) -> None:
    size = world.core.directory.realm.size
    assert ann.refused(certify(world, ann)) == "quota"
    assert world.core.directory.realm.size == size


def test_requests_for_another_device_or_other_keys_are_refused(world: World, ann: Client) -> None:
    ripe(world)
    size = world.core.directory.realm.size
    assert ann.refused(certify(world, ann, "bob")) == "wrong_name"
    me = world.people["ann"]
    other = build_requests(world.people["bob"].device, me.id)
    assert ann.refused(Certify(rid=ann.next(), requests=list(other))) == "conflict"
    assert ann.refused(Certify(rid=ann.next(), requests=[])) == "bad_cert"
    assert world.core.directory.realm.size == size


def test_an_expired_device_renews_nothing(world: World, ann: Client) -> None:
    world.now += 91 * limits.DAY
    assert ann.refused(certify(world, ann)) == "expired"


def test_certificates_are_renewed_once_for_the_same_keys(world: World, ann: Client) -> None:
    before = world.core.directory.realm.device(world.people["ann"].id)
    ripe(world)
    ann.ask(certify(world, ann), Done)
    after = world.core.directory.realm.device(world.people["ann"].id)
    assert after.spki_hashes == before.spki_hashes
    assert after.not_after > before.not_after
    assert ann.refused(certify(world, ann)) == "quota"


# --- a start ------------------------------------------------------------------------------------------------


def verified_at_a_start(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose leaves ("leaf") and manifests ("manifest") a relay verifies that starts over these rows."""
    seen: list[str] = []
    leaf, manifest = Authorities.verify, manifests.verify

    def spy_leaf(self: Authorities, der: bytes, at: int, expected: str, *rest: Any) -> VerifiedCertificate:
        seen.append(f"leaf of {expected}")
        return leaf(self, der, at, expected, *rest)

    def spy_manifest(key: VerifyKey, signature: bytes, label: str, user: str, *rest: object) -> None:
        seen.append(f"{label} of {user}")
        manifest(key, signature, label, user, *rest)

    with monkeypatch.context() as spies:
        spies.setattr(Authorities, "verify", spy_leaf)
        spies.setattr(manifests, "verify", spy_manifest)
        world.start()
    return seen


def test_a_start_verifies_no_record_that_this_relay_has_appended(
    world: World, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled_elsewhere = verified_at_a_start(world, monkeypatch)
    assert len(enrolled_elsewhere) >= 2 * len(world.people), "nothing is known of them"
    ann = world.client("ann")
    ripe(world)
    ann.ask(certify(world, ann), Done)
    ann.ask(Append(rid=ann.next(), record=next_manifest(world.people["ann"], world.now)), Ack)
    before = world.core.directory.realm
    assert verified_at_a_start(world, monkeypatch) == enrolled_elsewhere
    again = world.core.directory.realm
    assert [again.roster_row(person.id) for person in world.people.values()] == [
        before.roster_row(person.id) for person in world.people.values()
    ]
    assert again.device(ann.person.id).serials == before.device(ann.person.id).serials


def test_what_was_found_of_other_leaves_is_damage(world: World, ann: Client) -> None:
    ripe(world)
    ann.ask(certify(world, ann), Done)
    world.store.apply([PutMeta(found_key(world.core.directory.realm.size), b"")])
    world.store.refresh()
    with pytest.raises(UnavailableError) as caught:
        world.start()
    assert caught.value.code == "damaged"


# --- views --------------------------------------------------------------------------------------------------


def test_every_device_reads_the_realm_log_and_folds_the_same(world: World, ann: Client) -> None:
    page = ann.present(REALM_LOG)
    chain = world.chain(REALM_LOG).extend(page.entries, page.head, world.head_keys)
    assert chain.seq == len(world.realm.records)
    assert all(isinstance(entry, frames.Entry) for entry in page.entries)


def test_followers_of_the_realm_log_get_records_and_go_on_following(world: World, ann: Client) -> None:
    bob = world.client("bob")
    bob.present(REALM_LOG)
    for _ in range(2):
        ann.ask(Append(rid=ann.next(), record=next_manifest(world.people["ann"], world.now)), Ack)
        (pushed,) = bob.hear()
        assert isinstance(pushed, frames.Pushed)
        world.head_keys.verify(REALM_LOG, pushed.head)


def test_the_same_record_again_gets_the_same_ack(world: World, ann: Client) -> None:
    record = next_manifest(world.people["ann"], world.now)
    first = ann.ask(Append(rid=ann.next(), record=record), Ack)
    assert ann.ask(Append(rid=ann.next(), record=record), Ack).seq == first.seq


def test_a_revocation_list_may_be_posted_by_anybody(world: World, ann: Client) -> None:
    bob = world.client("bob")
    world.realm.authority.revoke(world.people["bob"].id, world.now)
    record = NewCrl(crl=world.realm.authority.crl(world.now)).encode()
    ann.ask(Append(rid=ann.next(), record=record), Ack)
    assert bob.wire.closed == "revoked"


def test_users_are_listed_and_their_keys_given(world: World, ann: Client) -> None:
    assert ann.ask(UserList(rid=ann.next()), frames.Users).names == ["ann", "bob", "cy"]
    answer = ann.ask(GetPubkey(rid=ann.next(), username="bob"), frames.Pubkey)
    assert identity_fingerprint(answer.identity_key) == world.people["bob"].keys.fingerprint
    assert answer.log_index == 3


def test_the_newest_mailbox_key_is_given_stored_or_not(world: World, ann: Client) -> None:
    me = world.people["ann"]
    statements = []
    for step in (1, 2):
        object.__setattr__(me.device, "mailbox", DhKey.generate(world.rng))
        statements.append(MailboxKey.make(me.id, me.device, world.now + step).encode())
        ann.say(PutMailKey(rid=ann.next(), statement=statements[-1]))
        ann.say(GetMailKeys(rid=ann.next(), devices=[me.id]))
        assert [each.statements for each in ann.hear() if isinstance(each, MailKeys)] == [[statements[-1]]]
    world.step()
    world.start()
    again = world.client("bob")
    answer = again.ask(GetMailKeys(rid=again.next(), devices=[me.id, world.people["bob"].id]), MailKeys)
    assert answer.statements == [statements[-1], None]


def test_a_device_in_the_manifest_without_certificates_hinders_nothing(world: World, ann: Client) -> None:
    from cloister.identity.manifest import Row

    person = world.people["ann"]
    other = Row(device_id=person.id.replace("phone", "laptop"), ed25519=bytes(32))
    person.manifest = person.manifest.successor(person.keys, [person.row, other], world.now)
    ann.ask(Append(rid=ann.next(), record=NewManifest(manifest=person.manifest.encoded).encode()), Ack)
    ann.ask(Append(rid=ann.next(), record=next_manifest(person, world.now)), Ack)
    assert not ann.wire.closed
