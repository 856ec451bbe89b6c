"""What attackers of suites `nonces` and `shares` have in common: a reader of runs, a last mover, a thief of RSA keys.

Source: docs/spec/classic/contributions.md. Each attack is a function over the suite object, as `lab.attacks` asks for;
which fix answers it is said where it is listed.

Invariants: a cheat is a class over the attacked suite's own steps and departs from them in one place; a reader holds
no member's key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cloister.errors import PeerError
from cloister.lab.attacks import lost
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.protocols import record as records
from cloister.protocols.context import Party, party_of
from cloister.protocols.contributions.steps import CONTRIBUTION, OPENING, Hello, Message, Shares, Steps
from cloister.protocols.interface import READ_ONLY_ITEM, Envelope, NotReady, State
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.record import Scope
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.agreement import RUN, Run
from cloister.protocols.rounds.epochs import EPOCH, Epoch
from cloister.protocols.shares.suite import Shares as SharesSuite
from cloister.testing.keys import keys_of
from cloister.testing.sessions import ROOM, Net, Node, agreed, assembly

AnySuite = Nonces | SharesSuite


def with_steps(suite: AnySuite, *cheats: type) -> AnySuite:
    """The suite as a member plays it that departs from the rules as `cheats` say."""
    return type(suite)(type("Cheat", (*cheats, type(suite.agreement.steps)), {})())


def run_of(net: Net, nodes: Sequence[Node]) -> Run:
    """The one open run, as the proposer has it."""
    (run_id,) = net.runs
    return RUN.decode(nodes[0].items[RUN.key(run_id)])


class Reader:
    """Somebody who reads a run's messages: what the relay would see without the run's seal. Holds no member's key."""

    def __init__(self, suite: AnySuite, net: Net, run: Run) -> None:
        self.steps, self.form = suite.agreement.steps, suite.agreement.form
        self.run, self.log = run, net.runs[run.id]
        self.party: Party = party_of(run.proposal.context, net.directory)

    def read(self, entry: Envelope) -> Message:
        """The message in an entry."""
        secret = self.run.proposal.secret
        return self.form.decode(runs.unseal(self.form.suite, secret, self.run.id, entry.entry_id, entry.payload))

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

    def key_check(self, parts: Sequence[bytes]) -> str:
        """The check value of the key that these contributions give."""
        th = self.form.transcript(self.party, [(hello.commitment, hello.ephemeral) for hello in self.hellos()])
        return self.steps.split(th, self.steps.combine(th, tuple(parts)), len(parts)).key_check


def whole_run(suite: AnySuite, seed: str) -> tuple[list[Node], Reader]:
    """A run of three from beginning to end, and its reader."""
    net, nodes = assembly(suite, 3, seed)
    reader = Reader(suite, net, run_of(net, nodes))
    net.settle()
    return nodes, reader


class Chooses(Steps):
    """Sends another contribution and opening than it drew, once it has `chosen`; `sent` tells when.

    `first` is what the first member committed to, `seen` what the others have sent.
    """

    chosen = b""
    first = b""
    seen: Sequence[bytes] = ()
    sent = False

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        """The chosen one."""
        self.sent = True
        return super().encrypt(party, i, j, self.chosen)


class _Notes:
    """Dice that remember what they gave: a member knows its own secrets."""

    def __init__(self, rng: Rng) -> None:
        self.rng, self.drawn = rng, list[bytes]()

    def __call__(self, n: int) -> bytes:
        self.drawn.append(self.rng(n))
        return self.drawn[-1]


def speak_last(suite: AnySuite, cheat: type, n: int, seed: str) -> tuple[Net, list[Node], Reader, Any]:
    """A run whose last member has said hello, has been sent all shares (`steps.seen`), and has not sent its own."""
    net, nodes = assembly(suite, n, seed)
    last, reader = nodes[-1], Reader(suite, net, run_of(net, nodes))
    last.suite, dice = with_steps(suite, cheat), _Notes(last.rng)
    last.rng = dice
    steps: Any = last.suite.agreement.steps
    steps.first = reader.hellos()[0].commitment
    last.step()  # it joins and says hello, and nothing more until the others have given their shares
    net.settle(nodes[:-1])
    own = _own(dice, reader.hellos()[-1])
    steps.seen = [_payload_for(reader, said, n - 1, own) for said in reader.shares()]
    return net, nodes, reader, steps


def choose_last(suite: AnySuite) -> bool:
    """C reads the others' contributions, then picks its own until the key begins as it likes (one byte, here)."""
    net, nodes, reader, steps = speak_last(suite, Chooses, 3, "last")
    seen = [payload[:CONTRIBUTION] for payload in steps.seen]
    tries = (number.to_bytes(CONTRIBUTION, "big") for number in range(100_000))
    mine = next(mine for mine in tries if reader.key_check([*seen, mine]).startswith("00"))
    steps.chosen = mine + bytes(OPENING)
    nodes[2].silent = lambda _: steps.sent  # its own key is another one: it says no more
    net.settle()
    views = [node.live.view for node in nodes[:2]]
    took = all(view.state is State.READY and view.key_check.startswith("00") for view in views)
    return took or lost(nodes[:2])


def _own(dice: _Notes, hello: Hello) -> DhKey:
    """The attacker's own key of the run, among all that it drew."""
    keys = (DhKey(drawn) for drawn in dice.drawn if len(drawn) == len(hello.ephemeral))
    return next(key for key in keys if key.public == hello.ephemeral)


def _payload_for(reader: Reader, said: Shares, me: int, own: DhKey) -> bytes:
    """The contribution and opening that a member has sent to me."""
    wrapped = reader.steps.unwrap(reader.party.ctx, said.sender, me, own, dict(said.wrapped)[me])
    key = keys_of(me).rsa_decrypt
    if key is None:
        raise LookupError("no RSA key")
    return reader.steps.decrypt(reader.party, key, said.sender, me, wrapped)


class _TwoFaced(Steps):
    """Gives each peer another contribution, and commits to none."""

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        return super().encrypt(party, i, j, bytes([j]) * CONTRIBUTION + payload[CONTRIBUTION:])


def two_keys(suite: AnySuite) -> bool:
    """C gives A and B different contributions; both count their key as agreed, and it is not the same."""
    net, nodes = assembly(suite, 3, "two keys")
    nodes[2].suite = with_steps(suite, _TwoFaced)
    net.settle()
    try:
        keys = [_agreed_key(node) for node in nodes[:2]]
    except NotReady:
        return lost(nodes[:2])
    return keys[0] != keys[1] or lost(nodes[:2])


def _agreed_key(node: Node) -> bytes:
    return node.live.export("anything", b"", 16, pending=node.live.view.state is State.PENDING)


def steal_rsa_later(suite: AnySuite) -> bool:
    """A thief takes all RSA keys after the run, and opens the recording; ephemeral keys are erased by then."""
    nodes, reader = whole_run(suite, "stolen")
    for cut in (slice(None), slice(32, None), slice(32, -16)):
        parts = list(_stolen(reader, cut))
        if len(parts) == len(nodes) and reader.key_check(parts) == nodes[0].live.view.key_check:
            return True
    return False


def _stolen(reader: Reader, cut: slice) -> Iterator[bytes]:
    """What the stolen keys open, if this part of each share is the RSA ciphertext."""
    for said in reader.shares():
        j, wrapped = said.wrapped[0]
        key = keys_of(j).rsa_decrypt
        if key is not None:
            try:
                yield reader.steps.decrypt(reader.party, key, said.sender, j, wrapped[cut])[:CONTRIBUTION]
            except PeerError:
                continue


def write_on_after_restore(suite: AnySuite) -> bool:
    """A backup writes on with a key and a number that were used; who knows one text reads the other."""
    net, nodes = agreed(suite, 2, "restore")
    backup = dict(nodes[1].items)
    texts = (b"known to no thief", b"known to everyone")
    nodes[1].say(texts[0])
    first, _ = last_record(suite, net, nodes[1])
    nodes[1].session = suite.restore(nodes[1].me, backup | {READ_ONLY_ITEM: b""})
    nodes[1].say(texts[1])  # NotReady in the suite: it seals nothing until a new epoch begins
    second, _ = last_record(suite, net, nodes[1])
    return xor(xor(first.ciphertext, second.ciphertext), texts[1]) == texts[0]


def last_record(suite: AnySuite, net: Net, node: Node) -> tuple[records.Sealed, Epoch]:
    """The room's newest record out of its envelope, as a thief of this device's store gets it."""
    epoch, entry = epoch_of(node), net.rooms[ROOM].entries[-1]
    scope = scope_of(suite, epoch)
    return records.unwrap(scope, entry.payload, kind=entry.kind, entry_id=entry.entry_id), epoch


def epoch_of(node: Node) -> Epoch:
    """The one epoch that the device's store has."""
    (epoch,) = [EPOCH.decode(value) for key, value in node.items.items() if key.startswith(b"epoch/")]
    return epoch


def scope_of(suite: AnySuite, epoch: Epoch) -> Scope:
    """What the epoch's records are bound to, as each member has it."""
    return Scope(
        suite=suite.agreement.suite,
        room=ROOM,
        th=epoch.th,
        members=len(epoch.roster),
        exporter=epoch.exporter,
        cipher=suite.agreement.cipher,
    )


def xor(one: bytes, other: bytes) -> bytes:
    """Of the same length."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
