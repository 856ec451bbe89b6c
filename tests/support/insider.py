"""A member that breaks the rules of `nonces` or `shares`: takes messages apart, alters, signs and seals them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from cloister.errors import CloisterError
from cloister.primitives import Rng
from cloister.protocols.context import Context, Party, party_of
from cloister.protocols.contributions import steps as forms_of
from cloister.protocols.interface import Add, Channel, ChannelKind, EntryKind, Envelope, Session
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.record import Schedule
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.agreement import AGREED, RUN, Run
from cloister.protocols.rounds.epochs import EPOCH, Epoch, seal_entry
from cloister.protocols.rounds.run import Order, Proposal, RunChange
from cloister.protocols.rounds.session import RoundsSession
from cloister.protocols.shares.suite import Shares
from support.suite_net import MAILBOX, MINUTE, NOW, POLICY, ROOM, Net, Node, assembly, keys_of, seeded, users

SUITE = Nonces()
SUITES = {"nonces": Nonces(), "shares": Shares()}
"""The suites whose members contribute."""
KINDS = ("hello", "shares", "confirm")


@dataclass
class Bench:
    """A run of n members, all its messages made, and one victim that can be set before any phase."""

    suite: Nonces | Shares
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

    @property
    def form(self) -> forms_of.Form:
        """How the suite's messages are read and signed."""
        return self.suite.agreement.form

    def session(self, kind: str) -> Session:
        """The victim, waiting for the others' messages of this kind."""
        return self.suite.restore(self.nodes[self.victim].me, self.stages[kind])

    def message(self, sender: int, kind: str) -> forms_of.Message:
        """What a member really said."""
        return self.form.decode(self.plain(sender, kind))

    def plain(self, sender: int, kind: str) -> bytes:
        """The bytes of what a member really said."""
        entry = self.messages[sender, kind]
        return runs.unseal(self.form.suite, self.run.proposal.secret, self.run.id, entry.entry_id, entry.payload)

    def sealed(self, plain: bytes, like: Envelope) -> Envelope:
        """The bytes as another entry of the run's log."""
        entry_id = self.rng(16)
        payload = runs.seal(self.form.suite, self.run.proposal.secret, self.run.id, entry_id, plain)
        return replace(like, entry_id=entry_id, payload=payload)

    def signed(self, message: forms_of.Message, *, by: int | None = None) -> forms_of.Message:
        """Signed by its sender (or by another member)."""
        key = keys_of(message.sender if by is None else by).rsa_sign
        assert key is not None
        bound = self.agreed.th if isinstance(message, forms_of.Confirm) else self.party.ctx
        return replace(message, signature=self.form.sign(key, bound, message))

    def forged(
        self, sender: int, kind: str, alter: Callable[..., forms_of.Message], *, by: int | None = None
    ) -> Envelope:
        """A member's message, altered, signed again and sealed again."""
        like = self.messages[sender, kind]
        return self.sealed(forms_of.encode(self.signed(alter(self.message(sender, kind)), by=by)), like)

    def unsigned(self, sender: int, kind: str, alter: Callable[..., forms_of.Message]) -> Envelope:
        """A member's message, altered and sealed again with the old signature."""
        return self.sealed(forms_of.encode(alter(self.message(sender, kind))), self.messages[sender, kind])


@cache
def bench(n: int = 3, victim: int = 1, seed: object = "bench", suite: str = "nonces") -> Bench:
    """A run of n members; the victim's states are kept before each kind of message."""
    net, nodes = assembly(SUITES[suite], n, seed)
    form = SUITES[suite].agreement.form
    node = nodes[victim]
    stages: dict[str, dict[bytes, bytes]] = {}
    messages: dict[tuple[int, str], Envelope] = {}
    node.silent = lambda envelope: envelope.channel.id in net.runs
    net.settle()
    (log,) = net.runs.values()
    first = RUN.decode(nodes[0].items[RUN.key(log.id)])
    for kind in KINDS:
        stages[kind] = dict(node.items)
        _sort(form, log.entries, first, messages)
        for i in range(n):
            node.taken(messages[i, kind])
            node.give(messages[i, kind])
        net.settle(other for other in nodes if other is not node)
    _sort(form, log.entries, first, messages)
    agreed = AGREED.decode(stages["confirm"][AGREED.key(log.id)])
    party = party_of(first.proposal.context, net.directory)
    return Bench(SUITES[suite], net, nodes, first, party, agreed, messages, stages, victim, seeded(("insider", seed)))


def _sort(form: forms_of.Form, entries: list[Envelope], run: Run, found: dict[tuple[int, str], Envelope]) -> None:
    """Who said what, so far."""
    for entry in entries:
        plain = runs.unseal(form.suite, run.proposal.secret, run.id, entry.entry_id, entry.payload)
        message = form.decode(plain)
        found[message.sender, forms_of.KINDS[type(message)]] = entry


# --- a room that stands, and what its members may propose, order and commit ----------------------------------


@dataclass
class Standing:
    """A room of n members in epoch 1, and one victim that every test takes anew from its items."""

    net: Net
    nodes: list[Node]
    epoch: Epoch
    victim: int
    suite: str = "nonces"

    def session(self) -> Session:
        """The victim, in the standing epoch."""
        node = self.nodes[self.victim]
        return SUITES[self.suite].restore(node.me, node.items)

    def context(self, **changes: object) -> Context:
        """The context of a rekey that member 0 may propose."""
        context = Context(
            suite=self.suite,
            variant="fs=1",
            room=ROOM,
            epoch=self.epoch.number + 1,
            run_id=bytes([7]) * 16,
            prev_th=self.epoch.th,
            proposer=self.nodes[0].name,
            deadline=NOW + 24 * 60 * MINUTE,
            log_size=self.net.directory.size,
            roster=self.epoch.roster,
            policy=POLICY,
        )
        return replace(context, **changes)  # type: ignore[arg-type]

    def order(self, author: int, removed: tuple[str, ...], *, by: int | None = None, **changes: object) -> Order:
        """An order of removal by a member (signed by it, or by another)."""
        key = keys_of(author if by is None else by).rsa_sign
        assert key is not None
        order = Order(
            suite=self.suite,
            room=ROOM,
            epoch=self.epoch.number,
            th=self.epoch.th,
            author=self.nodes[author].name,
            removed=tuple(sorted(removed)),
            log_size=self.net.directory.size,
        )
        return replace(order, **changes).signed(key)  # type: ignore[arg-type]

    def propose(
        self, context: Context, change: RunChange | None = None, *, by: int = 0, sender: str | None = None
    ) -> Envelope:
        """M0 with these fields, signed by member `by`, from its mailbox."""
        key = keys_of(by).rsa_sign
        assert key is not None
        proposal = Proposal(context=context, change=change or RunChange(), secret=bytes(32))
        try:
            ctx = party_of(context, self.net.directory).ctx
        except CloisterError:
            ctx = bytes(32)
        return Envelope(
            channel=MAILBOX,
            kind="propose",
            payload=proposal.signed(ctx, key).encode(),
            sender=context.proposer if sender is None else sender,
        )

    def record(self, sender: int, content: bytes, *, kind: str = EntryKind.APPLICATION) -> Envelope:
        """The next record of a member, as the room's log would bring it."""
        node = self.nodes[sender]
        session = SUITES[self.suite].restore(node.me, node.items)
        assert isinstance(session, RoundsSession)
        turn = session._turn(session._draft(), NOW, seeded((sender, content)))
        entry_id = turn.rng(16)
        payload = seal_entry(turn, self.epoch, content, kind=kind, entry_id=entry_id, head=None)
        return Envelope(
            channel=Channel(ChannelKind.ROOM, ROOM),
            kind=kind,
            payload=payload,
            entry_id=entry_id,
            seq=2,
            token_hash=self.epoch.token_hash,
        )


@cache
def standing(n: int = 3, victim: int = 1, suite: str = "nonces") -> Standing:
    """A room of n in epoch 1; two more people of the realm, `x` with the pool's keys 3 and `y` without RSA keys."""
    net = Net(seed="standing")
    nodes = [net.node(SUITES[suite], user, index) for index, user in enumerate(users(n))]
    net.directory.enrol("x", 3)
    net.directory.enrol("y", 3, rsa=False)
    nodes[0].create(ROOM, POLICY)
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    items = nodes[0].items
    (epoch,) = [EPOCH.decode(value) for key, value in items.items() if key.startswith(b"epoch/")]
    return Standing(net, nodes, epoch, victim, suite)
