"""Suite `transport`: every check refuses what it is for, by its id and code; a refusal changes nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError, UsageError
from cloister.primitives.labelled import mac, sign
from cloister.protocols.interface import Behind, Channel, ChannelKind, Envelope, Fault, Need, Rekey, Session, State
from cloister.protocols.rounds.run import NO_TH
from cloister.protocols.transport import checks, steps
from cloister.protocols.transport.steps import ACK_LIFE, EARLY, LATE, Ack, Leave, Steps
from cloister.protocols.transport.suite import Transport
from support.suite_net import MAILBOX, NOW, POLICY, ROOM, agreed, keys_of, seeded
from support.transport_insider import SUITE, Forged, Standing, refusal, spoilt, standing

OTHER = bytes(range(16, 32))


def _signer(index: int) -> Any:
    key = keys_of(index).rsa_sign
    assert key is not None
    return key


def _invited(room: Standing, forged: Forged, victim: int = 1) -> Session:
    """The victim, with the invitation taken."""
    session = room.session(victim)
    assert not [e for e in session.receive(forged.invite, NOW, seeded("i")) if isinstance(e, Fault)]
    return session


def _terms(**changes: object) -> Any:
    return lambda token: replace(token, terms=replace(token.terms, **changes))


def test_the_unaltered_invitation_and_commit_are_taken() -> None:
    """The control of every test below."""
    room = standing()
    forged = room.forge()
    session = _invited(room, forged)
    session.receive(forged.commit, NOW, seeded("c"))
    assert (session.view.epoch, session.view.state) == (2, State.READY)


# --- invitations -------------------------------------------------------------------------------------------


def test_tra_01_an_invitation_for_another_device_or_room_is_refused() -> None:
    room = standing()
    refusal(room.session(2), room.forge(to=1).invite, code="misrouted", check="TRA-01")
    refusal(room.session(), room.forge(room.context(room=OTHER)).invite, code="misrouted", check="TRA-01")


def test_tra_02_an_invitation_that_somebody_else_sends_on_is_refused() -> None:
    room = standing()
    sent = replace(room.forge().invite, sender=room.nodes[2].name)
    refusal(room.session(), sent, code="inner_outer", check="TRA-02")


@pytest.mark.parametrize("variant", ["document 002", "strict"])
def test_tra_03_a_variant_that_the_room_does_not_have_is_refused(variant: str) -> None:
    room = standing()
    forged = room.forge(room.context(variant=variant))
    refusal(room.session(), forged.invite, code="not_allowed", check="TRA-03")


def test_tra_04_an_invitation_that_the_inviter_did_not_sign_is_refused() -> None:
    room = standing()
    refusal(room.session(), room.forge(token_by=2).invite, code="bad_sig", check="TRA-04")


@pytest.mark.parametrize("ts", [NOW + EARLY + 1, NOW - LATE - 1])
def test_tra_05_a_timestamp_of_the_future_or_long_past_is_refused(ts: int) -> None:
    room = standing()
    forged = room.forge(room.context(deadline=ts + ACK_LIFE), token=lambda token: replace(token, ts=ts))
    refusal(room.session(), forged.invite, code="stale_timestamp", check="TRA-05")


@pytest.mark.parametrize("deadline", [NOW, NOW + ACK_LIFE + 1])
def test_tra_05_a_deadline_before_its_invitation_or_a_day_after_it_is_refused(deadline: int) -> None:
    room = standing()
    forged = room.forge(room.context(deadline=deadline))
    refusal(room.session(), forged.invite, code="stale_timestamp", check="TRA-05")


@pytest.mark.parametrize("ts", [NOW + EARLY, NOW - LATE])
def test_a_timestamp_at_the_bound_is_taken(ts: int) -> None:
    room = standing()
    forged = room.forge(room.context(deadline=ts + ACK_LIFE), token=lambda token: replace(token, ts=ts))
    _invited(room, forged)


def test_tra_06_an_invitation_is_taken_once() -> None:
    room = standing()
    forged = room.forge()
    session = _invited(room, forged)
    refusal(session, forged.invite, code="replay", check="TRA-06")
    again = room.forge(token=lambda token: replace(token, invite_id=bytes(16)))
    refusal(session, again.invite, code="replay", check="TRA-06")
    other = room.forge(room.context(run_id=OTHER))
    refusal(session, other.invite, code="replay", check="TRA-06")


def test_tra_07_an_invitation_to_an_epoch_that_is_held_is_refused() -> None:
    room = standing()
    for epoch in (0, 1):
        forged = room.forge(room.context(epoch=epoch))
        refusal(room.session(), forged.invite, code="stale_epoch", check="TRA-07")


def test_tra_08_an_invitation_to_the_next_epoch_by_a_stranger_is_refused() -> None:
    room = standing()
    forged = room.forge(room.context(proposer=room.guests[0]), by=3)
    refusal(room.session(), forged.invite, code="not_inviter", check="TRA-08")


def test_tra_09_one_inviter_leaves_few_invitations_without_their_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "HELD_MOST", 2)
    room = standing()
    session = room.session()
    for number in range(3):
        name = bytes([number]) * 16
        context = room.context(run_id=name, epoch=3 + number, prev_th=bytes([number]) * 32)
        forged = room.forge(context, token=lambda token, name=name: replace(token, invite_id=name))
        if number < 2:
            session.receive(forged.invite, NOW, seeded(number))
        else:
            refusal(session, forged.invite, code="quota", check="TRA-09")


def test_a_ciphertext_for_another_context_or_recipient_does_not_open() -> None:
    room = standing()
    other = steps.Invite.decode(room.forge(room.context(run_id=OTHER)).invite.payload).token.ciphertext
    forged = room.forge(token=lambda token: replace(token, ciphertext=other))
    refusal(room.session(), forged.invite, code="bad_share")
    other = steps.Invite.decode(room.forge(to=2).invite.payload).token.ciphertext
    forged = room.forge(token=lambda token: replace(token, ciphertext=other))
    refusal(room.session(), forged.invite, code="bad_share")


@pytest.mark.parametrize(
    "inside",
    [
        lambda terms, key: Steps().inside(replace(terms, inviter="cloister://home/u/c/d/phone")) + key,
        lambda terms, key: Steps().inside(replace(terms, room=OTHER)) + key,
        lambda terms, key: Steps().inside(terms) + key + b"\0",
        lambda terms, key: key,
    ],
)
def test_tra_10_a_key_that_names_another_inviter_or_room_is_refused(inside: Any) -> None:
    room = standing()
    refusal(room.session(), room.forge(inside=inside).invite, code="inner_outer", check="TRA-10")


def test_tra_11_a_key_that_was_not_committed_to_is_refused() -> None:
    room = standing()
    forged = room.forge(token=lambda token: replace(token, key_hash=bytes(32)))
    refusal(room.session(), forged.invite, code="commit_mismatch", check="TRA-11")


def test_the_directorys_refusals_pass_through() -> None:
    net, nodes = agreed(SUITE, 2, "directory")
    nodes[0].change(Rekey())
    (invite,) = net.mail[nodes[1].name]
    for code in ("revoked", "not_in_manifest", "expired"):
        session = SUITE.restore(nodes[1].me, nodes[1].items)
        versions = net.directory._versions[nodes[0].name]
        versions.append((net.directory.size, code))
        refusal(session, invite, code=code)
        versions.pop()
    stranger = replace(invite, payload=_renamed(invite.payload, "cloister://home/u/zz/d/phone"))
    stranger = replace(stranger, sender="cloister://home/u/zz/d/phone")
    refusal(SUITE.restore(nodes[1].me, nodes[1].items), stranger, code="unknown_sender")


def _renamed(payload: bytes, inviter: str) -> bytes:
    invite = steps.Invite.decode(payload)
    token = replace(invite.token, terms=replace(invite.token.terms, inviter=inviter))
    return steps.Invite(token, invite.signature).encode()


def test_an_inviter_without_certified_rsa_keys_is_refused() -> None:
    room = standing()
    sent = room.forge().invite
    renamed = replace(sent, payload=_renamed(sent.payload, room.guests[1]), sender=room.guests[1])
    refusal(room.session(), renamed, code="not_ready", check="CTX-01")


def test_an_invitation_that_names_a_longer_realm_log_waits_for_it() -> None:
    net, nodes = agreed(SUITE, 2, "behind")
    nodes[0].change(Rekey())
    (invite,) = net.mail[nodes[1].name]
    token = steps.Invite.decode(invite.payload).token
    later = replace(token, terms=replace(token.terms, log_size=net.directory.size + 1))
    ahead = replace(invite, payload=steps.Invite(later).signed(_signer(0)).encode())
    (need,) = nodes[1].live.receive(ahead, NOW, seeded("behind"))
    assert isinstance(need, Need)
    assert need.what == "realm"
    with pytest.raises(Behind):
        SUITE.join(nodes[1].me, ahead, None, NOW, seeded("behind"))


def test_only_an_invitation_leads_into_a_room() -> None:
    room = standing()
    sent = replace(room.forge().invite, kind="welcome")
    with pytest.raises(PeerError) as refused:
        SUITE.join(room.nodes[1].me, sent, None, NOW, seeded("join"))
    assert refused.value.code == "no_session"
    refusal(room.session(), sent, code="unsupported")


def test_a_profile_without_rsa_keys_neither_makes_a_room_nor_enters_one() -> None:
    room = standing()
    me = replace(room.nodes[1].me, keys=keys_of(1, rsa=False))
    with pytest.raises(UsageError) as refused:
        SUITE.create(me, ROOM, POLICY, NOW, seeded("create"))
    assert refused.value.code == "not_ready"
    with pytest.raises(UsageError) as refused:
        SUITE.join(me, room.forge().invite, None, NOW, seeded("join"))
    assert refused.value.code == "not_ready"


# --- commits -----------------------------------------------------------------------------------------------


def test_tra_12_the_first_epoch_makes_a_room_and_a_later_one_ends_another() -> None:
    room = standing()
    first = room.forge(room.context(prev_th=NO_TH, epoch=1), to=3, invitees=room.epoch.roster[1:], new_room=True)
    guest = _guest(room, first)
    refusal(guest, replace(first.commit, token_hash=room.epoch.token_hash), code="stale_epoch", check="TRA-12")
    later = room.forge(room.context(roster=_with_guest(room)), to=3, invitees=room.guests[:1])
    guest = _guest(room, later)
    refusal(guest, replace(later.commit, token_hash=bytes(32)), code="stale_epoch", check="TRA-12")


def _with_guest(room: Standing) -> tuple[str, ...]:
    return tuple(sorted({*room.epoch.roster, room.guests[0]}))


def _guest(room: Standing, forged: Forged) -> Session:
    """Somebody who has been invited and has read nothing yet."""
    me = replace(room.nodes[1].me, device=room.guests[0], keys=keys_of(3))
    session, _ = SUITE.join(me, forged.invite, None, NOW, seeded("guest"))
    return session


def test_a_commit_that_no_member_made_ends_nothing() -> None:
    room = standing()
    forged = room.forge()
    session = _invited(room, forged)
    for payload in (forged.commit.payload[:-1] + b"\0", steps.CommitEntry(bytes(16), bytes(32), b"").encode()):
        refusal(session, replace(forged.commit, payload=payload), code="bad_tag")
    stranger = room.forge(ending=lambda ending: replace(ending, inviter=room.guests[0]))
    refusal(room.session(), stranger.commit, code="unknown_sender")


def test_tra_13_a_commit_that_the_named_member_did_not_sign_ends_nothing() -> None:
    room = standing()
    forged = room.forge(ending_by=2)
    refusal(_invited(room, forged), forged.commit, code="bad_sig", check="TRA-13")


def test_tra_14_two_keys_from_one_inviter_are_proven_by_tok_beside_the_commit() -> None:
    room = standing()
    forged = room.forge(other_key=bytes([1]) * 32)
    session = _invited(room, forged)
    fault = spoilt(session, forged.commit, code="commit_mismatch", check="TRA-14")
    assert fault.peer == room.nodes[0].name
    assert fault.evidence == enc(forged.invite.payload, forged.commit.payload)
    assert session.view.state is State.REMOVED


def test_tra_14_another_commit_than_the_invitations_is_refused_by_a_newcomer_who_blames_nobody() -> None:
    room = standing()
    context = room.context(roster=_with_guest(room))
    forged = room.forge(context, to=3, invitees=room.guests[:1])
    other = room.forge(context, to=3, invitees=room.guests[:1])
    assert other.commit.payload != forged.commit.payload, "signatures draw their salt"
    fault = refusal(_guest(room, forged), other.commit, code="commit_mismatch", check="TRA-14")
    assert fault.peer is None


def test_tra_15_a_key_that_does_not_open_the_commit_is_the_inviters_doing() -> None:
    room = standing()
    forged = room.forge(entry=lambda entry: _boxed(room, entry, bytes(80)))
    spoilt(_invited(room, forged), forged.commit, code="commit_mismatch", check="TRA-15")


def _boxed(room: Standing, entry: steps.CommitEntry, box: bytes) -> steps.CommitEntry:
    """The entry with another box, bound to the epoch that it ends."""
    ending = steps.Ending(inviter=room.nodes[0].name, removed=())
    return steps.seal_ending(room.epoch.exporter, room.epoch.th, replace(entry, box=box), ending, _signer(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"deadline": NOW + 1},
        {"policy": replace(POLICY, title="another")},
        {"roster": ("cloister://home/u/a/d/phone", "cloister://home/u/b/d/phone")},
        {"epoch": 3},
        {"suite": "shares"},
    ],
)
def test_tra_16_a_box_with_another_context_than_the_invitations_is_refused(changes: dict[str, object]) -> None:
    room = standing()
    forged = room.forge(boxed=lambda context: replace(context, **changes))
    spoilt(_invited(room, forged), forged.commit, code="wrong_context", check="TRA-16")


def test_tra_17_a_box_that_the_inviter_did_not_sign_is_refused() -> None:
    room = standing()
    forged = room.forge(box_by=2)
    spoilt(_invited(room, forged), forged.commit, code="bad_sig", check="TRA-17")


def test_tra_18_a_roster_without_this_device_or_the_invited_is_refused() -> None:
    room = standing()
    without = room.forge(room.context(roster=room.epoch.roster[::2]), removed=room.epoch.roster[1:2])
    session = _invited(room, without)
    effects = session.receive(without.commit, NOW, seeded("out"))
    assert not [effect for effect in effects if isinstance(effect, Fault)]
    assert session.view.state is State.REMOVED, "the ending says so, and it is signed"
    silently = room.forge(room.context(roster=room.epoch.roster[::2]))
    spoilt(_invited(room, silently), silently.commit, code="roster", check="TRA-18")
    stranger = room.forge(invitees=room.guests[:1])
    spoilt(_invited(room, stranger), stranger.commit, code="roster", check="TRA-18")


@pytest.mark.parametrize("kind", ["added in silence", "removed in silence", "asked in twice"])
def test_tra_19_a_roster_that_does_not_follow_is_refused(kind: str) -> None:
    room = standing()
    match kind:
        case "added in silence":
            forged = room.forge(room.context(roster=_with_guest(room)))
        case "removed in silence":
            forged = room.forge(room.context(roster=room.epoch.roster[:2]))
        case _:
            forged = room.forge(invitees=room.epoch.roster[1:2])
    spoilt(_invited(room, forged), forged.commit, code="roster", check="TRA-19")


def test_tra_19_who_is_out_of_the_realm_is_not_left_in() -> None:
    net, nodes = agreed(SUITE, 3, "gone")
    nodes[0].change(Rekey())
    log = net.rooms[ROOM]
    net.settle(nodes[:1])
    mail = net.mail[nodes[1].name][0]
    session = SUITE.restore(nodes[1].me, nodes[1].items)
    session.receive(mail, NOW, seeded("mail"))
    net.directory._versions[nodes[2].name].append((net.directory.size, "revoked"))
    commit = next(entry for entry in log.entries if entry.kind == "commit")
    effects = session.receive(commit, NOW, seeded("commit"))
    codes = [effect.code for effect in effects if isinstance(effect, Fault)]
    assert codes == ["revoked", "locked_out"], "its certificate does not count at the commit's log size"


def test_tra_20_a_member_who_is_no_inviter_makes_no_epoch() -> None:
    room = standing()
    forged = room.forge(room.context(proposer=room.nodes[2].name), by=2)
    fault = spoilt(_invited(room, forged), forged.commit, code="not_inviter", check="TRA-20")
    assert fault.peer == room.nodes[2].name


def test_tra_20_a_newcomer_takes_no_room_from_somebody_who_does_not_own_it() -> None:
    room = standing()
    context = room.context(roster=_with_guest(room), proposer=room.nodes[2].name)
    forged = room.forge(context, by=2, to=3, invitees=room.guests[:1])
    spoilt(_guest(room, forged), forged.commit, code="not_inviter", check="TRA-20")


def test_the_policys_rights_hold_for_the_inviter_too() -> None:
    from cloister.protocols.interface import Who

    policy = replace(POLICY, may_rekey=Who.NOBODY)
    suite = Transport()
    net, nodes = agreed(suite, 2, "rights")
    assert net
    from cloister.protocols.interface import SetPolicy

    nodes[0].change(SetPolicy(policy))
    net.settle()
    with pytest.raises(UsageError) as refused:
        nodes[0].change(Rekey())
    assert refused.value.code == "not_allowed"


def test_tra_21_a_newcomer_enters_only_where_it_is_asked_in() -> None:
    room = standing()
    forged = room.forge(room.context(roster=_with_guest(room)), to=3)
    spoilt(_guest(room, forged), forged.commit, code="not_allowed", check="TRA-21")
    first = room.context(prev_th=NO_TH, epoch=1, roster=_with_guest(room))
    forged = room.forge(first, to=3, invitees=room.guests[:1], new_room=True)
    spoilt(_guest(room, forged), forged.commit, code="not_allowed", check="TRA-21")


def test_a_commit_with_another_token_or_before_the_inviters_head_is_refused() -> None:
    room = standing()
    forged = room.forge()
    altered = replace(forged.commit, next_token_hash=bytes(32))
    refusal(_invited(room, forged), altered, code="wrong_context", check="COM-04")
    head = room.net.rooms[ROOM].entries[-1].head
    forged = room.forge(box=lambda box: replace(box, head=head))
    refusal(_invited(room, forged), replace(forged.commit, seq=1), code="bad_head", check="COM-05")


def test_a_commit_that_does_not_follow_the_standing_epoch_is_refused() -> None:
    room = standing()
    forged = room.forge(room.context(epoch=3))
    spoilt(_invited(room, forged), forged.commit, code="stale_epoch", check="RUN-14")
    forged = room.forge()
    refusal(_invited(room, forged), replace(forged.commit, token_hash=OTHER * 2), code="stale_epoch")
    guest = _guest(room, room.forge(room.context(roster=_with_guest(room)), to=3, invitees=room.guests[:1]))
    unknown = room.forge(room.context(run_id=OTHER))
    refusal(guest, unknown.commit, code="stale_epoch")


def test_while_a_commit_waits_for_its_invitation_no_other_is_taken() -> None:
    room = standing()
    forged = room.forge()
    session = room.session()
    session.receive(forged.commit, NOW, seeded("waits"))
    assert session.view.state is State.PENDING
    other = room.forge(room.context(run_id=OTHER))
    refusal(session, other.commit, code="stale_epoch")


# --- acknowledgements and leaves ---------------------------------------------------------------------------


def _ack(made: Standing, by: int = 2, **changes: object) -> Ack:
    item = made.item
    tag = mac(item.confirm, "transport ack mac", item.ctx, item.commit_hash, made.nodes[by].name)
    ack = replace(Ack(sender=made.nodes[by].name, room=ROOM, mac=tag), **changes)  # type: ignore[arg-type]
    return replace(ack, signature=sign(_signer(by), "transport ack", item.ctx, ack.sender, ack.mac))


def test_tra_22_a_notice_by_a_stranger_or_for_another_room_is_refused() -> None:
    room = standing()
    stranger = _ack(room, by=0, sender=room.guests[0])
    refusal(room.session(), room.notice(stranger.encode()), code="unknown_sender", check="TRA-22")
    refusal(room.session(), room.notice(_ack(room, room=OTHER).encode()), code="wrong_context", check="TRA-22")


def test_tra_23_an_acknowledgement_that_its_member_did_not_sign_is_refused() -> None:
    room = standing()
    forged = replace(_ack(room, 0), sender=room.nodes[2].name)
    refusal(room.session(), room.notice(forged.encode()), code="bad_sig", check="TRA-23")


def test_tra_24_an_acknowledgement_under_another_key_names_its_member() -> None:
    room = standing()
    fault = refusal(
        room.session(), room.notice(_ack(room, mac=bytes(32)).encode()), code="confirm_mismatch", check="TRA-24"
    )
    assert fault.peer == room.nodes[2].name
    assert fault.evidence


def test_tra_25_a_leave_that_its_member_did_not_sign_or_of_another_epoch_is_refused() -> None:
    room = standing()
    name = room.nodes[2].name
    forged = steps.leave_of(ROOM, room.epoch.th, name, _signer(0))
    refusal(room.session(), room.notice(forged.encode()), code="bad_sig", check="TRA-25")
    old = steps.leave_of(ROOM, bytes(32), name, _signer(2))
    refusal(room.session(), room.notice(old.encode()), code="wrong_context", check="TRA-25")


def test_a_notice_of_another_kind_or_epoch_is_refused() -> None:
    room = standing()
    refusal(room.session(), room.notice(enc("hello", "a", ROOM, bytes(32), b"")), code="unsupported")
    said = room.notice(Leave(sender="a", room=ROOM, th=bytes(32)).encode())
    refusal(room.session(), replace(said, token_hash=bytes(32)), code="stale_epoch", check="REC-07")
    refusal(room.session(), replace(said, entry_id=OTHER), code="bad_tag")
    elsewhere = replace(said, channel=Channel(ChannelKind.ROOM, OTHER))
    refusal(room.session(), elsewhere, code="misrouted")


# --- flips and garbage -------------------------------------------------------------------------------------


def _harmless(session: Session, envelope: Envelope) -> None:
    effects = session.receive(envelope, NOW, seeded("flip"))
    assert all(isinstance(effect, Fault | Need) for effect in effects), effects


@pytest.mark.parametrize("part", ["invite", "commit"])
def test_a_flipped_bit_anywhere_in_an_invitation_or_a_commit_is_refused(part: str) -> None:
    room = standing()
    forged = room.forge()
    whole = forged.invite if part == "invite" else forged.commit
    session = room.session() if part == "invite" else _invited(room, forged)
    for bit in range(0, 8 * len(whole.payload), 5):
        data = bytearray(whole.payload)
        data[bit // 8] ^= 1 << bit % 8
        _harmless(session, replace(whole, payload=bytes(data)))
    session.receive(whole, NOW, seeded("whole"))
    assert session.view.epoch == (1 if part == "invite" else 2)


@pytest.mark.parametrize("form", [steps.Invite, steps.CommitEntry, steps.Box, steps.Ending])
def test_what_is_cut_or_too_long_is_no_message(form: Any) -> None:
    room = standing()
    forged = room.forge()
    whole = {
        steps.Invite: forged.invite.payload,
        steps.CommitEntry: forged.commit.payload,
        steps.Box: steps.Box(context=room.context(), invitees=(), head=None).encode(),
        steps.Ending: steps.Ending(inviter="a", removed=()).encode(),
    }[form]
    assert form.decode(whole).encode() == whole
    for data in (whole[:-1], whole + b"\0", b"", b"\x80"):
        with pytest.raises(PeerError) as refused:
            form.decode(data)
        assert refused.value.code == "bad_encoding"


def test_the_part_for_the_ending_epoch_is_bytes_of_a_bounded_size() -> None:
    for parent in ("text", bytes(64 * 1024 + 1)):
        data = enc("commit", bytes(16), bytes(32), b"box", parent)
        with pytest.raises(PeerError) as refused:
            steps.CommitEntry.decode(data)
        assert refused.value.code == "bad_encoding"


def test_every_field_of_the_context_is_bound() -> None:
    """K2: a key for one context opens nothing in another."""
    room = standing()
    _, terms = steps.terms_of(room.context(), room.net.directory)
    seen = {terms.ctx}
    for field in dataclasses.fields(terms):
        value = getattr(terms, field.name)
        other = value + 1 if isinstance(value, int) else value + ("x" if isinstance(value, str) else b"x")
        seen.add(replace(terms, **{field.name: other}).ctx)
    assert len(seen) == 1 + len(dataclasses.fields(terms))


def test_items_that_are_not_a_session_are_said_to_be_damaged() -> None:
    room = standing()
    items = dict(room.nodes[0].items)
    with pytest.raises(UsageError):
        SUITE.restore(room.nodes[0].me, {key: value for key, value in items.items() if key != b"room"})
    assert MAILBOX.id == b""
