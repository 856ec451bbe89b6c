"""A member that breaks the rules of suite `nonces`: takes messages apart, alters, signs and seals them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from cloister.primitives import Rng
from cloister.protocols import nonces_steps as steps
from cloister.protocols import run as runs
from cloister.protocols.agreement import AGREED, RUN, Run
from cloister.protocols.context import Party, party_of
from cloister.protocols.interface import Envelope, Session
from cloister.protocols.nonces import Nonces
from cloister.protocols.record import Schedule
from support.suite_net import Net, Node, assembly, keys_of, seeded

SUITE = Nonces()
KINDS = ("hello", "shares", "confirm")


@dataclass
class Bench:
    """A run of n members, all its messages made, and one victim that can be set before any phase."""

    net: Net
    nodes: list[Node]
    run: Run
    party: Party
    agreed: Schedule
    messages: dict[tuple[int, str], Envelope]
    stages: dict[str, dict[bytes, bytes]]
    """Kind -> the victim's items when it waits for messages of that kind and has none of the others'."""
    victim: int
    rng: Rng

    def session(self, kind: str) -> Session:
        """The victim, waiting for the others' messages of this kind."""
        return SUITE.restore(self.nodes[self.victim].me, self.stages[kind])

    def message(self, sender: int, kind: str) -> steps.Message:
        """What a member really said."""
        return steps.decode(self.plain(sender, kind))

    def plain(self, sender: int, kind: str) -> bytes:
        """The bytes of what a member really said."""
        entry = self.messages[sender, kind]
        return runs.unseal("nonces", self.run.proposal.secret, self.run.id, entry.entry_id, entry.payload)

    def sealed(self, plain: bytes, like: Envelope) -> Envelope:
        """The bytes as another entry of the run's log."""
        entry_id = self.rng(16)
        payload = runs.seal("nonces", self.run.proposal.secret, self.run.id, entry_id, plain)
        return replace(like, entry_id=entry_id, payload=payload)

    def signed(self, message: steps.Message, *, by: int | None = None) -> steps.Message:
        """Signed by its sender (or by another member)."""
        key = keys_of(message.sender if by is None else by).rsa_sign
        assert key is not None
        bound = self.agreed.th if isinstance(message, steps.Confirm) else self.party.ctx
        return replace(message, signature=steps.sign_message(key, bound, message))

    def forged(self, sender: int, kind: str, alter: Callable[..., steps.Message], *, by: int | None = None) -> Envelope:
        """A member's message, altered, signed again and sealed again."""
        like = self.messages[sender, kind]
        return self.sealed(steps.encode(self.signed(alter(self.message(sender, kind)), by=by)), like)

    def unsigned(self, sender: int, kind: str, alter: Callable[..., steps.Message]) -> Envelope:
        """A member's message, altered and sealed again with the old signature."""
        return self.sealed(steps.encode(alter(self.message(sender, kind))), self.messages[sender, kind])


@cache
def bench(n: int = 3, victim: int = 1, seed: object = "bench") -> Bench:
    """A run of n members; the victim's states are kept before each kind of message."""
    net, nodes = assembly(SUITE, n, seed)
    node = nodes[victim]
    stages: dict[str, dict[bytes, bytes]] = {}
    messages: dict[tuple[int, str], Envelope] = {}
    node.silent = lambda envelope: envelope.channel.id in net.runs
    net.settle()
    (log,) = net.runs.values()
    first = RUN.decode(nodes[0].items[RUN.key(log.id)])
    for kind in KINDS:
        stages[kind] = dict(node.items)
        _sort(log.entries, first, messages)
        for i in range(n):
            node.taken(messages[i, kind])
            node.give(messages[i, kind])
        net.settle(other for other in nodes if other is not node)
    _sort(log.entries, first, messages)
    agreed = AGREED.decode(stages["confirm"][AGREED.key(log.id)])
    party = party_of(first.proposal.context, net.directory)
    return Bench(net, nodes, first, party, agreed, messages, stages, victim, seeded(("insider", seed)))


def _sort(entries: list[Envelope], run: Run, found: dict[tuple[int, str], Envelope]) -> None:
    """Who said what, so far."""
    for entry in entries:
        plain = runs.unseal("nonces", run.proposal.secret, run.id, entry.entry_id, entry.payload)
        message = steps.decode(plain)
        found[message.sender, steps.KINDS[type(message)]] = entry
