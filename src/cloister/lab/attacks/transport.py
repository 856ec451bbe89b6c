"""Attacks on suite `transport`, one or two for each fix that is a step of the protocol (F3.1 to F3.4, F3.6 to F3.9).

Source: docs/spec/classic/transport.md. The attackers: an inviter that departs from the rules in one place (a class over
the suite's own steps); a member that opens envelopes, as every member can, and makes new ones of what is inside; a
relay, which stores what it was sent and gives it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cloister.codec.cbor import Fields, enc
from cloister.lab.attacks import Attack, lost
from cloister.primitives.labelled import sign
from cloister.primitives.rsa import RsaEncryptKey
from cloister.protocols import record as records
from cloister.protocols.interface import Add, DeviceId, EntryKind, Envelope, Rekey, State
from cloister.protocols.ratchet import RecvChain
from cloister.protocols.record import Header, Scope, Sealed
from cloister.protocols.rounds.epochs import EPOCH, RECV, Epoch
from cloister.protocols.transport.steps import NAME, Invite, Steps
from cloister.protocols.transport.suite import Transport
from cloister.testing.directory import DAY
from cloister.testing.keys import keys_of
from cloister.testing.sessions import POLICY, ROOM, Net, Node, agreed, assembly, users

OTHER_ROOM = bytes(range(16, 32))


def with_steps(suite: Transport, cheat: type) -> Transport:
    """The suite as a member plays it that departs from the rules as `cheat` says."""
    return Transport(type("Cheat", (cheat, type(suite.steps)), {})())


def give(node: Node, envelope: Envelope) -> bool:
    """Whether the process of a device lives on after it was given an envelope."""
    try:
        node.give(envelope)
    except SystemExit:
        return False
    return True


# --- invitations -------------------------------------------------------------------------------------------


def move_a_ciphertext(suite: Transport) -> bool:
    """F3.1: C invites B with the ciphertext of A's invitation, under a key that C does not know and A does."""
    net, nodes = assembly(suite, 2, "F3.1")
    (invitation,) = net.mail[nodes[1].name]
    stolen = Invite.decode(invitation.payload).token.ciphertext

    class Moves(Steps):
        def encrypt(self, key: RsaEncryptKey, ctx: bytes, to: DeviceId, payload: bytes) -> bytes:
            return stolen if to == nodes[1].name else super().encrypt(key, ctx, to, payload)

    thief = net.node(with_steps(suite, Moves), "c", 2)
    victim = Node(net=net, suite=suite, me=nodes[1].me, rng=nodes[1].rng)
    thief.create(OTHER_ROOM, replace(POLICY, owners=("c",)))
    thief.change(Add(victim.name))
    victim.give(net.mail[victim.name][-1])
    return victim.session is not None or lost([victim])


def invite_from_the_future(suite: Transport) -> bool:
    """F3.2: an invitation dated a year ahead is taken now, and will be as long as the relay keeps it."""
    net, nodes = assembly(suite, 2, "F3.2")
    net.mail.clear()
    now, net.now = net.now, net.now + 365 * DAY
    ahead = net.node(suite, "d", 3)
    ahead.create(OTHER_ROOM, replace(POLICY, owners=("d",)))
    ahead.change(Add(nodes[1].name))
    net.now = now
    nodes[1].give(net.mail[nodes[1].name][0])
    return nodes[1].session is not None or lost([nodes[1]])


def invite_again(suite: Transport) -> bool:
    """F3.2: the relay gives an invitation twice within ten seconds; each would begin a key exchange."""
    net, nodes = assembly(suite, 2, "F3.2 twice")
    (invitation,) = net.mail[nodes[1].name]
    nodes[1].give(invitation)
    return (give(nodes[1], invitation) and not nodes[1].faults) or lost([nodes[1]])


def two_keys(suite: Transport) -> bool:
    """F3.3: the inviter gives C another key than B; both stand in a room that they take for the same."""

    class Divides(Steps):
        def encrypt(self, key: RsaEncryptKey, ctx: bytes, to: DeviceId, payload: bytes) -> bytes:
            other = payload[:-32] + bytes(32) if to.endswith("/c/d/phone") else payload
            return super().encrypt(key, ctx, to, other)

    net = Net(seed="F3.3")
    cheat = with_steps(suite, Divides)
    nodes = [net.node(suite if index else cheat, user, index) for index, user in enumerate(users(3))]
    nodes[0].create(ROOM, POLICY)
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    victims = nodes[1:]
    if any(node.faults or node.session is None or node.live.view.state is not State.READY for node in victims):
        return lost(victims)
    heard = [RecvChain.decode(value).key for node in victims for key, value in node.items.items() if _from(key, 0)]
    return len(set(heard)) == len(victims)


def _from(key: bytes, sender: int) -> bool:
    """Whether an item is the chain of the member in this place."""
    return key.startswith(RECV.name + b"/") and key.endswith(sender.to_bytes(2, "big"))


def take_over(suite: Transport) -> bool:
    """F3.4: C, who is no inviter, makes the next epoch, and B follows."""

    class Presumes(Steps):
        def may_invite(self, allowed: bool) -> bool:
            return True

    net, nodes = agreed(suite, 3, "F3.4")
    nodes[2].suite = with_steps(suite, Presumes)
    nodes[2].restart()
    nodes[2].change(Rekey())
    net.settle(nodes[:2])
    return nodes[1].live.view.epoch == 2 or lost([nodes[1]])


# --- records -----------------------------------------------------------------------------------------------


class Insider:
    """A member that opens a record's envelope and seals another one."""

    def __init__(self, suite: Transport, seed: str) -> None:
        self.net, self.nodes = agreed(suite, 3, seed)
        self.attacker = self.nodes[2]
        (epoch,) = [EPOCH.decode(value) for key, value in self.attacker.items.items() if key.startswith(b"epoch/")]
        self.epoch: Epoch = epoch
        self.steps = suite.steps
        self.scope = Scope(
            suite=NAME,
            room=ROOM,
            th=epoch.th,
            members=len(epoch.roster),
            exporter=epoch.exporter,
            cipher=suite.steps,
        )

    def said(self, content: bytes) -> Envelope:
        """A says something, and all read it: the entry."""
        self.nodes[0].say(content)
        self.net.settle()
        return self.net.rooms[ROOM].entries[-1]

    def again(self, entry: Envelope, alter: Callable[[Sealed, bytes], Sealed]) -> None:
        """Post what the attacker makes of an entry's record, under a new entry id, and let B read it."""
        entry_id = self.attacker.rng(16)
        sealed = records.unwrap(self.scope, entry.payload, kind=entry.kind, entry_id=entry.entry_id)
        made = alter(sealed, entry_id)
        body = enc(made.header.items(), made.ciphertext, made.tag, made.signature)
        payload = records.seal_envelope(self.scope, body, EntryKind.APPLICATION, entry_id)
        Fields.decode(body, "record")
        self.nodes[1].give(replace(entry, payload=payload, entry_id=entry_id, seq=entry.seq + 1))

    def heard(self, sender: int, content: bytes) -> int:
        """How often B was told this by that member."""
        name = self.nodes[sender].name
        return sum((each.sender, each.content) == (name, content) for each in self.nodes[1].delivered)


def forge_a_number(suite: Transport) -> bool:
    """F3.6: A's record with a higher number in its header is told as a second message of A."""
    insider = Insider(suite, "F3.6")
    entry = insider.said(b"pay once")

    def raise_number(sealed: Sealed, entry_id: bytes) -> Sealed:
        return replace(sealed, header=replace(sealed.header, seq=sealed.header.seq + 1, entry_id=entry_id))

    insider.again(entry, raise_number)
    return insider.heard(0, b"pay once") > 1 or lost(insider.nodes[1:2])


def sign_again(suite: Transport) -> bool:
    """F3.7: C strips A's signature off and signs A's ciphertext as its own."""
    insider = Insider(suite, "F3.7")
    entry = insider.said(b"my idea")
    key = keys_of(2).rsa_sign

    def re_sign(sealed: Sealed, entry_id: bytes) -> Sealed:
        header: Header = replace(sealed.header, sender=2, entry_id=entry_id)
        signed = insider.steps.signed(header, sealed.ciphertext, sealed.tag)
        if key is None:
            raise LookupError("the attacker is a member")
        return replace(sealed, header=header, signature=sign(key, f"{NAME} record", *signed))

    insider.again(entry, re_sign)
    return insider.heard(2, b"my idea") > 0 or lost(insider.nodes[1:2])


def replay_late(suite: Transport) -> bool:
    """F3.8: once eleven messages were read, the relay gives the third again."""
    net, nodes = agreed(suite, 2, "F3.8")
    for number in range(11):
        nodes[0].say(b"message %d" % number)
    net.settle()
    third = [entry for entry in net.rooms[ROOM].entries if entry.kind == EntryKind.APPLICATION][2]
    before = len(nodes[1].delivered)
    give(nodes[1], third)
    return len(nodes[1].delivered) > before or lost(nodes[1:])


def kill(suite: Transport) -> bool:
    """F3.9: the relay gives an old message again, and B's process ends."""
    net, nodes = agreed(suite, 2, "F3.9")
    nodes[0].say(b"once")
    net.settle()
    return not give(nodes[1], net.rooms[ROOM].entries[-1]) or lost(nodes[1:])


ATTACKS = (
    Attack(NAME, "ciphertext moved to another invitation", "F3.1", move_a_ciphertext),
    Attack(NAME, "future timestamp", "F3.2", invite_from_the_future),
    Attack(NAME, "invitation given twice", "F3.2", invite_again),
    Attack(NAME, "two keys from one inviter", "F3.3", two_keys),
    Attack(NAME, "any invite", "F3.4", take_over),
    Attack(NAME, "forged sequence number", "F3.6", forge_a_number),
    Attack(NAME, "re-signed ciphertext", "F3.7", sign_again),
    Attack(NAME, "replay after message 10", "F3.8", replay_late),
    Attack(NAME, "remote kill", "F3.9", kill),
)
"""In the order of the fixes."""
