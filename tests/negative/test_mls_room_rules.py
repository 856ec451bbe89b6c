"""What a room of suite `mls` refuses beyond RFC 9420: from the relay, from members who sign too much, from outside.

Every refusal names its check, and leaves the session as it was; the controls stand in tests/machines/test_mls_rooms.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.identity.certificate import build_requests
from cloister.mls import (
    Add,
    CommitOptions,
    Credential,
    Extension,
    GroupContextExtensions,
    Policy,
    PreSharedKey,
    Proposal,
    Remove,
    decode_message,
    encode_message,
    make_key_package,
)
from cloister.mls.key_package import lifetime_from
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    Add as AddDevice,
)
from cloister.protocols.interface import (
    Behind,
    Channel,
    ChannelKind,
    EntryKind,
    Envelope,
    Need,
    Rekey,
    RoomPolicy,
    Who,
)
from cloister.protocols.mls import rules
from cloister.protocols.mls import session as mls_session
from cloister.protocols.mls.items import Invitation
from cloister.protocols.mls.room import access_token
from support.mls_net import AUTHORITY, MLS, MlsNode, mls_room, refusal_mls
from support.suite_net import NOW, POLICY, ROOM, seeded


def evil_commit(
    member: MlsNode,
    proposals: list[Proposal],
    *,
    log_size: int | None = None,
    entry_id: bytes = b"e" * 16,
    token: bytes | None = None,
) -> Envelope:
    """A commit that a member signs, whatever the room's rules say, as the relay would show it."""
    session = member.mls
    session.group.policy = Policy(validate=lambda credential, key, now: True, kept_epochs=0)
    size = member.net.directory.size if log_size is None else log_size
    outer = rules.Outer(entry_id=b"e" * 16, kind=EntryKind.COMMIT, head=None, log_size=size)
    staged = session.group.commit(NOW, seeded("evil"), proposals, CommitOptions(authenticated_data=outer.encode()))
    return Envelope(
        channel=Channel(ChannelKind.ROOM, ROOM),
        kind=EntryKind.COMMIT,
        payload=staged.message,
        entry_id=entry_id,
        seq=99,
        token_hash=session.token_hash,
        next_token_hash=sha256(token or access_token(staged, ROOM)),
        ts_ms=NOW,
    )


def leaf(node: MlsNode, other: MlsNode) -> int:
    return next(index for index, device in node.mls.devices.items() if device == other.name)


def package_of(node: MlsNode) -> Add:
    made = next(iter(node.own.values()))
    package = decode_message(made.public)
    return Add(package)  # type: ignore[arg-type]


# --- members ------------------------------------------------------------------------------------------------


def test_a_removal_by_a_member_who_may_not_is_refused_and_named() -> None:
    _, (a, b, c) = mls_room(3)
    fault = refusal_mls(a, evil_commit(b, [Remove(leaf(b, c))]), code="not_allowed", check="GRP-07")
    assert fault.peer == b.name


def test_an_add_by_a_member_who_may_not_is_refused_and_named() -> None:
    net, (a, b) = mls_room(2, policy=replace(POLICY, may_add=Who.OWNERS))
    c = net.member("c", 2)
    fault = refusal_mls(a, evil_commit(b, [package_of(c)]), code="not_allowed", check="GRP-07")
    assert fault.peer == b.name


def test_a_new_policy_by_a_member_who_may_not_is_refused() -> None:
    _, (a, b) = mls_room(2)
    mine = GroupContextExtensions(rules.extensions_of(RoomPolicy(title="mine", owners=("b",))))
    refusal_mls(a, evil_commit(b, [mine]), code="not_allowed", check="GRP-07")


def test_an_empty_commit_needs_the_right_to_rekey() -> None:
    _, (a, b) = mls_room(2, policy=replace(POLICY, may_rekey=Who.NOBODY))
    refusal_mls(a, evil_commit(b, []), code="not_allowed", check="GRP-07")


def test_a_group_context_that_is_not_a_rooms_is_refused() -> None:
    _, (a, b) = mls_room(2, policy=replace(POLICY, owners=("b",)))
    extensions = rules.extensions_of(POLICY)
    for changed in ((extensions[0],), (*extensions, Extension(1, b"x")), extensions[::-1]):
        refusal_mls(a, evil_commit(b, [GroupContextExtensions(changed)]), code="wrong_context", check="GRP-02")


def test_a_kind_of_proposal_that_rooms_do_not_use_is_refused() -> None:
    _, (a, b) = mls_room(2)
    psk = b.mls.group.new_psk_id(seeded("psk"), epoch=b.mls.group.epoch)
    refusal_mls(a, evil_commit(b, [PreSharedKey(psk)]), code="not_allowed", check="GRP-06")


def test_a_second_leaf_of_a_device_is_refused() -> None:
    _, (a, b, c) = mls_room(3)
    key, index = c.me.keys.device, leaf(b, c)
    identity = rules.identity_of(c.me, rules.own_certificate(c.me))
    again = make_key_package(rules.CIPHER_SUITE, key, identity.template, lifetime_from(NOW), seeded("again"))
    assert index in b.mls.devices
    envelope = evil_commit_unchecked(b, Add(again.package))
    assert envelope is None, "the engine itself knows that nobody has one signature key twice"
    with pytest.raises(PeerError) as caught:
        rules.check_members([a.name, c.name, c.name], a.net.directory, a.net.directory.size)
    assert (caught.value.code, caught.value.check) == ("roster", "GRP-05")


def evil_commit_unchecked(member: MlsNode, add: Add) -> Envelope | None:
    from cloister.errors import UsageError

    try:
        return evil_commit(member, [add])
    except UsageError:
        return None


def test_a_commit_that_keeps_a_revoked_member_is_refused() -> None:
    net, (a, b, c) = mls_room(3)
    net.directory.refuse(c.name, "revoked")
    refusal_mls(a, evil_commit(b, []), code="roster", check="GRP-05")


def test_a_commit_by_a_revoked_member_is_refused() -> None:
    net, (a, b, _) = mls_room(3)
    envelope = evil_commit(b, [], log_size=net.directory.size + 1)
    net.directory.refuse(b.name, "revoked")
    refusal_mls(a, envelope, code="not_allowed", check="MLS-V043")


def test_an_expired_newcomer_is_refused() -> None:
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    envelope = evil_commit(b, [package_of(c)], log_size=net.directory.size + 1)
    net.directory.refuse(c.name, "expired")
    fault = refusal_mls(a, envelope, code="expired")
    assert fault.peer == b.name
    with pytest.raises(PeerError):
        rules.check_newcomers([c.name], net.directory, net.directory.size)  # GRP-08


# --- the realm log's size -----------------------------------------------------------------------------------


def test_a_commit_that_judges_by_an_older_realm_log_is_refused() -> None:
    _, (a, b) = mls_room(2)
    for size in (0, 1):
        refusal_mls(a, evil_commit(b, [], log_size=size), code="stale_epoch", check="GRP-04")


def test_a_commit_that_names_a_longer_realm_log_waits_for_it() -> None:
    net, (a, b) = mls_room(2)
    size = net.directory.size + 1
    envelope = evil_commit(b, [], log_size=size)
    assert a.live.receive(envelope, NOW, seeded(1)) == (Need(what="realm", ids=(size.to_bytes(8, "big"),)),)


# --- the relay ----------------------------------------------------------------------------------------------


def test_an_entry_that_is_shown_under_another_id_is_misrouted() -> None:
    net, (a, b) = mls_room(2)
    refusal_mls(a, evil_commit(b, [], entry_id=b"f" * 16), code="misrouted", check="GRP-03")
    b.say(b"hello")
    entry = net.rooms[ROOM].entries[-1]
    refusal_mls(a, replace(entry, entry_id=b"f" * 16), code="misrouted", check="GRP-03")
    net.settle()
    assert [each.content for each in a.delivered] == [b"hello"]


def test_a_message_is_not_taken_twice_nor_under_another_kind_or_room_or_token() -> None:
    net, (a, b) = mls_room(2)
    b.say(b"hello")
    entry = net.rooms[ROOM].entries[-1]
    refusal_mls(a, replace(entry, kind=EntryKind.COMMIT), code="inner_outer")
    refusal_mls(a, replace(entry, kind="other"), code="unsupported")
    refusal_mls(a, replace(entry, channel=Channel(ChannelKind.ROOM, bytes(16))), code="misrouted")
    refusal_mls(a, replace(entry, token_hash=bytes(32)), code="stale_epoch")
    refusal_mls(a, replace(entry, payload=entry.payload[:-1]), code="bad_encoding", check="MLS-V001")
    net.settle()
    refusal_mls(a, entry, code="replay", check="MLS-V022")


def test_a_commit_whose_next_token_is_another_is_refused() -> None:
    _, (a, b) = mls_room(2)
    refusal_mls(a, evil_commit(b, [], token=b"t" * 32), code="wrong_context", check="GRP-09")


def test_messages_of_another_room_are_refused() -> None:
    _, (a, _) = mls_room(2)
    net, (_, d) = mls_room(2, seed="other")
    d.say(b"elsewhere")
    entry = net.rooms[ROOM].entries[-1]
    fault = a.live.receive(replace(entry, token_hash=a.mls.token_hash), NOW, seeded(1))
    assert [each.code for each in fault] == ["bad_tag"]  # type: ignore[union-attr]


def test_the_rooms_first_entry_is_taken_once_and_as_it_was_made() -> None:
    net, (a, _) = mls_room(2)
    create = net.rooms[ROOM].entries[0]
    refusal_mls(a, create, code="wrong_context")
    net, (alone,) = mls_room(1)
    create = net.rooms[ROOM].entries[0]
    refusal_mls(alone, create, code="replay")


# --- invitations --------------------------------------------------------------------------------------------


def invited() -> tuple[MlsNode, MlsNode, Envelope]:
    """a and b in a room, c invited and not yet in: b, c and the invitation."""
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    a.change(AddDevice(c.name))
    net.settle([a, b])
    return b, c, net.mail[c.name][0]


def join(node: MlsNode, envelope: Envelope) -> None:
    """As the engine does: what stands beside the commit is fetched when it is asked for."""
    read = Invitation.decode(envelope.payload, envelope.sender)
    try:
        MLS.join(node.me, envelope, node.own[read.ref], NOW, seeded("join"))
    except Behind as behind:
        if behind.need.what != "group info":
            raise
        beside = replace(envelope, attachments=node.beside(behind.need))
        MLS.join(node.me, beside, node.own[read.ref], NOW, seeded("join"))


def changed(envelope: Envelope, **values: object) -> Envelope:
    read = Invitation.decode(envelope.payload, envelope.sender)
    return replace(envelope, payload=replace(read, **values).encode())  # type: ignore[arg-type]


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_an_invitation_of_no_member_is_refused() -> None:
    _, c, envelope = invited()
    join(c, envelope)
    for sender in ("cloister://home/u/x/d/phone", c.name):
        with pytest.raises(PeerError) as caught:
            join(c, replace(envelope, sender=sender))
        assert (caught.value.code, caught.value.check) == ("not_inviter", "GRP-10")


def test_an_invitation_that_was_altered_or_is_too_early_is_refused() -> None:
    _, c, envelope = invited()
    read = Invitation.decode(envelope.payload, envelope.sender)
    with pytest.raises(Behind):
        join(c, changed(envelope, log_size=read.log_size + 1))
    for wrong in (changed(envelope, log_size=0), changed(envelope, welcome=flipped(read.welcome))):
        with pytest.raises(PeerError):
            join(c, wrong)
    with pytest.raises(PeerError):
        join(c, replace(envelope, kind="propose"))


def test_a_room_beyond_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, c, envelope = invited()
    monkeypatch.setattr(rules, "MEMBERS", 2)
    with pytest.raises(PeerError) as caught:
        join(c, envelope)
    assert (caught.value.code, caught.value.check) == ("quota", "GRP-05")
    monkeypatch.setattr(rules, "MEMBERS", 3)
    join(c, envelope)


def test_an_invitation_that_names_another_realm_log_than_its_commit_is_found_out() -> None:
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    net.member("d", 3)
    a.change(AddDevice(c.name))
    net.settle([a, b])
    net.mail[c.name][0] = changed(net.mail[c.name][0], log_size=3)
    net.settle()
    assert [fault.code for fault in c.faults] == ["wrong_context"]


# --- credentials and packages -------------------------------------------------------------------------------


def test_a_leaf_without_the_one_certificate_of_a_device_is_refused() -> None:
    _, (a, _) = mls_room(2)
    der = rules.own_certificate(a.me)
    assert rules.check_credential(Credential.x509((der,))) == a.name
    for wrong in (Credential.basic(b"a"), Credential.x509(()), Credential.x509((der, der))):
        with pytest.raises(PeerError) as caught:
            rules.check_credential(wrong)
        assert (caught.value.code, caught.value.check) == ("bad_cert", "GRP-01")


def test_a_package_that_is_not_as_declared_is_refused() -> None:
    _, (a, _) = mls_room(2)
    made = next(iter(a.own.values()))
    row = mls_session.ClaimedPackage(a.name, made.public, made.ref, made.not_before, made.expires)
    mls_session.check_package(row, NOW)
    for wrong, now, code in (
        (replace(row, ref=bytes(32)), NOW, "conflict"),
        (replace(row, not_after=row.not_after + 1), NOW, "conflict"),
        (replace(row, device="cloister://home/u/b/d/phone"), NOW, "identity_changed"),
        (row, made.expires + 1, "expired"),
        (row, made.not_before - 1, "expired"),
    ):
        with pytest.raises(PeerError) as caught:
            mls_session.check_package(wrong, now)
        assert (caught.value.code, caught.value.check) == (code, "GRP-11")
    with pytest.raises(PeerError):
        mls_session.check_package(replace(row, public=enc(1)), NOW)


def test_a_forged_key_under_a_true_certificate_is_refused() -> None:
    net, (a, b, c) = mls_room(3)
    d = net.member("d", 3)
    identity = rules.identity_of(d.me, rules.own_certificate(d.me))
    stolen = make_key_package(
        rules.CIPHER_SUITE, c.me.keys.device, identity.template, lifetime_from(NOW), seeded("forged")
    )
    row = enc([[d.name, encode_message(stolen.package), stolen.package.reference(), *_life(stolen.package)]])
    b.offline = True
    b.change(AddDevice(d.name))
    effects = b.live.answer("prekeys", row, NOW, b.rng)
    assert [(each.code, each.peer) for each in effects if hasattr(each, "peer")] == [("not_allowed", d.name)]
    assert a.live.view.epoch == b.live.view.epoch


def test_a_certificate_that_the_log_does_not_have_is_refused() -> None:
    """It may name the device and its key, and still be the authority's (or the device's) word to some alone."""
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    record = net.directory.device(c.name, net.directory.size)
    requests = build_requests(c.me.keys, c.name)
    renewed = AUTHORITY.issue(requests, c.name, NOW + 86_400_000, seeded("renewed"))
    identity = rules.identity_of(c.me, renewed[0])
    own = make_key_package(rules.CIPHER_SUITE, identity.key, identity.template, lifetime_from(NOW), seeded("package"))
    row = enc([[c.name, encode_message(own.package), own.package.reference(), *_life(own.package)]])
    b.offline = True
    b.change(AddDevice(c.name))
    effects = b.live.answer("prekeys", row, NOW, b.rng)
    assert [(each.code, each.peer) for each in effects if hasattr(each, "peer")] == [("not_allowed", c.name)]
    with pytest.raises(PeerError) as caught:
        rules.check_logged(renewed[0], record, net.directory)
    assert (caught.value.code, caught.value.check) == ("bad_cert", "GRP-12")
    net.directory.renew(c.name, renewed)
    newest = net.directory.device(c.name, net.directory.size)
    for certificate in (renewed[0], record.certificates[0]):
        rules.check_logged(certificate, newest, net.directory)
    b.offline = False
    net.pass_time(60_000)
    net.settle()
    assert c.live.view.roster == (a.name, b.name, c.name)


def test_a_certificate_of_the_devices_earlier_key_is_refused() -> None:
    net, (a, b) = mls_room(2)
    old = net.directory.device(a.name, net.directory.size)
    net.directory.renew(a.name, ())
    new = replace(net.directory.device(a.name, net.directory.size), key=b.me.keys.device.public)
    with pytest.raises(PeerError) as caught:
        rules.check_logged(old.certificates[0], new, net.directory)
    assert (caught.value.code, caught.value.check) == ("bad_cert", "GRP-12")


def _life(package: object) -> tuple[int, int]:
    lifetime = package.leaf_node.lifetime  # type: ignore[attr-defined]
    return lifetime.not_before * 1000, lifetime.not_after * 1000


def test_a_wish_is_carried_out_only_while_its_maker_has_the_right() -> None:
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    b.offline = True
    b.change(AddDevice(c.name))
    net.directory.refuse(c.name, "revoked")
    rows = enc([net.claim(c.name)])
    b.apply(b.live.answer("prekeys", rows, NOW, b.rng))
    assert [fault.code for fault in b.faults] == ["revoked"]
    assert b.live.view.pending_changes == ()
    a.change(Rekey())
    net.settle([a, b])
