"""Suite `code` refuses, check by check: each by its id and code, the state as it was or the try ended."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cloister.codec.cbor import decode, enc
from cloister.errors import PeerError, UsageError
from cloister.primitives import modp
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import mac
from cloister.protocols import record as records
from cloister.protocols.code import pairing as pairings
from cloister.protocols.code import steps
from cloister.protocols.code.items import EPOCH, PAIRING, RECV, RESUME, SEND, EpochItem, Phase, scope_of
from cloister.protocols.code.steps import ANSWERER, Committed, Finished, Message, Opened, Public
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
    Post,
    Rekey,
    State,
)
from cloister.testing.pairs import CODE, created, met, ready, word
from cloister.testing.sessions import Net, Node

ID = CODE[:6]
TWO = (2).to_bytes(modp.SIZE, "big")


def hand(node: Node, data: Message | bytes, code: str = CODE) -> tuple[str, str]:
    """Give a message of the agreement; the fault's code and check."""
    payload = data if isinstance(data, bytes) else steps.encode(data)
    heard = word(code, "handshake")
    node.give(Envelope(channel=heard.channel, kind=EntryKind.HANDSHAKE, payload=payload, entry_id=bytes(16)))
    return told(node)


def told(node: Node) -> tuple[str, str]:
    """The newest fault's code and check."""
    return (node.faults[-1].code, node.faults[-1].check) if node.faults else ("", "")


def said(node: Node) -> Message:
    """What a device has said last."""
    posts = [effect for effects in node.effects for effect in effects if isinstance(effect, Post)]
    return steps.decode(posts[-1].payload)


def phase(node: Node) -> Phase:
    return PAIRING.decode(node.items[PAIRING.key(b"")]).phase


def waiting(made: str = CODE) -> tuple[Net, Node, Node]:
    """A creator that has said D1, and a joiner that has not heard it."""
    net, (creator, joiner) = met(Code(), made=made)
    return net, creator, joiner


def entry(node: Node, index: int = -1) -> Envelope:
    """An entry of the room's log."""
    return node.net.rooms[node.live.view.room].entries[index]


# --- D1 to D4 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "element",
    [0, 1, modp.P - 1, modp.P, modp.P + 1, 2**2048 - 1],
    ids=["0", "1", "p-1", "p", "p+1", "2^2048-1"],
)
def test_an_answer_outside_the_group_is_refused(element: int) -> None:
    _net, creator, _joiner = waiting()
    assert hand(creator, Public(element.to_bytes(modp.SIZE, "big"))) == ("bad_element", "COD-01")
    assert phase(creator) is Phase.EXPECT_PEER


@pytest.mark.parametrize("data", [TWO[1:], b"", b"\0" + TWO[1:-1]])
def test_an_answer_of_another_length_is_refused(data: bytes) -> None:
    _net, creator, _joiner = waiting()
    assert hand(creator, Public(data)) == ("bad_element", "COD-01")


def test_an_opener_outside_the_group_is_refused() -> None:
    net, _creator, joiner = waiting()
    one, opening = (1).to_bytes(modp.SIZE, "big"), bytes(32)
    hand(joiner, Committed(steps.Steps().commitment(ID, one, opening)))
    assert hand(joiner, Opened(one, opening, bytes(32))) == ("bad_element", "COD-01")
    assert joiner.live.view.state is State.REMOVED
    assert net.rooms == {}


def test_an_opening_that_was_not_committed_to_is_refused() -> None:
    _net, creator, joiner = waiting()
    hand(joiner, said(creator))
    hand(creator, said(joiner))
    third = said(creator)
    assert isinstance(third, Opened)
    for changed in (replace(third, element=TWO), replace(third, opening=bytes(32))):
        copy = clone(joiner)
        assert hand(copy, changed) == ("commit_mismatch", "COD-02")
        assert copy.live.view.state is State.REMOVED


def clone(node: Node) -> Node:
    """The same device, which goes its own way from here."""
    session = node.suite.restore(node.me, dict(node.items))
    return Node(net=Net(), suite=node.suite, me=node.me, rng=node.rng, session=session, items=dict(node.items))


def test_a_wrong_proof_of_the_opener_ends_the_joiners_try() -> None:
    _net, creator, joiner = waiting()
    hand(joiner, said(creator))
    hand(creator, said(joiner))
    third = said(creator)
    assert isinstance(third, Opened)
    assert hand(joiner, replace(third, mac=bytes(32))) == ("wrong_code_or_mitm", "COD-03")
    assert joiner.live.view.state is State.REMOVED


def test_a_wrong_proof_of_the_answerer_frees_the_place() -> None:
    net, creator, joiner = waiting()
    hand(joiner, said(creator))
    hand(creator, said(joiner))
    assert hand(creator, Finished(bytes(32))) == ("wrong_code_or_mitm", "COD-03")
    assert phase(creator) is Phase.EXPECT_PEER
    assert net.rooms == {}


def test_a_wrong_code_is_noticed_by_the_joiner_at_d3() -> None:
    net, (creator, joiner) = met(Code(), typed=CODE[:-1] + "Q")
    net.settle()
    assert told(joiner) == ("wrong_code_or_mitm", "COD-03")
    assert creator.live.view.state is State.PENDING


def test_the_relay_cannot_turn_a_whole_code_into_a_compared_one() -> None:
    net = Net()
    creator = created(net, Code())
    creator.give(word(CODE, "paired", steps.SAS))
    assert told(creator) == ("wrong_code_or_mitm", "COD-04")
    joiner = net.node(Code(), "joiner", 1)
    joiner.give(word(CODE, "paired", steps.SAS))
    with pytest.raises(PeerError) as refused:
        joiner.live.answer("code", CODE.encode(), net.now, joiner.rng)
    assert (refused.value.code, refused.value.check) == ("wrong_code_or_mitm", "COD-04")


def test_the_relay_cannot_turn_a_compared_code_into_one_that_nobody_compares() -> None:
    net = Net()
    joiner = net.node(Code(), "joiner", 1)
    joiner.give(word(ID, "paired", steps.FULL))
    with pytest.raises(UsageError) as refused:
        joiner.live.answer("code", ID.encode(), net.now, joiner.rng)
    assert refused.value.code == "usage"


def test_a_fourth_run_is_not_opened() -> None:
    net = Net()
    creator = created(net, Code())
    net.pairs[ID.encode()] = (creator, creator)
    for _ in range(3):
        assert creator.give(word(CODE, "paired"))
        assert PAIRING.decode(creator.items[PAIRING.key(b"")]).phase is Phase.EXPECT_DH
        before = dict(creator.items)
        creator.give(word(CODE, "left"))
    assert creator.live.view.state is State.REMOVED
    burnt = replace(PAIRING.decode(before[PAIRING.key(b"")]), phase=Phase.EXPECT_PEER)
    patient = Code().restore(creator.me, {**before, PAIRING.key(b""): burnt.encode()})
    (fault,) = patient.receive(word(CODE, "paired"), net.now, creator.rng)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.check) == ("quota", "COD-05")


@pytest.mark.parametrize("message", [Committed(bytes(32)), Opened(TWO, bytes(32), bytes(32)), Finished(bytes(32))])
def test_a_message_that_the_phase_does_not_await_changes_nothing(message: Message) -> None:
    _net, creator, _joiner = waiting()
    before = dict(creator.items)
    assert hand(creator, message) == ("wrong_context", "COD-06")
    assert creator.items == before


def test_the_second_hearing_of_each_message_changes_nothing() -> None:
    net, creator, joiner = waiting()
    first = said(creator)
    hand(joiner, first)
    second = said(joiner)
    assert hand(joiner, first) == ("wrong_context", "COD-06")
    hand(creator, second)
    third = said(creator)
    assert hand(creator, second) == ("wrong_context", "COD-06")
    hand(joiner, third)
    fourth = said(joiner)
    assert hand(joiner, third) == ("wrong_context", "COD-06")
    hand(creator, fourth)
    assert hand(creator, fourth) == ("wrong_context", "COD-06")
    net.passed.clear()
    net.settle()
    assert creator.live.view.state is joiner.live.view.state is State.READY


@pytest.mark.parametrize("data", [b"", b"\xff", enc("dh"), enc("dh", TWO, 1), enc("dh", 7), enc("commit", b"short")])
def test_what_is_no_message_changes_nothing(data: bytes) -> None:
    _net, creator, _joiner = waiting()
    before = dict(creator.items)
    assert hand(creator, data)[0] == "bad_encoding"
    assert creator.items == before


def test_a_message_of_another_kind_is_unsupported() -> None:
    _net, creator, _joiner = waiting()
    assert hand(creator, enc("hello", 1))[0] == "unsupported"


def test_a_code_of_more_than_ten_minutes_is_not_opened() -> None:
    net = Net()
    creator = created(net, Code())
    net.now += pairings.CODE_LIFE + 1
    creator.give(word(CODE, "paired"))
    assert told(creator) == ("timeout", "COD-07")
    creator.wake()
    assert creator.live.view.state is State.REMOVED


# --- every bit ----------------------------------------------------------------------------------------------


def _runs(seed: int) -> list[tuple[int, bytes, Node]]:
    """(number, message, who hears it, just before) of one agreement."""
    _net, (creator, joiner) = met(Code(), seed=seed)
    runs = []
    hearer, speaker = joiner, creator
    for number in range(1, 5):
        data = steps.encode(said(speaker))
        runs.append((number, data, clone(hearer)))
        hand(hearer, data)
        hearer, speaker = speaker, hearer
    return runs


def _flips(data: bytes, dice: random.Random, most: int) -> list[bytes]:
    bits = range(8 * len(data))
    chosen = bits if most >= len(bits) else dice.sample(bits, most)
    return [data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :] for bit in chosen]


@pytest.mark.parametrize("number", [3, 4])
def test_any_flipped_bit_of_what_proves_the_key_is_refused(number: int) -> None:
    _, data, hearer = _runs(1)[number - 1]
    for flipped in _flips(data, random.Random(number), 400):
        copy = clone(hearer)
        code, _check = hand(copy, flipped)
        assert code, flipped
        assert PAIRING.key(b"") not in copy.items or phase(copy) is not Phase.EXPECT_ROOM


def _leads_to_no_key(number: int, flipped: bytes) -> None:
    """D1 and D2 are judged by what D3 and D4 prove."""
    _net, (creator, joiner) = met(Code(), seed=2)
    if number == 2:
        hand(joiner, said(creator))
    hearer, other = (joiner, creator) if number == 1 else (creator, joiner)
    if hand(hearer, flipped)[0]:
        return
    while not other.faults and not hearer.faults:
        hand(other, said(hearer))
        hearer, other = other, hearer
    assert {node.faults[-1].code for node in (creator, joiner) if node.faults} <= {
        "commit_mismatch", "wrong_code_or_mitm", "bad_element", "wrong_context",
    }  # fmt: skip
    assert State.READY not in {node.live.view.state for node in (creator, joiner)}


@pytest.mark.parametrize("number", [1, 2])
def test_any_flipped_bit_of_what_is_proved_later_leads_to_no_key(number: int) -> None:
    for flipped in _flips(_runs(2)[number - 1][1], random.Random(number), 12):
        _leads_to_no_key(number, flipped)


@pytest.mark.system
@pytest.mark.parametrize("number", [1, 2])
def test_every_flipped_bit_of_what_is_proved_later_leads_to_no_key(number: int) -> None:
    for flipped in _flips(_runs(2)[number - 1][1], random.Random(0), 10**6):
        _leads_to_no_key(number, flipped)


@pytest.mark.system
@pytest.mark.parametrize("number", [3, 4])
def test_every_flipped_bit_of_what_proves_the_key_is_refused(number: int) -> None:
    _, data, hearer = _runs(3)[number - 1]
    for flipped in _flips(data, random.Random(0), 10**6):
        assert hand(clone(hearer), flipped)[0], flipped


# --- the room -----------------------------------------------------------------------------------------------


def test_a_begin_of_somebody_without_the_key_is_refused() -> None:
    net, (creator, joiner) = met(Code())
    joiner.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    net.settle()
    begin = entry(creator, 0)
    kind, th, tag = "begin", *_items(begin.payload)
    cases = (
        (replace(begin, payload=enc(kind, th, bytes(32))), "confirm_mismatch"),
        (replace(begin, payload=enc(kind, bytes(32), tag)), "wrong_context"),
        (replace(begin, next_token_hash=bytes(32)), "wrong_context"),
    )
    for changed, code in cases:
        before = dict(joiner.items)
        joiner.give(changed)
        assert told(joiner) == (code, "COD-08")
        assert joiner.items == before
    joiner.give(begin)
    assert joiner.live.view.state is State.READY


def _items(payload: bytes) -> tuple[bytes, bytes]:
    _kind, th, tag = decode(payload)
    return th, tag


def test_a_begin_that_nobody_awaits_is_refused() -> None:
    _net, (creator, joiner) = ready(Code())
    joiner.give(entry(creator, 0))
    assert told(joiner) == ("wrong_context", "COD-06")


def test_an_entry_of_another_epoch_is_refused() -> None:
    _net, (creator, joiner) = ready(Code())
    joiner.silent = lambda envelope: True
    creator.say(b"hello")
    for kind in (EntryKind.APPLICATION, EntryKind.HANDSHAKE, EntryKind.COMMIT):
        joiner.give(replace(entry(creator), kind=kind, token_hash=bytes(32)))
        assert told(joiner) == ("stale_epoch", "COD-09")


def test_an_own_number_that_was_not_used_shows_a_copy_of_the_device() -> None:
    net, (creator, joiner) = ready(Code())
    twin = clone(creator)
    twin.net, twin.token, twin.tokens = net, creator.token, creator.tokens
    twin.say(b"from the copy")
    creator.give(entry(creator))
    assert told(creator) == ("conflict", "COD-10")
    assert joiner.live.view.state is State.READY


def test_bytes_in_the_place_of_a_signature_are_refused() -> None:
    _net, (creator, joiner) = ready(Code())
    epoch = EPOCH.decode(creator.items[EPOCH.key(b"")])
    scope = scope_of(epoch, creator.live.view.room)

    class Signs:
        def sign(self, message: bytes) -> bytes:
            return b"x"

    chain = SEND.decode(creator.items[SEND.key(b"")])
    payload, _ = records.seal(scope, 0, chain, Signs(), b"hi", kind="application", entry_id=b"e" * 16, head=None)
    channel = Channel(ChannelKind.ROOM, creator.live.view.room)
    envelope = Envelope(
        channel=channel, kind="application", payload=payload, entry_id=b"e" * 16, token_hash=sha256(joiner.token)
    )
    joiner.give(envelope)
    assert told(joiner) == ("bad_encoding", "COD-11")


def test_one_does_not_say_same_for_the_other() -> None:
    net, (creator, joiner) = met(Code(), made=ID)
    net.settle()
    creator.apply(creator.live.answer("sas", b"\x01", net.now, creator.rng))
    epoch, room = EPOCH.decode(creator.items[EPOCH.key(b"")]), creator.live.view.room
    for place, tag in ((1, _same_tag(epoch, 0)), (0, bytes(32))):
        inner = enc("same", place, tag)
        payload = records.seal_envelope(scope_of(epoch, room), inner, EntryKind.HANDSHAKE, b"s" * 16)
        forged = replace(entry(creator), payload=payload, entry_id=b"s" * 16)
        joiner.give(forged)
        assert told(joiner) == ("confirm_mismatch", "COD-12")
    assert joiner.live.view.missing == creator.live.view.roster


def _same_tag(epoch: EpochItem, place: int) -> bytes:
    key = steps.confirm_key(steps.Steps(), epoch.confirm, (steps.OPENER, ANSWERER)[place])
    return mac(key, "code same", epoch.th)


def test_the_relay_cannot_forge_the_end() -> None:
    _net, (creator, joiner) = ready(Code())
    creator.say(b"hello")
    end = replace(entry(creator), kind=EntryKind.COMMIT, next_token_hash=None, entry_id=b"t" * 16)
    for payload in (enc("terminate"), b"", end.payload):
        joiner.give(replace(end, payload=payload))
        assert told(joiner)[0] == "bad_tag"
    assert joiner.live.view.state is State.READY


class Unsigned:
    """Signs nothing, as the suite does."""

    def sign(self, message: bytes) -> bytes:
        return b""


def test_a_text_as_the_last_entry_of_an_epoch_is_no_end() -> None:
    _net, (creator, joiner) = ready(Code())
    epoch = EPOCH.decode(creator.items[EPOCH.key(b"")])
    scope, chain = scope_of(epoch, creator.live.view.room), SEND.decode(creator.items[SEND.key(b"")])
    payload, _ = records.seal(scope, 0, chain, Unsigned(), enc("hello"), kind="commit", entry_id=b"t" * 16, head=None)
    before = dict(joiner.items)
    joiner.give(
        Envelope(
            channel=Channel(ChannelKind.ROOM, creator.live.view.room), kind=EntryKind.COMMIT, payload=payload,
            entry_id=b"t" * 16, token_hash=sha256(joiner.token),
        )
    )  # fmt: skip
    assert told(joiner)[0] == "bad_encoding"
    assert joiner.items == before


def test_a_flipped_bit_of_an_entry_is_refused() -> None:
    _net, (creator, joiner) = ready(Code())
    joiner.silent = lambda envelope: True
    creator.say(b"x")
    sent = entry(creator)
    before = dict(joiner.items)
    for flipped in _flips(sent.payload, random.Random(9), 10**6):
        joiner.give(replace(sent, payload=flipped))
        assert told(joiner)[0] == "bad_tag"
    assert joiner.items == before
    joiner.give(sent)
    assert joiner.delivered[-1].content == b"x"
    joiner.give(sent)
    assert told(joiner) == ("replay", "REC-03")


# --- what people ask for ------------------------------------------------------------------------------------


def test_nobody_is_added_and_nothing_is_sealed_too_early() -> None:
    net, (creator, joiner) = met(Code(), made=ID)
    with pytest.raises(NotReady):
        creator.live.seal(b"x", bytes(16), None, net.now, creator.rng)
    with pytest.raises(NotReady):
        creator.live.export("x", b"", 32)
    net.settle()
    with pytest.raises(NotReady) as refused:
        creator.live.seal(b"x", bytes(16), None, net.now, creator.rng)
    assert refused.value.missing == creator.live.view.roster
    with pytest.raises(NotReady):
        creator.change(Rekey())
    with pytest.raises(UsageError) as unwanted:
        creator.change(Add(joiner.name))
    assert unwanted.value.code == "not_allowed"


@pytest.mark.parametrize("value", [b"", b"A3F2B1-7Q4K", b"A3F2BG", b"\xff", b"A3F2B1-7Q4K-M9XU", b"B3F2B1-7Q4K-M9XP"])
def test_what_is_no_code_of_this_session_is_refused(value: bytes) -> None:
    net = Net()
    joiner = net.node(Code(), "joiner", 1)
    joiner.give(word(CODE, "paired"))
    with pytest.raises(UsageError) as refused:
        joiner.live.answer("code", value, net.now, joiner.rng)
    assert refused.value.code == "usage"


def test_a_code_is_taken_once_and_nothing_else_is_asked() -> None:
    net = Net()
    creator = created(net, Code())
    for ask in ("code", "sas"):
        with pytest.raises(UsageError) as refused:
            creator.live.answer(ask, CODE.encode(), net.now, creator.rng)
        assert refused.value.code == "not_ready"
    assert creator.live.answer("another", b"", net.now, creator.rng) == ()


def test_a_mailbox_item_leads_into_no_session() -> None:
    net = Net()
    node = net.node(Code(), "joiner", 1)
    for envelope in (
        Envelope(channel=Channel(ChannelKind.MAILBOX, b""), kind="paired", payload=enc("paired", steps.FULL)),
        replace(word(CODE, "paired"), kind="propose"),
        replace(word(CODE, "paired"), channel=Channel(ChannelKind.RENDEZVOUS, b"\xff")),
        replace(word(CODE, "paired"), payload=enc("unpaired", steps.FULL)),
    ):
        with pytest.raises(PeerError) as refused:
            node.suite.join(node.me, envelope, None, net.now, node.rng)
        assert refused.value.code in ("no_session", "bad_encoding")
    with pytest.raises(UsageError) as unsupported:
        node.suite.rejoin(node.me, b"", net.now, node.rng)
    assert unsupported.value.code == "unsupported"


def test_after_the_end_nothing_is_taken_and_nothing_is_held() -> None:
    net, (creator, joiner) = ready(Code())
    creator.say(b"last")
    net.settle()
    joiner.change(Leave())
    assert SEND.key(b"") not in joiner.items
    assert RESUME.key(b"") not in joiner.items
    with pytest.raises(NotReady):
        joiner.live.seal(b"x", bytes(16), None, net.now, joiner.rng)
    net.settle()
    for node in (creator, joiner):
        assert node.live.view.state is State.REMOVED
        assert set(node.items) == {b"room"}
        node.give(entry(creator))
        assert told(node)[0] == "no_session"


def test_a_restored_backup_reads_and_seals_nothing_until_the_two_meet_again() -> None:
    net, (creator, joiner) = ready(Code())
    backup = dict(joiner.items)
    joiner.say(b"one")
    net.settle()
    joiner.items = {**backup, READ_ONLY_ITEM: b""}
    joiner.restart()
    assert joiner.live.view.state is State.READ_ONLY
    with pytest.raises(NotReady):
        joiner.live.seal(b"two", bytes(16), None, net.now, joiner.rng)
    with pytest.raises(NotReady):
        joiner.change(Leave())
    creator.say(b"read")
    net.settle()
    assert joiner.delivered[-1].content == b"read"
    joiner.change(Rekey())
    net.settle()
    assert joiner.live.view.state is State.READY
    joiner.say(b"three")
    net.settle()
    assert creator.delivered[-1].content == b"three"
    assert RECV.key(b"") in creator.items


def test_the_two_meet_again_within_a_day_and_no_later() -> None:
    net, (creator, joiner) = ready(Code())
    net.now += 24 * 3_600_000
    late = clone(joiner)
    creator.change(Rekey())
    late.net.now = net.now + 1
    late.give(entry(creator))
    assert told(late) == ("timeout", "COD-07")
    net.settle()
    assert creator.live.view.epoch == joiner.live.view.epoch == 2
    net.now += 24 * 3_600_000 + 1
    for node in (creator, joiner):
        with pytest.raises(UsageError) as refused:
            node.change(Rekey())
        assert refused.value.code == "timeout"
    net.settle()
    assert RESUME.key(b"") not in creator.items


def test_who_was_not_the_other_does_not_meet_again() -> None:
    net, (creator, joiner) = ready(Code())
    resume = RESUME.decode(joiner.items[RESUME.key(b"")])
    joiner.items[RESUME.key(b"")] = replace(resume, secret=bytes(32)).encode()
    joiner.restart()
    creator.change(Rekey())
    net.settle()
    assert told(joiner) == ("wrong_code_or_mitm", "COD-03")
    assert creator.live.view.epoch == joiner.live.view.epoch == 1
    creator.say(b"still here")
    net.settle()
    assert joiner.delivered[-1].content == b"still here"


def test_damaged_items_are_said_so() -> None:
    _net, (creator, _joiner) = ready(Code())
    with pytest.raises(UsageError):
        creator.suite.restore(creator.me, {})
