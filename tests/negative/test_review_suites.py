"""What a hostile review of the suites found: each test is one attack on the shipped code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.codec.cbor import enc
from cloister.content.broadcast import Receipt
from cloister.engine.broadcast import Broadcasts
from cloister.engine.unit import Unit
from cloister.errors import UsageError
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import mac
from cloister.protocols import record as records
from cloister.protocols.code import steps as code_steps
from cloister.protocols.code.items import EPOCH, PAIRING, Phase, scope_of
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Add,
    Channel,
    ChannelKind,
    EntryKind,
    Envelope,
    Fault,
    Leave,
    NotReady,
    Rekey,
    State,
)
from cloister.protocols.pair import items as pair_items
from cloister.protocols.pair.items import EPOCH as PAIR_EPOCH
from cloister.protocols.pair.items import Place
from cloister.protocols.pair.steps import Request, sign_request
from cloister.protocols.pair.steps import Steps as PairSteps
from cloister.protocols.pair.suite import Pair
from cloister.protocols.ratchet import SendChain
from cloister.testing.pairs import CODE, met, ready, word
from cloister.testing.sessions import Net, Node, agreed
from cloister.testing.store import MemoryStore
from support.suite_net import NOW, POLICY, ROOM, seeded
from support.transport_insider import SUITE, refusal, standing

ID = CODE[:6]


def compared_by_nobody() -> tuple[Net, Node]:
    """A creator whose other side, by the id alone, is an attacker that holds the same key; nobody has compared."""
    net, (creator, joiner) = met(Code(), made=ID)
    net.settle()
    joiner.silent = lambda envelope: True
    assert creator.live.view.state is State.PENDING
    return net, creator


def in_the_room(node: Node, *inner: object) -> None:
    """An entry that whoever holds the epoch's key can make."""
    epoch, room = EPOCH.decode(node.items[EPOCH.key(b"")]), node.live.view.room
    payload = records.seal_envelope(scope_of(epoch, room), enc(*inner), EntryKind.HANDSHAKE, bytes(16))
    node.give(
        Envelope(
            channel=Channel(ChannelKind.ROOM, room), kind=EntryKind.HANDSHAKE, payload=payload, entry_id=bytes(16),
            token_hash=sha256(node.token), ts_ms=node.net.now,
        )
    )  # fmt: skip


def test_code_the_other_side_cannot_say_same_in_the_name_of_this_person() -> None:
    _net, creator = compared_by_nobody()
    epoch = EPOCH.decode(creator.items[EPOCH.key(b"")])
    for place, role in enumerate((code_steps.OPENER, code_steps.ANSWERER)):
        key = code_steps.confirm_key(code_steps.Steps(), epoch.confirm, role)
        in_the_room(creator, "same", place, mac(key, "code same", epoch.th))
    assert creator.live.view.state is State.PENDING
    assert creator.live.view.missing == creator.live.view.roster[:1]


def test_code_two_who_have_not_compared_do_not_meet_again() -> None:
    _net, creator = compared_by_nobody()
    before = dict(creator.items)
    commitment = b"c" * 32
    in_the_room(creator, "again", 1, commitment, code_steps.encode(code_steps.Committed(commitment)))
    assert (creator.faults[-1].code, creator.faults[-1].check) == ("wrong_context", "COD-13")
    assert creator.items == before


def test_code_a_relay_that_says_left_after_the_agreement_gets_no_run_without_the_secret() -> None:
    net, (creator, _joiner) = met(Code())
    creator.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    net.settle()
    before = creator.items[PAIRING.key(b"")]
    assert PAIRING.decode(before).phase is Phase.EXPECT_ROOM
    creator.give(word(CODE, "left"))
    creator.give(word(CODE, "paired", code_steps.SAS))
    assert creator.items[PAIRING.key(b"")] == before


def test_code_the_rendezvous_has_no_say_when_the_two_meet_again() -> None:
    _net, (creator, joiner) = ready(Code())
    joiner.silent = lambda envelope: True
    creator.apply(creator.live.change([Rekey()], creator.net.now, creator.rng))
    before = dict(creator.items)
    said = code_steps.encode(code_steps.Public((1).to_bytes(256, "big")))
    creator.give(Envelope(channel=word(CODE, "left").channel, kind=EntryKind.HANDSHAKE, payload=said))
    assert creator.faults[-1].code == "wrong_context"
    assert creator.items == before


def test_pair_a_restored_backup_seals_no_end_with_a_key_that_was_used() -> None:
    net, (a, b) = agreed(Pair(), 2)
    backup = dict(a.items)
    a.say(b"this number has been used")
    net.settle()
    copy = Node(net=Net(), suite=a.suite, me=a.me, rng=a.rng)
    copy.session = a.suite.restore(a.me, {**backup, READ_ONLY_ITEM: b""})
    copy.wake()
    with pytest.raises(NotReady):
        copy.live.change([Leave()], net.now, copy.rng)
    assert b.delivered


def test_transport_who_repeats_the_run_of_an_invitation_lays_nothing_on_its_inviter() -> None:
    """The relay shows b the commit of member c in the place of a's, for the same run: a has said nothing wrong."""
    room = standing()
    honest = room.forge()
    forged = room.forge(room.context(proposer=room.nodes[2].name), by=2)
    session = room.session()
    session.receive(honest.invite, NOW, seeded("invited"))
    effects = session.receive(forged.commit, NOW, seeded("forged"))
    assert not [effect for effect in effects if isinstance(effect, Fault)]
    assert session.view.state is State.PENDING


def test_transport_an_invitation_that_repeats_a_run_does_not_spoil_the_commit_that_waits() -> None:
    """Member c invites b to the run that a has committed, before a's invitation has come."""
    room = standing()
    honest = room.forge()
    forged = room.forge(room.context(proposer=room.nodes[2].name), by=2)
    session = room.session()
    session.receive(honest.commit, NOW, seeded("waits"))
    refusal(session, forged.invite, code="not_inviter", check="TRA-26")
    session.receive(honest.invite, NOW, seeded("invited"))
    assert (session.view.epoch, session.view.state) == (2, State.READY)


def test_transport_a_restored_backup_takes_no_invitation_of_before() -> None:
    """TRA-27: the device may have entered that epoch and sealed in it; the relay repeats the mail."""
    room = standing()
    forged = room.forge()
    node = room.nodes[1]
    session = SUITE.restore(node.me, {**node.items, READ_ONLY_ITEM: b""})
    session.wake(NOW + 1, seeded("restored"))
    refusal(session, forged.invite, NOW + 2, code="stale_timestamp", check="TRA-27")
    later = room.forge(token=lambda token: replace(token, ts=NOW + 2))
    session.receive(later.invite, NOW + 2, seeded("later"))
    session.receive(later.commit, NOW + 3, seeded("later"))
    assert (session.view.epoch, session.view.state) == (2, State.READY)


def test_pair_an_end_in_this_devices_name_ends_the_session_all_the_same() -> None:
    """The other side holds both chains' keys; the room is closed at the relay, whoever is said to have closed it."""
    _net, (a, b) = agreed(Pair(), 2)
    standing_, room = PAIR_EPOCH.decode(b.items[PAIR_EPOCH.key(b"")]), b.live.view.room
    chain, place = SendChain(7, bytes(32)), Place(room=room, kind=EntryKind.COMMIT, entry_id=bytes(16))
    payload, _ = pair_items.seal(replace(standing_, side=0), chain, pair_items.TERMINATE, b"", place, None)
    a.give(
        Envelope(
            channel=Channel(ChannelKind.ROOM, room), kind=EntryKind.COMMIT, payload=payload, entry_id=bytes(16),
            token_hash=sha256(a.token),
        )
    )  # fmt: skip
    assert a.live.view.state is State.REMOVED


def test_broadcast_a_copied_id_does_not_pass_for_the_original_when_compared() -> None:
    """Mallory sends a broadcast under the id of alice's: a comparison by that id must not silently be of mallory's."""
    store = MemoryStore().open()
    unit = Unit(store, NOW, seeded("unit"), lambda: 0)
    broadcasts: Any = Broadcasts(*[None] * 6, verified=lambda user: False)  # type: ignore[arg-type]
    for author in ("alice", "Mallory"):
        device = f"cloister://home/u/{author}/d/phone"
        broadcasts.keep(
            unit, Receipt(author=device, id=bytes(16), audience=bytes(32), content=author[:1].encode() * 32)
        )
    store.apply(unit.writes)
    with pytest.raises(UsageError) as refused:
        broadcasts.check(unit, bytes(16).hex())
    assert refused.value.code == "usage"
    assert "alice" in refused.value.detail
    assert "Mallory" in refused.value.detail


def test_pair_a_no_erases_what_was_agreed_before_it() -> None:
    """Asked twice, b says yes and then no: the room is over, and no key of the first answer stays."""
    net = Net()
    a, b = net.node(Pair(), "a", 0), net.node(Pair(), "b", 1)
    a.create(ROOM, POLICY)
    a.change(Add(b.name))
    b.accepts = None
    net.settle([a])
    first = net.mail[b.name][0]
    net.settle([b])
    b.decide(accept=True)
    request = Request.decode(first.payload)
    again = sign_request(PairSteps(), a.me.keys.device, replace(request, sid=bytes(16)))
    b.give(replace(first, payload=again.encode()))
    b.decide(accept=False)
    assert b.live.view.state is State.REMOVED
    assert not [key for key in b.items if key.startswith(b"agreed")]
