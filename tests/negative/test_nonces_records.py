"""Suite `nonces`, records of a standing epoch: each check of A.0 in its order; a bad message moves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloister.codec.cbor import Fields, enc
from cloister.errors import UsageError
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.labelled import sign
from cloister.protocols import record as records
from cloister.protocols.interface import (
    Add,
    Deliver,
    EntryKind,
    Envelope,
    Fault,
    NotReady,
    Post,
    Put,
    Rekey,
    Remove,
    Session,
    SignedHead,
    State,
)
from cloister.protocols.ratchet import SendChain
from cloister.protocols.record import CONTENT_MOST, Header, Scope, export
from cloister.protocols.rounds.epochs import SEND, scope_of
from support.insider import SUITE, Standing, standing
from support.suite_net import DAY, NOW, POLICY, ROOM, Net, Node, agreed, dump, keys_of, refusal, seeded


def _delivered(session: Session, envelope: Envelope) -> bytes:
    (found,) = [effect for effect in session.receive(envelope, NOW, seeded(1)) if isinstance(effect, Deliver)]
    return found.content


def _scope(room: Standing) -> Scope:
    session = room.session()
    turn = session._turn(session._draft(), NOW, seeded(0))  # type: ignore[attr-defined]
    return scope_of(turn, room.epoch)


def _forged(
    alter: Callable[[list[object]], None] = lambda header: None,
    *,
    sender: int = 0,
    by: int = 0,
    kind: str = EntryKind.APPLICATION,
    content: bytes = b"forged",
    sealed_as: str | None = None,
) -> Envelope:
    """A record of member `sender`, its header altered before it is encrypted and signed by member `by`."""
    room = standing()
    scope, node = _scope(room), room.nodes[sender]
    chain = SEND.decode(node.items[SEND.key(room.epoch.th)])
    entry_id = seeded((sender, content))(16)
    header: list[object] = [scope.th, sender, chain.seq, str(kind), entry_id, None]
    alter(header)
    keys, _ = chain.step()
    seq = header[2]
    assert isinstance(seq, int)
    ciphertext, tag = scope.cipher.seal(keys, seq, content, enc(header))
    key = keys_of(by).rsa_sign
    assert key is not None
    signature = sign(key, "nonces record", header, ciphertext, tag)
    return _enveloped(enc(header, ciphertext, tag, signature), entry_id, sealed_as or kind, kind)


def _enveloped(record: bytes, entry_id: bytes, sealed_as: str, kind: str) -> Envelope:
    room = standing()
    aead = Aead.aes_gcm(export("nonces", room.epoch.exporter, "envelope", entry_id, 32))
    payload = aead.seal(ZERO_NONCE, record, enc(ROOM, str(sealed_as)))
    like = room.record(0, b"like")
    return replace(like, payload=payload, entry_id=entry_id, kind=kind)


def test_a_control_the_unaltered_record_is_delivered() -> None:
    assert _delivered(standing().session(), _forged()) == b"forged"


def test_a_record_that_names_another_epoch_is_refused() -> None:  # REC-01
    envelope = _forged(lambda header: header.__setitem__(0, bytes(32)))
    refusal(standing().session(), envelope, code="wrong_context", check="REC-01")


def test_a_sender_outside_the_roster_is_refused() -> None:  # REC-02
    envelope = _forged(lambda header: header.__setitem__(1, 3))
    refusal(standing().session(), envelope, code="unknown_sender", check="REC-02")


def test_a_record_is_taken_once() -> None:  # REC-03
    room, session = standing(), standing().session()
    envelope = room.record(0, b"once")
    assert _delivered(session, envelope) == b"once"
    refusal(session, envelope, code="replay", check="REC-03")


def test_a_jump_over_more_than_a_thousand_is_refused() -> None:  # REC-04
    envelope = _forged(lambda header: header.__setitem__(2, 1001))
    refusal(standing().session(), envelope, code="gap", check="REC-04")


def test_a_forged_ciphertext_is_refused() -> None:
    """An insider knows all chain keys, so it can encrypt; without the sender's number nothing opens."""
    envelope = _forged(lambda header: header.__setitem__(2, 5))
    refusal(standing().session(), envelope, code="bad_tag")


def test_a_member_that_poses_as_another_is_refused() -> None:  # REC-05
    refusal(standing().session(), _forged(by=2), code="bad_sig", check="REC-05")


def test_an_inner_kind_or_id_that_differs_is_refused() -> None:  # REC-06
    for field, value in ((3, "handshake"), (4, bytes(16))):
        envelope = _forged(lambda header, f=field, v=value: header.__setitem__(f, v))  # type: ignore[misc]
        refusal(standing().session(), envelope, code="misrouted", check="REC-06")


def test_an_entry_of_an_unknown_epoch_is_refused() -> None:  # REC-07
    envelope = replace(standing().record(0, b"x"), token_hash=bytes(32))
    refusal(standing().session(), envelope, code="stale_epoch", check="REC-07")


def test_an_order_by_an_ordered_out_member_is_refused_and_its_messages_are_shown() -> None:  # REC-08
    room, session = standing(), standing().session()
    order = room.order(0, (room.nodes[2].name,))
    session.receive(room.record(0, order.encode(), kind=EntryKind.HANDSHAKE), NOW, seeded(1))
    counter = room.order(2, (room.nodes[2].name,))
    refusal(
        session,
        room.record(2, counter.encode(), kind=EntryKind.HANDSHAKE),
        code="not_allowed",
        check="REC-08",
    )
    assert _delivered(session, room.record(2, b"accepted before the commit")) == b"accepted before the commit"


def test_a_number_that_this_device_has_not_used_is_a_copys() -> None:  # REC-09
    room = standing()
    refusal(room.session(), room.record(room.victim, b"my copy"), code="conflict", check="REC-09")


def test_the_own_record_gives_nothing() -> None:
    net, nodes = agreed(SUITE, 2, "own")
    nodes[0].say(b"mine")
    before = dump(nodes[0].live)
    net.settle()
    assert nodes[0].delivered == []
    assert nodes[0].faults == []
    after = dump(nodes[0].live)
    assert {key for key in after if after[key] != before.get(key)} <= {b"head"}


def test_a_record_under_the_own_name_that_is_not_signed_is_refused() -> None:
    room = standing()
    envelope = _forged(sender=room.victim, by=0)
    refusal(room.session(), envelope, code="bad_sig", check="REC-05")


@pytest.mark.parametrize("alter", ["payload", "entry id", "kind", "short"])
def test_an_envelope_that_does_not_open_is_refused(alter: str) -> None:
    envelope = standing().record(0, b"x")
    match alter:
        case "payload":
            envelope = replace(envelope, payload=envelope.payload[:-1] + bytes([envelope.payload[-1] ^ 1]))
        case "entry id":
            envelope = replace(envelope, entry_id=bytes(16))
        case "kind":
            envelope = replace(envelope, kind=EntryKind.HANDSHAKE)
        case _:
            envelope = replace(envelope, payload=b"")
    refusal(standing().session(), envelope, code="bad_tag")


def test_a_record_of_another_form_is_refused() -> None:
    for record in (b"", b"\x80", enc("x"), enc([], b"", b"", b"")):
        envelope = _enveloped(record, bytes(16), EntryKind.APPLICATION, EntryKind.APPLICATION)
        refusal(standing().session(), envelope, code="bad_encoding")


def test_a_tag_of_another_length_is_refused() -> None:
    room, like = standing(), _forged()
    aead = Aead.aes_gcm(export("nonces", room.epoch.exporter, "envelope", like.entry_id, 32))
    fields = Fields.decode(aead.open(ZERO_NONCE, like.payload, enc(ROOM, "application")), "record")
    header, ciphertext, tag = fields.any("header"), fields.octets("ct"), fields.octets("tag")
    record = enc(header, ciphertext, tag[:12], fields.octets("sig"))
    refusal(room.session(), _enveloped(record, like.entry_id, "application", EntryKind.APPLICATION), code="bad_tag")


def test_an_order_record_that_is_no_order_is_refused() -> None:
    room = standing()
    refusal(room.session(), room.record(0, b"\x80", kind=EntryKind.HANDSHAKE), code="bad_encoding")


def test_an_entry_of_another_room_is_refused() -> None:
    envelope = standing().record(0, b"x")
    refusal(standing().session(), replace(envelope, channel=replace(envelope.channel, id=bytes(16))), code="misrouted")


def test_messages_open_in_any_order_and_once() -> None:
    net, nodes = agreed(SUITE, 2, "order")
    nodes[1].silent = lambda envelope: True
    for i in range(6):
        nodes[0].say(bytes([i]))
    entries = net.rooms[ROOM].entries[1:]
    session = nodes[1].live
    for i in (5, 0, 3, 1, 4, 2):
        assert _delivered(session, entries[i]) == bytes([i])
        session = SUITE.restore(nodes[1].me, dump(session))
    for entry in entries:
        refusal(session, entry, code="replay", check="REC-03")


def test_the_head_of_the_sender_is_delivered() -> None:
    net, nodes = agreed(SUITE, 2, "head")
    nodes[0].say(b"with a head")
    net.settle()
    assert nodes[1].delivered[0].head == net.rooms[ROOM].entries[0].head


def test_content_up_to_the_limit_and_one_past_it() -> None:
    net, nodes = agreed(SUITE, 2, "limit")
    nodes[0].say(bytes(CONTENT_MOST))
    net.settle()
    assert len(nodes[1].delivered[0].content) == CONTENT_MOST
    assert len(net.rooms[ROOM].entries[-1].payload) <= 64 * 1024
    with pytest.raises(UsageError):
        nodes[0].say(bytes(CONTENT_MOST + 1))


# --- between rooms, epochs, variants, members ---


def test_cross_room_a_record_of_another_room_does_not_open() -> None:
    _, nodes = agreed(SUITE, 2, "room one")
    net, others = agreed(SUITE, 2, "room two")
    nodes[0].say(b"for room one")
    entry = nodes[0].net.rooms[ROOM].entries[-1]
    refusal(others[1].live, entry, code="stale_epoch", check="REC-07")
    here = replace(entry, token_hash=net.rooms[ROOM].tip)
    refusal(others[1].live, here, code="bad_tag")


def test_cross_epoch_a_record_of_the_last_epoch_is_not_taken_under_the_next() -> None:
    net, nodes = agreed(SUITE, 2, "epochs")
    nodes[0].say(b"first epoch")
    net.settle()
    old = net.rooms[ROOM].entries[-1]
    nodes[0].change(Rekey())
    net.settle()
    refusal(nodes[1].live, old, code="replay", check="REC-03")
    refusal(nodes[1].live, replace(old, token_hash=net.rooms[ROOM].tip), code="bad_tag")


def test_cross_run_a_message_of_another_run_is_refused() -> None:
    """An insider of both runs seals a hello of the one into the other: the signature names the run."""
    from support.insider import bench

    one, two = bench(3, 1, "run one"), bench(3, 1, "run two")
    refusal(
        two.session("hello"),
        two.sealed(one.plain(2, "hello"), two.messages[2, "hello"]),
        code="bad_sig",
        check="CON-02",
    )


def test_late_entries_of_the_old_epoch_still_open_after_the_commit() -> None:
    net, nodes = agreed(SUITE, 2, "late")
    nodes[1].silent = lambda envelope: envelope.kind == EntryKind.APPLICATION
    nodes[0].say(b"late")
    late = net.rooms[ROOM].entries[-1]
    nodes[1].taken(late)
    nodes[0].change(Rekey())
    nodes[1].silent = None
    net.settle()
    assert nodes[1].live.view.epoch == 2
    assert _delivered(nodes[1].live, late) == b"late"


def test_old_keys_are_gone_a_day_later_and_after_the_next_epoch() -> None:
    for late in (False, True):
        net, nodes = agreed(SUITE, 2, ("gone", late))
        nodes[0].say(b"kept")
        old = net.rooms[ROOM].entries[-1]
        nodes[1].taken(old)
        nodes[0].change(Rekey())
        net.settle()
        if late:
            net.pass_time(DAY)
        else:
            nodes[0].change(Rekey())
        net.settle()
        refusal(nodes[1].live, old, net.now, code="stale_epoch", check="REC-07")
        assert len([key for key in nodes[1].items if key.startswith(b"epoch/")]) == 1 + (not late)


def test_a_removed_member_neither_decrypts_nor_opens_the_log_afterwards() -> None:
    net, nodes = agreed(SUITE, 3, "removed")
    a, b, c = nodes
    a.change(Remove(c.name))
    net.settle()
    assert c.live.view.state is State.REMOVED
    b.say(b"without c")
    net.settle()
    entry = net.rooms[ROOM].entries[-1]
    assert a.delivered[-1].content == b"without c"
    assert c.delivered == []
    assert entry.token_hash not in c.tokens
    assert net.rooms[ROOM].tip not in c.tokens
    refusal(c.live, entry, net.now, code="stale_epoch", check="REC-07")
    with pytest.raises(NotReady):
        c.say(b"?")
    for token in c.tokens:
        forced = replace(entry, token_hash=token)
        assert [e.code for e in c.live.receive(forced, net.now, seeded(1)) if isinstance(e, Fault)] == ["bad_tag"]


def test_a_newcomer_reads_nothing_from_before() -> None:
    net, nodes = agreed(SUITE, 2, "newcomer")
    nodes[0].say(b"before")
    net.settle()
    old = net.rooms[ROOM].entries[-1]
    new = net.node(SUITE, "c", 2)
    nodes[1].change(Add(new.name))
    net.settle()
    refusal(new.live, old, code="stale_epoch", check="REC-07")
    assert new.live.view.joined_at == old.head


def test_without_a_key_nothing_is_sealed() -> None:
    net = Net(seed="no key")
    node = net.node(SUITE, "a", 0)
    node.create(ROOM, POLICY)
    with pytest.raises(NotReady) as error:
        node.live.seal(b"x", bytes(16), None, NOW, node.rng)
    assert error.value.state is State.READ_ONLY
    node.change(Add(net.directory.enrol("b", 1)))
    with pytest.raises(NotReady) as pending:
        node.live.seal(b"x", bytes(16), None, NOW, node.rng)
    assert pending.value.state is State.PENDING
    assert len(pending.value.missing) == 1
    with pytest.raises(NotReady):
        node.live.export("x", b"", 32)
    with pytest.raises(NotReady):
        node.live.export("x", b"", 32, pending=True)


def test_a_revoked_member_stops_sealing_until_it_is_out() -> None:
    net, nodes = agreed(SUITE, 3, "revoked")
    a, b, c = nodes
    net.directory.refuse(c.name, "revoked")
    with pytest.raises(NotReady) as error:
        b.say(b"no")
    assert error.value.missing == (c.name,)
    b.change(Remove(c.name))
    net.settle([a, b])
    assert {node.live.view.roster for node in (a, b)} == {(a.name, b.name)}
    b.say(b"now")
    net.settle([a, b])
    assert a.delivered[-1].content == b"now"
    with pytest.raises(UsageError) as out:
        _revoked_asks(c)
    assert out.value.code == "revoked"


def _revoked_asks(node: Node) -> None:
    node.live.change([Rekey()], node.net.now, node.rng)


def test_envelope_shapes_are_what_the_specification_says() -> None:
    header = Header(th=bytes(32), sender=1, seq=2, kind="application", entry_id=bytes(16), head=None)
    assert header.items() == [bytes(32), 1, 2, "application", bytes(16), None]
    head = SignedHead(incarnation=0, seq=1, hash=bytes(32), signature=b"s")
    assert replace(header, head=head).items()[5] == [0, 1, bytes(32), b"s"]
    assert isinstance(SendChain(0, bytes(32)).step()[1], SendChain)
    assert records.access_token("nonces", bytes(32), ROOM) != records.access_token("shares", bytes(32), ROOM)


def test_the_next_number_is_stored_before_the_message_goes() -> None:
    """K3: the chain after the message is in the same effects as its post, and before it."""
    room = standing()
    node = room.nodes[0]
    effects = room.session().seal(b"x", bytes(16), None, NOW, seeded(1))
    other = SUITE.restore(node.me, node.items).seal(b"x", bytes(16), None, NOW, seeded(1))
    for made in (effects, other):
        put, post = [effect for effect in made if isinstance(effect, (Put, Post))]
        assert isinstance(put, Put)
        assert isinstance(post, Post)
        assert put.key.startswith(b"send/")
        assert SEND.decode(put.value).seq == 1
