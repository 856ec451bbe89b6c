"""Attacks on suite `shares`, one or more for each fix that is a step of the protocol (F2.1 to F2.4, F2.7 to F2.9).

Source: docs/spec/classic/shares.md. The attackers: somebody who recorded a login; a member that waits for the others'
shares, copies one, or speaks in another's name; a thief of RSA keys or of a copy of the store. What attackers of
`nonces` do as well stands in `lab.contributions`.
"""

from __future__ import annotations

from cloister.lab.attacks import Attack, lost
from cloister.lab.contributions import (
    Chooses,
    choose_last,
    epoch_of,
    last_record,
    scope_of,
    speak_last,
    steal_rsa_later,
    two_keys,
    write_on_after_restore,
    xor,
)
from cloister.lab.originals.shares import Subject
from cloister.protocols import record as records
from cloister.protocols.contributions.steps import CONTRIBUTION
from cloister.protocols.interface import Channel, ChannelKind, EntryKind, Post, State
from cloister.protocols.ratchet import SendChain
from cloister.protocols.rounds.epochs import RECV, chain_key
from cloister.testing.directory import NOW
from cloister.testing.keys import keys_of, seeded
from cloister.testing.sessions import ROOM, agreed
from cloister.wire import login


def replay_a_login(subject: Subject) -> bool:
    """F2.1: what a device said at the door is recorded, and said again on another connection five seconds later."""
    device, rng = keys_of(0).device, seeded("door")
    door = subject.door(keys_of(1).device, device.public)
    first = login.hello("cloister://home/u/a/d/phone", rng)
    second = door.challenge(first, NOW, rng)
    third = door.answer(first, second, device, NOW)
    door.admit(first, second, third, NOW)
    door.admit(first, door.challenge(first, NOW + 5000, rng), third, NOW + 5000)
    return True


class _Copies(Chooses):
    """Commits to what the first member committed to, and sends what that one sent."""

    def commitment(self, ctx: bytes, i: int, contribution: bytes, opening: bytes) -> bytes:
        return self.first if i == 2 else super().commitment(ctx, i, contribution, opening)


def copy_a_commitment(subject: Subject) -> bool:
    """F2.3: C copies A's commitment and share, so that both cancel out; B's share alone is the key."""
    net, nodes, reader, steps = speak_last(subject, _Copies, 3, "copied")
    if not steps.seen:  # the others did not go on
        return lost(nodes[:2])
    steps.chosen = steps.seen[0]
    nodes[2].silent = lambda _: steps.sent
    net.settle()
    only = reader.key_check([steps.seen[1][:CONTRIBUTION]])
    views = [node.live.view for node in nodes[:2]]
    return all(view.state is State.READY and view.key_check == only for view in views) or lost(nodes[:2])


def cancel_out(subject: Subject) -> bool:
    """F2.3: of two members one sends the other's share back: the XOR is zero, and everybody knows that."""
    net, nodes, reader, steps = speak_last(subject, Chooses, 2, "cancelled")
    steps.chosen = steps.seen[0]
    nodes[1].silent = lambda _: steps.sent
    net.settle()
    views = [node.live.view for node in nodes[:1]]
    th = reader.form.transcript(reader.party, [(hello.commitment, hello.ephemeral) for hello in reader.hellos()])
    known = reader.steps.split(th, bytes(CONTRIBUTION), 2).key_check
    return all(view.state is State.READY and view.key_check == known for view in views) or lost(nodes[:1])


def read_by_another_text(subject: Subject) -> bool:
    """F2.4: A's first message and B's are under the same key; who knows the one text reads the other."""
    net, nodes = agreed(subject, 2, "one key")
    texts, sealed = (b"known to no thief", b"known to everyone"), []
    for node, text in zip(nodes, texts, strict=True):
        node.say(text)
        sealed.append(last_record(subject, net, nodes[1])[0])
    return xor(xor(sealed[0].ciphertext, sealed[1].ciphertext), texts[1]) == texts[0]


def speak_for_another(subject: Subject) -> bool:
    """F2.7: B seals a message in A's name, with the keys by which B reads A's, and C shows it as A's."""
    net, nodes = agreed(subject, 3, "another's name")
    text, entry_id, key = b"A never said this", bytes([7]) * 16, keys_of(1).rsa_sign
    epoch = epoch_of(nodes[1])
    chain = RECV.decode(nodes[1].items[RECV.key(chain_key(epoch.th, 0))])
    if key is None:
        raise LookupError("no RSA key")
    payload, _ = records.seal(
        scope_of(subject, epoch),
        0,
        SendChain(chain.seq, chain.key),
        key,
        text,
        kind=EntryKind.APPLICATION,
        entry_id=entry_id,
        head=None,
    )
    channel = Channel(ChannelKind.ROOM, ROOM)
    nodes[1].apply((Post(channel=channel, kind=EntryKind.APPLICATION, entry_id=entry_id, payload=payload),))
    net.settle()
    return any((said.sender, said.content) == (nodes[0].name, text) for said in nodes[2].delivered) or lost(nodes[2:])


ATTACKS = (
    Attack("shares", "replay a login", "F2.1", replay_a_login),
    Attack("shares", "last mover chooses the key", "F2.2", choose_last),
    Attack("shares", "copied commitment", "F2.3", copy_a_commitment),
    Attack("shares", "shares that cancel out", "F2.3", cancel_out),
    Attack("shares", "one key for all senders", "F2.4", read_by_another_text),
    Attack("shares", "a message in another's name", "F2.7", speak_for_another),
    Attack("shares", "two keys from one member", "F2.8", two_keys),
    Attack("shares", "RSA keys stolen later", "F2.9", steal_rsa_later),
    Attack("shares", "two-time pad after restore", "Restore", write_on_after_restore),
)
"""In the order of the fixes."""
