"""Every check of suite `pair` (docs/spec/classic/pair.md): what it refuses, with which code; nothing changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    Add,
    Channel,
    ChannelKind,
    EntryKind,
    Envelope,
    Fault,
    Leave,
    Need,
    Rekey,
    State,
    Who,
)
from cloister.protocols.pair import handshake as pair_handshake
from cloister.protocols.pair import items as pair_items
from cloister.protocols.pair import steps as steps_of
from cloister.protocols.pair.items import EPOCH, OFFER, RECV, SEND, Place
from cloister.protocols.pair.prekeys import Prekey
from cloister.protocols.pair.steps import Confirm, Identity, Request, Response, Steps
from cloister.protocols.pair.suite import Pair
from cloister.testing.keys import keys_of, seeded
from cloister.testing.sessions import MAILBOX, POLICY, ROOM, Net, Node, agreed

SUITE = Pair()
STEPS = Steps()
DAY = 86_400_000


def mail(kind: str, body: bytes, sender: str | None) -> Envelope:
    return Envelope(channel=MAILBOX, kind=kind, payload=body, sender=sender)


def refused(node: Node, envelope: Envelope, code: str, check: str = "") -> None:
    """The device refuses with this code by this check, and is as it was."""
    before = (dict(node.items), node.live.view) if node.session else None
    effects = node.give(envelope)
    faults = [effect for effect in effects if isinstance(effect, Fault)]
    assert [(fault.code, fault.check) for fault in faults] == [(code, check)], effects
    assert len(effects) == 1
    assert before == ((dict(node.items), node.live.view) if node.session else None)


def pair(seed: object = 0) -> tuple[Net, Node, Node]:
    """Two devices; the first has asked the second, who has not read it."""
    net = Net(seed=seed)
    a, b = net.node(SUITE, "a", 0), net.node(SUITE, "b", 1)
    a.create(ROOM, POLICY)
    a.change(Add(b.name))
    return net, a, b


def taken(net: Net, node: Node, kind: str) -> Any:
    """The item of this kind out of a mailbox, decoded."""
    (item,) = [item for item in net.mail[node.name] if item.kind == kind]
    net.mail[node.name].remove(item)
    form = {"chat_request": Request, "chat_response": Response, "chat_confirm": Confirm}[kind]
    return form.decode(item.payload)  # type: ignore[attr-defined]


def signed(request: Request, index: int = 0, **changes: Any) -> bytes:
    """The request with changes, signed by the device key number `index`."""
    return steps_of.sign_request(STEPS, keys_of(index).device, replace(request, **changes)).encode()


# --- requests ----------------------------------------------------------------------------------------------


def test_a_request_that_its_sender_did_not_sign_is_refused() -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    refused(b, mail("chat_request", signed(request, 1), a.name), "bad_sig", "PAI-01")


@pytest.mark.parametrize("field", ["room", "epoch", "sid", "policy", "ephemeral", "ts", "log_size"])
def test_a_request_altered_on_its_way_is_refused(field: str) -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    other = {"policy": replace(POLICY, title="other"), "log_size": 1, "ts": request.ts + 1, "epoch": 2}
    altered = replace(request, **{field: other.get(field, bytes(len(getattr(request, field) if field in
        ("room", "sid", "ephemeral") else b"")))})  # fmt: skip
    refused(b, mail("chat_request", altered.encode(), a.name), "bad_sig", "PAI-01")


def test_a_request_that_somebody_else_sent_is_refused() -> None:
    net, _, b = pair()
    request = taken(net, b, "chat_request")
    refused(b, mail("chat_request", request.encode(), "cloister://home/u/m/d/phone"), "inner_outer", "PAI-02")


def test_a_request_for_another_device_is_refused() -> None:
    net, a, b = pair()
    c = net.node(SUITE, "c", 2)
    request = taken(net, b, "chat_request")
    refused(c, mail("chat_request", request.encode(), a.name), "misrouted", "PAI-03")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("what", ["identity", "key"])
def test_a_request_with_other_keys_than_the_realm_log_has_is_refused(side: int, what: str) -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    ids = list(request.ids)
    ids[side] = replace(ids[side], **{what: bytes(32)})
    refused(b, mail("chat_request", signed(request, ids=tuple(ids)), a.name), "identity_changed", "PAI-04")


@pytest.mark.parametrize("shift", [steps_of.AHEAD + 1, -steps_of.STORED - 1])
def test_a_request_from_the_future_or_too_long_ago_is_refused(shift: int) -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    refused(b, mail("chat_request", signed(request, ts=net.now + shift), a.name), "stale_timestamp", "PAI-05")
    b.give(mail("chat_request", signed(request, ts=net.now + shift - (1 if shift > 0 else -1)), a.name))
    assert b.faults[1:] == []


def test_a_request_is_answered_once() -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    b.give(mail("chat_request", request.encode(), a.name))
    refused(b, mail("chat_request", request.encode(), a.name), "replay", "PAI-06")


def test_a_request_that_replaces_another_session_is_refused() -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    for changes in ({"epoch": 2}, {"prev": b"p" * 16}, {"epoch": 0}):
        refused(b, mail("chat_request", signed(request, **changes), a.name), "stale_epoch", "PAI-07")
        assert b.session is None


def test_a_request_of_an_earlier_session_is_refused_in_a_standing_room() -> None:
    net, (a, b) = agreed(SUITE, 2)
    a.change(Rekey())
    request = taken(net, b, "chat_request")
    b.give(mail("chat_request", request.encode(), a.name))
    net.settle()
    again = signed(request, sid=b"s" * 16)
    refused(b, mail("chat_request", again, a.name), "stale_epoch", "PAI-07")


def test_another_key_encapsulation_is_not_consented_to() -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    refused(b, mail("chat_request", signed(request, kem="x-wing"), a.name), "not_allowed", "PAI-08")


def test_a_third_device_cannot_ask_in_a_room_of_two() -> None:
    net, (a, b) = agreed(SUITE, 2)
    c = net.node(SUITE, "c", 2)
    a.change(Rekey())
    request = taken(net, b, "chat_request")
    third = Identity.of(net.directory.device(c.name, net.directory.size))
    forged = signed(request, 2, ids=(third, request.ids[1]))
    refused(b, mail("chat_request", forged, c.name), "not_allowed", "PAI-09")


def test_who_has_got_another_identity_key_begins_another_room() -> None:
    net, (a, b) = agreed(SUITE, 2)
    a.change(Rekey())
    request = taken(net, b, "chat_request")
    size, record = net.directory._versions[a.name][-1]
    net.directory._versions[a.name][-1] = (size, replace(record, identity_key=b"n" * 32))  # type: ignore[type-var]
    changed = replace(request.ids[0], identity=b"n" * 32)
    forged = signed(request, ids=(changed, request.ids[1]))
    refused(b, mail("chat_request", forged, a.name), "identity_changed", "PAI-09")


def test_who_may_not_rekey_is_refused() -> None:
    net, a, b = pair()
    strict = replace(POLICY, may_rekey=Who.OWNERS)
    b.give(mail("chat_request", signed(taken(net, b, "chat_request"), policy=strict), a.name))
    standing_policy = b.live.view.policy
    assert standing_policy.may_rekey is Who.OWNERS
    net, (a, b) = agreed(SUITE, 2)
    b.change(Rekey())
    request = taken(net, a, "chat_request")
    new = signed(request, 1, policy=replace(POLICY, title="mine now"))
    refused(a, mail("chat_request", new, b.name), "not_allowed", "POL-01")


def test_requests_of_one_peer_are_few() -> None:
    net, (a, b) = agreed(SUITE, 2)
    a.change(Rekey())
    request = taken(net, b, "chat_request")
    for number in range(pair_handshake.SEEN_MOST - 1):
        b.give(mail("chat_request", signed(request, sid=number.to_bytes(16, "big")), a.name))
    refused(b, mail("chat_request", signed(request, sid=b"s" * 16), a.name), "quota", "PAI-22")
    net.pass_time(steps_of.STORED + 1)
    b.give(mail("chat_request", signed(request, sid=b"s" * 16, ts=net.now), a.name))
    assert len(b.faults) == 1


def test_a_longer_realm_log_is_waited_for() -> None:
    net, a, b = pair()
    request = taken(net, b, "chat_request")
    effects = b.give(mail("chat_request", signed(request, log_size=9), a.name))
    assert effects == (Need(what="realm", ids=((9).to_bytes(8, "big"),)),)


def test_a_request_of_a_device_that_does_not_count_is_refused() -> None:
    net, a, b = pair()
    net.directory.refuse(a.name, "revoked")
    request = taken(net, b, "chat_request")
    refused(b, mail("chat_request", request.encode(), a.name), "revoked")


# --- responses and confirms --------------------------------------------------------------------------------


def answered(seed: object = 0) -> tuple[Net, Node, Node, Response]:
    """The second has answered; the first has not read it."""
    net, a, b = pair(seed)
    net.settle([b])
    return net, a, b, taken(net, a, "chat_response")


def resigned(a: Node, response: Response, **changes: Any) -> bytes:
    offer = OFFER.decode(a.items[b"offer"])
    return steps_of.sign_response(STEPS, keys_of(1).device, offer.request, replace(response, **changes)).encode()


def test_an_answer_to_nothing_is_refused() -> None:
    _, a, b, response = answered()
    refused(a, mail("chat_response", resigned(a, response, sid=bytes(16)), b.name), "no_session", "PAI-10")


def test_a_response_that_the_asked_device_did_not_sign_is_refused() -> None:
    _, a, b, response = answered()
    for forged in (replace(response, accept=False), replace(response, signature=bytes(64))):
        refused(a, mail("chat_response", forged.encode(), b.name), "bad_sig", "PAI-11")
    refused(a, mail("chat_response", response.encode(), "cloister://home/u/m/d/x"), "inner_outer", "PAI-02")


def test_a_response_without_proof_of_the_key_is_refused() -> None:
    _, a, b, response = answered()
    refused(a, mail("chat_response", resigned(a, response, mac=bytes(32)), b.name), "confirm_mismatch", "PAI-12")


def test_a_response_of_zeros_is_refused() -> None:
    _, a, b, response = answered()
    refused(a, mail("chat_response", resigned(a, response, ephemeral=bytes(32)), b.name), "zero_key", "PAI-26")


def test_a_request_of_zeros_is_refused() -> None:
    net, (a, b) = agreed(SUITE, 2)
    a.change(Rekey())
    request = taken(net, b, "chat_request")
    refused(b, mail("chat_request", signed(request, ephemeral=bytes(32)), a.name), "zero_key", "PAI-26")


def confirming(seed: object = 0) -> tuple[Net, Node, Node, Confirm]:
    """The first has posted the room and confirmed; the second has not read that."""
    net, a, b, response = answered(seed)
    a.give(mail("chat_response", response.encode(), b.name))
    return net, a, b, taken(net, b, "chat_confirm")


def test_a_confirm_that_the_requester_did_not_sign_is_refused() -> None:
    _, a, b, confirm = confirming()
    refused(b, mail("chat_confirm", replace(confirm, signature=bytes(64)).encode(), a.name), "bad_sig", "PAI-13")
    refused(b, mail("chat_confirm", confirm.encode(), b.name), "inner_outer", "PAI-02")


def test_a_confirm_without_proof_of_the_key_is_refused() -> None:
    _, a, b, confirm = confirming()
    refused(b, mail("chat_confirm", replace(confirm, mac=bytes(32)).encode(), a.name), "confirm_mismatch", "PAI-14")


def test_nothing_is_taken_before_the_confirm() -> None:
    net, a, b, confirm = confirming()
    net.settle()
    assert (a.live.view.state, b.live.view.state) == (State.READY, State.PENDING)
    b.give(mail("chat_confirm", confirm.encode(), a.name))
    net.settle()
    assert b.live.view.state is State.READY


def test_a_confirm_of_an_unknown_session_is_refused() -> None:
    _, a, b, confirm = confirming()
    refused(b, mail("chat_confirm", replace(confirm, sid=bytes(16)).encode(), a.name), "no_session", "PAI-19")


# --- prekeys -----------------------------------------------------------------------------------------------


def claimed(net: Net, b: Node, **changes: Any) -> bytes:
    """What the relay answers to a claim; with changes, signed by the owner again."""
    b.publish_prekeys(1)
    made = net.prekeys[b.name].pop()
    key = changes.pop("key", keys_of(1).device)
    declared = [changes.pop(name, default) for name, default in
                (("ref", None), ("begins", made.not_before), ("ends", made.expires))]  # fmt: skip
    package = replace(Prekey.decode(made.public), **changes).signed(key).encode()
    return enc([[b.name, package, declared[0] or sha256(package), declared[1], declared[2]]])


@pytest.mark.parametrize(
    ("changes", "code", "check"),
    [
        ({"key": keys_of(2).device}, "bad_sig", "PAI-15"),
        ({"owner": Identity("cloister://home/u/c/d/phone", bytes(32), bytes(32))}, "identity_changed", "PAI-15"),
        ({"ref": bytes(32)}, "conflict", "PAI-15"),
        ({"begins": 1}, "conflict", "PAI-15"),
        ({"not_after": 5, "ends": 5}, "expired", "PAI-15"),
        ({"kem": "x-wing"}, "not_allowed", "PAI-23"),
    ],
)
def test_a_prekey_that_is_not_its_owners_is_refused_and_the_peer_is_asked(
    changes: dict[str, Any], code: str, check: str
) -> None:
    net = Net()
    a, b = net.node(SUITE, "a", 0), net.node(SUITE, "b", 1)
    del net.prekeys[b.name]  # the answer is given by the test
    a.create(ROOM, POLICY)
    a.change(Add(b.name))
    net.prekeys[b.name] = []
    effects = a.apply(a.live.answer("prekeys", claimed(net, b, **changes), net.now, net.rng))
    faults = [effect for effect in effects if isinstance(effect, Fault)]
    assert [(fault.code, fault.check, fault.peer) for fault in faults] == [(code, check, b.name)]
    assert [item.kind for item in net.mail[b.name]] == ["chat_request"]
    net.settle()
    assert b.live.view.state is State.READY


def test_a_prekey_that_is_not_here_any_more_is_refused() -> None:
    net = Net()
    a, b = net.node(SUITE, "a", 0), net.node(SUITE, "b", 1)
    b.publish_prekeys(1)
    a.create(ROOM, POLICY)
    a.change(Add(b.name))
    net.settle([a])
    (item,) = net.mail[b.name]
    net.settle()
    request = Request.decode(item.payload)
    again = signed(request, sid=b"t" * 16, epoch=2, prev=request.sid)
    refused(b, mail("chat_request", again, a.name), "no_session", "PAI-24")
    assert b.prekeys == {}


def test_a_request_by_prekey_needs_its_confirm() -> None:
    net = Net()
    a, b = net.node(SUITE, "a", 0), net.node(SUITE, "b", 1)
    b.publish_prekeys(2)
    a.create(ROOM, POLICY)
    a.change(Add(b.name))
    (item,) = net.mail.pop(b.name)
    request = Request.decode(item.payload)
    prekey = b.prekeys[request.prekey or b""]
    envelopes = (
        (replace(request, confirm=None), "PAI-24"),
        (replace(request, confirm=Confirm(sid=request.sid, mac=bytes(32), signature=bytes(64)).encode()), "PAI-13"),
    )
    for forged, check in envelopes:
        with pytest.raises(PeerError) as error:
            SUITE.join(b.me, mail("chat_request", forged.encode(), a.name), prekey, net.now, seeded("j"))
        assert error.value.check == check


# --- the room's log ----------------------------------------------------------------------------------------


def entry(net: Net, payload: bytes, *, kind: str = EntryKind.APPLICATION, token_hash: bytes | None = None,
          entry_id: bytes = b"e" * 16, following: bytes | None = None) -> Envelope:  # fmt: skip
    log = net.rooms[ROOM]
    return Envelope(
        channel=Channel(ChannelKind.ROOM, ROOM), kind=kind, payload=payload, entry_id=entry_id, seq=99,
        token_hash=log.tip if token_hash is None else token_hash, next_token_hash=following,
    )  # fmt: skip


def sealed(
    node: Node, content: bytes, *, what: str = "chat", kind: str = EntryKind.APPLICATION, entry_id: bytes = b"e" * 16,
    skip: int = 0, **changes: Any,
) -> bytes:  # fmt: skip
    """A record as this device would seal it, some of its session changed."""
    standing, chain = EPOCH.decode(node.items[b"epoch"]), SEND.decode(node.items[b"send"])
    for _ in range(skip):
        chain = chain.step()[1]
    place = Place(room=ROOM, kind=kind, entry_id=entry_id)
    return pair_items.seal(replace(standing, **changes), chain, what, content, place, None)[0]


def test_a_record_of_another_session_is_refused() -> None:
    net, (a, b) = agreed(SUITE, 2)
    refused(b, entry(net, sealed(a, b"x", sid=bytes(16))), "no_session", "PAI-16")


def test_a_copy_of_ones_own_device_is_noticed() -> None:
    net, (a, _b) = agreed(SUITE, 2)
    refused(a, entry(net, sealed(a, b"x")), "conflict", "PAI-17")


def test_a_repeated_number_is_refused() -> None:
    net, (a, b) = agreed(SUITE, 2)
    payload = sealed(a, b"x")
    b.give(entry(net, payload))
    again = sealed(a, b"x", entry_id=b"f" * 16)
    refused(b, entry(net, again, entry_id=b"f" * 16), "replay", "REC-03")


def test_only_a_terminate_closes_and_it_does_nothing_else() -> None:
    net, (a, b) = agreed(SUITE, 2)
    closing = sealed(a, b"x", kind=EntryKind.COMMIT)
    refused(b, entry(net, closing, kind=EntryKind.COMMIT), "misrouted", "PAI-18")
    refused(b, entry(net, sealed(a, b"", what="terminate")), "misrouted", "PAI-18")
    refused(b, entry(net, sealed(a, b"x", what="bcast")), "misrouted", "PAI-18")


def test_a_terminate_that_nobody_sealed_ends_nothing() -> None:
    net, (a, b) = agreed(SUITE, 2)
    assert b.give(mail("chat_terminate", b"", a.name)) == ()
    refused(b, entry(net, b"terminate", kind=EntryKind.COMMIT), "bad_tag")
    assert b.live.view.state is State.READY


def test_a_record_altered_anywhere_is_refused() -> None:
    net, (a, b) = agreed(SUITE, 2)
    payload = sealed(a, b"words")
    for at in range(len(payload)):
        altered = bytearray(payload)
        altered[at] ^= 1
        refused(b, entry(net, bytes(altered)), "bad_tag")
    refused(b, entry(net, payload, entry_id=b"f" * 16), "bad_tag")
    refused(b, entry(net, payload, kind=EntryKind.HANDSHAKE), "unsupported")


def test_a_record_under_another_name_does_not_open() -> None:
    net, (a, b) = agreed(SUITE, 2)
    for changes in ({"th": bytes(32)}, {"ids": tuple(reversed(EPOCH.decode(a.items[b"epoch"]).ids))}):
        refused(b, entry(net, sealed(a, b"x", **changes)), "bad_tag")


def test_a_commit_of_a_session_that_was_not_agreed_is_refused() -> None:
    net, (_a, b) = agreed(SUITE, 2)
    payload = enc("commit", b"s" * 16, bytes(32))
    refused(b, entry(net, payload, kind=EntryKind.COMMIT, following=bytes(32)), "no_session", "PAI-19")


def test_a_commit_with_another_transcript_or_token_is_refused() -> None:
    net, _a, b, _ = confirming()
    log = net.rooms[ROOM]
    posted = log.entries[-1]
    sid, th_hash = pair_items.read_commit(posted.payload)
    for envelope in (
        replace(posted, payload=enc("commit", sid, bytes(32))),
        replace(posted, next_token_hash=bytes(32)),
    ):
        refused(b, envelope, "wrong_context", "PAI-20")
    assert th_hash != bytes(32)


def test_an_entry_of_another_epoch_is_refused() -> None:
    net, (a, b) = agreed(SUITE, 2)
    refused(b, entry(net, sealed(a, b"x"), token_hash=bytes(32)), "stale_epoch", "PAI-21")


def test_a_gap_is_told_and_begins_a_new_session() -> None:
    net, (a, b) = agreed(SUITE, 2)
    b.give(entry(net, sealed(a, b"late", skip=3)))
    assert [fault.code for fault in b.faults] == ["gap"]
    assert [each.content for each in b.delivered] == [b"late"]
    for at in (0, 1):
        b.give(entry(net, sealed(a, b"early", skip=at, entry_id=bytes([at]) * 16), entry_id=bytes([at]) * 16))
    assert [each.seq for each in b.delivered] == [3, 0, 1]
    net.settle()
    assert a.live.view.epoch == b.live.view.epoch == 2
    refused(b, entry(net, b"x", token_hash=bytes(32)), "stale_epoch", "PAI-21")


def test_too_far_a_jump_is_refused() -> None:
    net, (a, b) = agreed(SUITE, 2)
    refused(b, entry(net, sealed(a, b"x", skip=1001)), "gap", "REC-04")


def test_a_room_that_is_over_takes_nothing() -> None:
    net, (a, b) = agreed(SUITE, 2)
    text = sealed(a, b"x")
    b.change(Leave())
    net.settle()
    assert (a.live.view.state, b.live.view.state) == (State.REMOVED, State.REMOVED)
    refused(b, entry(net, text), "no_session", "PAI-25")
    refused(b, mail("chat_request", b"", a.name), "no_session", "PAI-25")
    assert b.give(mail("chat_confirm", b"", a.name)) == ()


def test_keys_are_gone_when_they_have_done_their_work() -> None:
    net, (a, b) = agreed(SUITE, 2)
    old = {name: {RECV.decode(node.items[b"recv"]).key, SEND.decode(node.items[b"send"]).key,
                  EPOCH.decode(node.items[b"epoch"]).exporter} for name, node in (("a", a), ("b", b))}  # fmt: skip
    a.change(Rekey())
    net.settle()
    a.say(b"x")
    net.settle()
    for node in (a, b):
        stored = b"".join(node.items.values())
        assert not any(key in stored for keys in old.values() for key in keys)
    b.change(Leave())
    net.settle()
    for node in (a, b):
        assert not {key.partition(b"/")[0] for key in node.items} - {b"id", b"room", b"seen"}
