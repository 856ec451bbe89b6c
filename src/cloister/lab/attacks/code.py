"""Attacks on suite `code`, one or more for each fix that is a step of the protocol (F5.1 to F5.6).

Source: docs/spec/classic/code.md. The attackers: the relay, which sits in the middle and plays each side to the other
without the code; somebody who has the id and guesses; a reader of the log. The House's envelope around each record is
taken off where document 004 has none. People compare what they are shown, and tell the truth.
"""

from __future__ import annotations

from typing import Final

from cloister.codec.cbor import Fields
from cloister.lab.attacks import Attack, lost
from cloister.primitives import modp
from cloister.protocols import record as records
from cloister.protocols.code import steps
from cloister.protocols.code.items import EPOCH, PAIRING, Phase, scope_of
from cloister.protocols.code.steps import ANSWERER, OPENER, Committed, Finished, Message, Opened, Public
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import EntryKind, Envelope, Post, State
from cloister.testing.pairs import CODE, created, joined, met, ready, word
from cloister.testing.sessions import Net, Node

WRONG: Final = "A3F2B1-0000-0000"
"""What an attacker types who has the id alone."""
BITS: Final = 10
"""How many of the string's 40 bits are ground here; each further bit doubles the work."""
KNOWN: Final = b"Hello, are you there?"
SECRET: Final = b"the vault is at nine."


def compare(*nodes: Node) -> None:
    """People look at both screens; where the strings are the same they say so, where not the session ends."""
    shown = {node.live.sas for node in nodes}  # type: ignore[attr-defined]
    for node in nodes:
        if node.live.view.state is State.PENDING and node.live.view.epoch:
            node.apply(node.live.answer("sas", b"\x01" if len(shown) == 1 else b"\x00", node.net.now, node.rng))


def hand(node: Node, message: Message, code: str = CODE) -> Message | None:
    """Give somebody a message of the agreement; what it says to that."""
    heard = word(code, "handshake")
    effects = node.give(
        Envelope(channel=heard.channel, kind=EntryKind.HANDSHAKE, payload=steps.encode(message), entry_id=bytes(16))
    )
    return answer_in(effects)


def answer_in(effects: tuple[object, ...]) -> Message | None:
    """The message of the agreement among effects."""
    said = [effect.payload for effect in effects if isinstance(effect, Post) and effect.kind == EntryKind.HANDSHAKE]
    return steps.decode(said[0]) if said else None


def agreed(node: Node) -> bool:
    """Whether a creator or joiner believes that the other holds its key."""
    data = node.items.get(PAIRING.key(b""))
    return data is not None and PAIRING.decode(data).phase is Phase.EXPECT_ROOM


# --- F5.1 ----------------------------------------------------------------------------------------------------------


def _in_the_middle(suite: Code, made: str, guessed: str) -> bool:
    """The relay joins the creator's session, and is joined by the joiner, as the other to each."""
    left, right = Net(seed="left"), Net(seed="right")
    creator = created(left, suite, made)
    to_creator = joined(left, suite, creator, guessed, made)
    to_joiner = created(right, suite, guessed)
    joiner = joined(right, suite, to_joiner, made, made)
    left.settle()
    right.settle()
    compare(creator, joiner)
    for net, middle in ((left, to_creator), (right, to_joiner)):
        if middle.live.view.epoch and middle.live.sas:  # type: ignore[attr-defined]
            middle.apply(middle.live.answer("sas", b"\x01", net.now, middle.rng))
        net.settle()
    won = all(node.live.view.state is State.READY for node in (creator, joiner, to_creator, to_joiner))
    if won:
        creator.say(SECRET)
        left.settle()
        return to_creator.delivered[0].content == SECRET
    return lost([joiner, creator])


def in_the_middle_of_dh(suite: Code) -> bool:
    """The relay between two who typed a whole code, of which it has the id."""
    return _in_the_middle(suite, CODE, WRONG)


def in_the_middle_of_an_id(suite: Code) -> bool:
    """The relay between two who typed the id alone, as the document has it."""
    return _in_the_middle(suite, CODE[:6], CODE[:6])


def wrong_code(suite: Code) -> bool:
    """Somebody who read the id over a shoulder, and nothing else."""
    net, (creator, joiner) = met(suite, typed=WRONG)
    net.settle()
    return joiner.live.view.state is State.READY or lost([joiner, creator])


# --- F5.2 ----------------------------------------------------------------------------------------------------------


def sas_grinding(suite: Code) -> bool:
    """The relay has a string with the creator; as a creator it makes the joiner's begin with the same bits."""
    left, right = Net(seed="left"), Net(seed="right")
    made = CODE[:6]
    creator = created(left, suite, made)
    to_creator = joined(left, suite, creator, made, made)
    left.settle()
    wanted = _bits(steps.sas_of(EPOCH.decode(to_creator.items[EPOCH.key(b"")]).confirm))
    decoy = created(right, suite, made)
    joiner = joined(right, suite, decoy, made, made)
    opening = bytes(steps.OPENING)
    exponent = modp.exponent(right.rng)
    commitment = suite.steps.commitment(made, modp.power(modp.G, exponent), opening)
    second = hand(joiner, Committed(commitment), made)
    if not isinstance(second, Public):
        return lost([joiner])
    theirs = modp.element(second.element)
    element, z = pow(modp.G, exponent, modp.P), pow(theirs, exponent, modp.P)
    while True:
        mine, shared = _octets(element), _octets(z)
        key = steps.keys(suite.steps, steps.transcript(made, mine, second.element, steps.SAS), shared, b"")
        if _bits(steps.sas_of(key.confirm)) == wanted:
            break
        element, z = element * modp.G % modp.P, z * theirs % modp.P
    hand(joiner, Opened(mine, opening, steps.confirmation(suite.steps, key, OPENER)), made)
    return agreed(joiner) or lost([joiner])


def _octets(element: int) -> bytes:
    return element.to_bytes(modp.SIZE, "big")


def _bits(sas: bytes) -> int:
    return int.from_bytes(sas, "big") >> (8 * len(sas) - BITS)


# --- F5.3, F5.5: without the code ----------------------------------------------------------------------------------


def small_subgroup(suite: Code) -> bool:
    """An answer of 1: Z is 1, whatever the code and the creator's exponent are."""
    net = Net()
    creator = created(net, suite)
    joined(net, suite, creator, WRONG)
    one = _octets(1)
    third = hand(creator, Public(one))
    if not isinstance(third, Opened):
        return lost([creator])
    key = steps.keys(suite.steps, steps.transcript(CODE[:6], third.element, one, steps.FULL), one, b"")
    hand(creator, Finished(steps.confirmation(suite.steps, key, ANSWERER)))
    return agreed(creator) or lost([creator])


def reflection(suite: Code) -> bool:
    """The creator's own proof is sent back to it: who has no code seems to have it."""
    net = Net()
    creator = created(net, suite)
    joined(net, suite, creator, WRONG)
    third = hand(creator, Public(modp.power(modp.G, modp.exponent(net.rng))))
    if not isinstance(third, Opened):
        return lost([creator])
    hand(creator, Finished(third.mac))
    return agreed(creator) or lost([creator])


# --- F5.4 ----------------------------------------------------------------------------------------------------------


def two_time_pad(suite: Code) -> bool:
    """The first message of each direction; whoever knows one text has the other."""
    net, (creator, joiner) = ready(suite)
    creator.say(KNOWN)
    joiner.say(SECRET)
    epoch = EPOCH.decode(creator.items[EPOCH.key(b"")])
    room = creator.live.view.room
    texts = [entry for entry in net.rooms[room].entries if entry.kind == EntryKind.APPLICATION]
    first, second = (_ciphertext(scope_of(epoch, room), entry) for entry in texts)
    pad = bytes(a ^ b for a, b in zip(first, KNOWN, strict=True))
    return bytes(a ^ b for a, b in zip(second, pad, strict=True)) == SECRET


def _ciphertext(scope: records.Scope, entry: Envelope) -> bytes:
    fields = Fields.decode(records.open_envelope(scope, entry.payload, entry.kind, entry.entry_id), "record")
    fields.any("header")
    return fields.octets("ciphertext")


# --- F5.6 ----------------------------------------------------------------------------------------------------------


def guessing_without_end(suite: Code) -> bool:
    """Each D3 lets its reader test one guess at home: how many does one code give?"""
    net = Net()
    creator = created(net, suite)
    net.pairs[CODE[:6].encode()] = (creator, creator)
    element = modp.power(modp.G, modp.exponent(net.rng))
    guesses = 0
    for _ in range(steps.GUESSES + 1):
        if answer_in(creator.give(word(CODE, "paired"))) is None:
            break
        guesses += isinstance(hand(creator, Public(element)), Opened)
        creator.give(word(CODE, "left"))
    return guesses > steps.GUESSES or lost([creator])


ATTACKS: Final = (
    Attack("code", "relay in the middle of DH", "F5.1", in_the_middle_of_dh),
    Attack("code", "relay in the middle, id alone", "F5.1", in_the_middle_of_an_id),
    Attack("code", "wrong code", "F5.1", wrong_code),
    Attack("code", "SAS grinding", "F5.2", sas_grinding),
    Attack("code", "small-subgroup element", "F5.3", small_subgroup),
    Attack("code", "two-time pad", "F5.4", two_time_pad),
    Attack("code", "reflection", "F5.5", reflection),
    Attack("code", "guessing without end", "F5.6", guessing_without_end),
)
