"""Attacks on suite `nonces`, one for each fix that is a step of the protocol (F1.1 to F1.7), and one on restores.

Source: docs/spec/classic/nonces.md. The attackers: a reader of the run's messages who holds no member's key; a member
that departs from the rules in one place (a class over the suite's own steps); a thief who comes later with the RSA
keys or with a copy of the store; a device whose dice repeat themselves. A relay may show one member an entry before
another.
"""

from __future__ import annotations

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.lab.attacks import Attack, lost
from cloister.lab.contributions import (
    Reader,
    choose_last,
    last_record,
    run_of,
    steal_rsa_later,
    two_keys,
    whole_run,
    with_steps,
    write_on_after_restore,
)
from cloister.protocols import record as records
from cloister.protocols.contributions.steps import Confirm, Shares
from cloister.protocols.interface import Add, State
from cloister.protocols.nonces.steps import NONCE, Steps
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.ratchet import message_key, split
from cloister.protocols.record import Gcm
from cloister.testing.sessions import POLICY, ROOM, Net, agreed, assembly, users

BYTES_OF_WRAP = (0, 32, 80)
"""Where in a wrapped share a reader looks for a nonce."""


def read_the_nonces(suite: Nonces) -> bool:
    """F1.1: somebody without any key reads the run and computes the members' key."""
    nodes, reader = whole_run(suite, "F1.1")
    shares = reader.shares()
    guesses = ([said.wrapped[0][1][start:][:NONCE] for said in shares] for start in BYTES_OF_WRAP)
    return any(reader.key_check(nonces) == nodes[0].live.view.key_check for nonces in guesses)


# --- a member whose answer is none --------------------------------------------------------------------------


class _Incremented(Steps):
    """Answers as the README says."""

    def answer(self, nonce: bytes) -> bytes:
        return ((int.from_bytes(nonce, "big") + 1) % (1 << 8 * NONCE)).to_bytes(NONCE, "big")


class _Mute(Steps):
    """Answers nobody."""

    def answers_to(self, i: int, n: int) -> tuple[int, ...]:
        return ()


def _confirmed(suite: Nonces, cheat: type, who: int, seed: str) -> bool:
    """Whether A agrees on a key, having been shown the cheat's confirm before it was given the last share."""
    net, nodes = assembly(suite, 3, seed)
    victim, others = nodes[0], [node for node in nodes[1:] if node is not nodes[who]]
    nodes[who].suite = with_steps(suite, cheat)
    reader = Reader(suite, net, run_of(net, nodes))
    victim.silent = lambda entry: isinstance(reader.read(entry), Shares) and entry.channel.id == reader.run.id
    net.settle()
    confirm = reader.entry(Confirm, who)
    victim.taken(confirm)
    victim.give(confirm)
    victim.silent = None
    net.settle([victim, *others])
    return (victim.live.view.state is State.READY and not victim.faults) or lost([victim])


def answer_incremented(suite: Nonces) -> bool:
    """F1.2: B answers Na + 1, and A counts it as proof that B has read Na."""
    return _confirmed(suite, _Incremented, 1, "F1.2")


def answer_nobody(suite: Nonces) -> bool:
    """F1.3: C confirms and has answered nobody; A has no proof that C read anything."""
    return _confirmed(suite, _Mute, 2, "F1.3")


# --- keys ---------------------------------------------------------------------------------------------------


def repeat_the_dice(suite: Nonces) -> bool:
    """F1.4: machines that are set back draw the same nonces again: whoever has one room's key has the other's."""
    found = []
    for room in (ROOM, bytes(16)):
        net = Net(seed="F1.4")
        nodes = [net.node(suite, user, index) for index, user in enumerate(users(3))]
        nodes[0].create(room, POLICY)
        nodes[0].change(*(Add(node.name) for node in nodes[1:]))
        net.settle()
        found.append(nodes[0].live.export("anything", b"", 32))
    return found[0] == found[1]


# --- a copy of the store ------------------------------------------------------------------------------------


def read_what_was_said(suite: Nonces) -> bool:
    """F1.8: a thief copies a device's store and reads what was said before; each secret is tried as the key."""
    net, nodes = agreed(suite, 3, "F1.8")
    nodes[0].say(b"said before the theft")
    net.settle()
    sealed, epoch = last_record(suite, net, nodes[1])
    chains = records.schedule("nonces", epoch.th, epoch.exporter, 3).chains
    keys = split(message_key(chains[sealed.header.sender]))
    try:
        Gcm().open(keys, sealed.header.seq, sealed.ciphertext, sealed.tag, enc(sealed.header.items()))
    except PeerError:
        return False
    return True


ATTACKS = (
    Attack("nonces", "read the nonces", "F1.1", read_the_nonces),
    Attack("nonces", "+1 answer", "F1.2", answer_incremented),
    Attack("nonces", "confirm without an answer", "F1.3", answer_nobody),
    Attack("nonces", "one key in two rooms", "F1.4", repeat_the_dice),
    Attack("nonces", "last mover chooses the key", "F1.5", choose_last),
    Attack("nonces", "two keys from one member", "F1.6", two_keys),
    Attack("nonces", "RSA keys stolen later", "F1.7", steal_rsa_later),
    Attack("nonces", "key at rest", "F1.8", read_what_was_said),
    Attack("nonces", "two-time pad after restore", "Restore", write_on_after_restore),
)
"""In the order of the fixes."""
