"""Attacks on suite `nonces`, one for each fix that is a step of the protocol (F1.1 to F1.7), and one on restores.

Source: docs/spec/classic/nonces.md. The attackers: a reader of the run's messages who holds no member's key; a member
that departs from the rules in one place (a class over the suite's own steps); a thief who comes later with the RSA
keys or with a copy of the store; a device whose dice repeat themselves. A relay may show one member an entry before
another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.lab.attacks import Attack, lost
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.protocols import record as records
from cloister.protocols import run as runs
from cloister.protocols.agreement import RUN, Run
from cloister.protocols.context import Party, party_of
from cloister.protocols.contribution_steps import Confirm, Hello, Message, Shares
from cloister.protocols.epochs import EPOCH, Epoch
from cloister.protocols.interface import READ_ONLY_ITEM, Add, Envelope, NotReady, State
from cloister.protocols.nonces import Nonces
from cloister.protocols.nonces_steps import FORM, NONCE, Steps
from cloister.protocols.ratchet import message_key, split
from cloister.protocols.record import Gcm, Scope
from cloister.testing.keys import keys_of
from cloister.testing.sessions import POLICY, ROOM, Net, Node, agreed, assembly, users

BYTES_OF_WRAP = (0, 32, 80)
"""Where in a wrapped share a reader looks for a nonce."""


def with_steps(suite: Nonces, *cheats: type) -> Nonces:
    """The suite as a member plays it that departs from the rules as `cheats` say."""
    return Nonces(type("Cheat", (*cheats, type(suite.agreement.steps)), {})())


def run_of(net: Net, nodes: Sequence[Node]) -> Run:
    """The one open run, as the proposer has it."""
    (run_id,) = net.runs
    return RUN.decode(nodes[0].items[RUN.key(run_id)])


class Reader:
    """Somebody who reads a run's messages: what the relay would see without the run's seal. Holds no member's key."""

    def __init__(self, suite: Nonces, net: Net, run: Run) -> None:
        self.steps, self.run, self.log = suite.agreement.steps, run, net.runs[run.id]
        self.party: Party = party_of(run.proposal.context, net.directory)

    def read(self, entry: Envelope) -> Message:
        """The message in an entry."""
        secret = self.run.proposal.secret
        return FORM.decode(runs.unseal("nonces", secret, self.run.id, entry.entry_id, entry.payload))

    def hellos(self) -> list[Hello]:
        """M1 of all, in roster order."""
        found = [message for entry in self.log.entries if isinstance(message := self.read(entry), Hello)]
        return sorted(found, key=lambda message: message.sender)

    def shares(self) -> list[Shares]:
        """M2 of those who have said it, in roster order."""
        found = [message for entry in self.log.entries if isinstance(message := self.read(entry), Shares)]
        return sorted(found, key=lambda message: message.sender)

    def entry(self, kind: type, sender: int) -> Envelope:
        """Where a member said that."""
        for entry in self.log.entries:
            message = self.read(entry)
            if isinstance(message, kind) and message.sender == sender:
                return entry
        raise LookupError(f"member {sender} has not said it")

    def key_check(self, nonces: Sequence[bytes]) -> str:
        """The check value of the key that these nonces give."""
        th = FORM.transcript(self.party, [(hello.commitment, hello.ephemeral) for hello in self.hellos()])
        return records.schedule("nonces", th, self.steps.combine(th, tuple(nonces)), len(nonces)).key_check


def _whole_run(suite: Nonces, seed: str) -> tuple[list[Node], Reader]:
    """A run of three from beginning to end, and its reader."""
    net, nodes = assembly(suite, 3, seed)
    reader = Reader(suite, net, run_of(net, nodes))
    net.settle()
    return nodes, reader


def read_the_nonces(suite: Nonces) -> bool:
    """F1.1: somebody without any key reads the run and computes the members' key."""
    nodes, reader = _whole_run(suite, "F1.1")
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


class _Chooses(Steps):
    """Sends another nonce than the one it drew, once it has chosen; `sent` tells when."""

    chosen = b""
    sent = False

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        self.sent = True
        return super().encrypt(party, i, j, self.chosen + payload[NONCE:])


class _Notes:
    """Dice that remember what they gave: a member knows its own secrets."""

    def __init__(self, rng: Rng) -> None:
        self.rng, self.drawn = rng, list[bytes]()

    def __call__(self, n: int) -> bytes:
        self.drawn.append(self.rng(n))
        return self.drawn[-1]


def choose_last(suite: Nonces) -> bool:
    """F1.5: C reads the others' nonces, then picks its own until the key begins as it likes (one byte, here)."""
    net, nodes = assembly(suite, 3, "F1.5")
    cheat = nodes[2]
    cheat.suite, dice = with_steps(suite, _Chooses), _Notes(cheat.rng)
    cheat.rng = dice
    steps: Any = cheat.suite.agreement.steps
    cheat.step()  # it joins and says hello, and nothing more until it has chosen
    net.settle(nodes[:2])
    reader = Reader(suite, net, run_of(net, nodes))
    seen = [_nonce_for(reader, said, 2, _own(dice, reader.hellos()[2])) for said in reader.shares()]
    tries = (number.to_bytes(NONCE, "big") for number in range(100_000))
    steps.chosen = next(mine for mine in tries if reader.key_check([*seen, mine]).startswith("00"))
    cheat.silent = lambda _: steps.sent  # its own key is another one: it says no more
    net.settle()
    views = [node.live.view for node in nodes[:2]]
    took = all(view.state is State.READY and view.key_check.startswith("00") for view in views)
    return took or lost(nodes[:2])


def _own(dice: _Notes, hello: Hello) -> DhKey:
    """The attacker's own key of the run, among all that it drew."""
    keys = (DhKey(drawn) for drawn in dice.drawn if len(drawn) == len(hello.ephemeral))
    return next(key for key in keys if key.public == hello.ephemeral)


def _nonce_for(reader: Reader, said: Shares, me: int, own: DhKey) -> bytes:
    """The nonce that a member has sent to me."""
    wrapped = reader.steps.unwrap(reader.party.ctx, said.sender, me, own, dict(said.wrapped)[me])
    key = keys_of(me).rsa_decrypt
    if key is None:
        raise LookupError("no RSA key")
    return reader.steps.decrypt(reader.party, key, said.sender, me, wrapped)[:NONCE]


class _TwoFaced(Steps):
    """Gives each peer another nonce, and commits to none."""

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        return super().encrypt(party, i, j, bytes([j]) * NONCE + payload[NONCE:])


def two_keys(suite: Nonces) -> bool:
    """F1.6: C gives A and B different nonces; both count their key as agreed, and it is not the same."""
    net, nodes = assembly(suite, 3, "F1.6")
    nodes[2].suite = with_steps(suite, _TwoFaced)
    net.settle()
    try:
        keys = [_agreed_key(node) for node in nodes[:2]]
    except NotReady:
        return lost(nodes[:2])
    return keys[0] != keys[1] or lost(nodes[:2])


def _agreed_key(node: Node) -> bytes:
    return node.live.export("anything", b"", 16, pending=node.live.view.state is State.PENDING)


def steal_rsa_later(suite: Nonces) -> bool:
    """F1.7: a thief takes all RSA keys after the run, and opens the recording; ephemeral keys are erased by then."""
    nodes, reader = _whole_run(suite, "F1.7")
    for cut in (slice(None), slice(32, None), slice(32, -16)):
        nonces = list(_stolen(reader, cut))
        if len(nonces) == len(nodes) and reader.key_check(nonces) == nodes[0].live.view.key_check:
            return True
    return False


def _stolen(reader: Reader, cut: slice) -> Iterator[bytes]:
    """What the stolen keys open, if this part of each share is the RSA ciphertext."""
    for said in reader.shares():
        j, wrapped = said.wrapped[0]
        key = keys_of(j).rsa_decrypt
        if key is not None:
            try:
                yield reader.steps.decrypt(reader.party, key, said.sender, j, wrapped[cut])[:NONCE]
            except PeerError:
                continue


# --- a copy of the store ------------------------------------------------------------------------------------


def read_what_was_said(suite: Nonces) -> bool:
    """F1.8: a thief copies a device's store and reads what was said before; each secret is tried as the key."""
    net, nodes = agreed(suite, 3, "F1.8")
    nodes[0].say(b"said before the theft")
    net.settle()
    sealed, epoch = _last_record(net, nodes[1])
    chains = records.schedule("nonces", epoch.th, epoch.exporter, 3).chains
    keys = split(message_key(chains[sealed.header.sender]))
    try:
        Gcm().open(keys, sealed.header.seq, sealed.ciphertext, sealed.tag, enc(sealed.header.items()))
    except PeerError:
        return False
    return True


def write_on_after_restore(suite: Nonces) -> bool:
    """Restore: a backup writes on with a key and a number that were used; who knows one text reads the other."""
    net, nodes = agreed(suite, 2, "restore")
    backup = dict(nodes[1].items)
    texts = (b"known to no thief", b"known to everyone")
    nodes[1].say(texts[0])
    first, _ = _last_record(net, nodes[1])
    nodes[1].session = suite.restore(nodes[1].me, backup | {READ_ONLY_ITEM: b""})
    nodes[1].say(texts[1])  # NotReady in the suite: it seals nothing until a new epoch begins
    second, _ = _last_record(net, nodes[1])
    return _xor(_xor(first.ciphertext, second.ciphertext), texts[1]) == texts[0]


def _last_record(net: Net, node: Node) -> tuple[records.Sealed, Epoch]:
    """The room's newest record out of its envelope, as a thief of this device's store gets it."""
    (epoch,) = [EPOCH.decode(value) for key, value in node.items.items() if key.startswith(b"epoch/")]
    entry = net.rooms[ROOM].entries[-1]
    scope = Scope(
        suite="nonces",
        room=ROOM,
        th=epoch.th,
        members=len(epoch.roster),
        exporter=epoch.exporter,
        cipher=Gcm(),
    )
    return records.unwrap(scope, entry.payload, kind=entry.kind, entry_id=entry.entry_id), epoch


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


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
