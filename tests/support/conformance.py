"""What a suite must show whatever its protocol is: one `Case` a suite says how its members meet and what it lacks.

`tests/machines/test_conformance.py` asks the questions; here stand the suites' own ways. Everything goes through
`Suite` and `Session`; a case that must know a suite's inside (the forger, who has a member's keys) says so.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest import mock

from cloister.codec.cbor import enc
from cloister.errors import PeerError, UsageError
from cloister.lab.originals import nonces as nonces_originals
from cloister.lab.originals import shares as shares_originals
from cloister.lab.originals import transport as transport_originals
from cloister.primitives.aead import Aead
from cloister.protocols.code.forms import Code as SessionCode
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import (
    Add,
    Ask,
    Behind,
    Commit,
    Drop,
    Effects,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    Need,
    Post,
    Put,
    Rekey,
    Remove,
    State,
    Suite,
)
from cloister.protocols.mls.session import MlsSession
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.pair import steps as pair_steps
from cloister.protocols.pair.suite import Pair
from cloister.protocols.ratchet import RecvChain, SendChain
from cloister.protocols.rounds.epochs import RECV, SEND
from cloister.protocols.shares.suite import Shares
from cloister.protocols.transport.suite import Transport
from cloister.testing.pairs import CODE, word
from support.mls_net import MLS, MlsNet, MlsNode
from support.suite_net import MINUTE, POLICY, ROOM, Net, Node, seeded, users

OTHER_ROOM = bytes(range(16, 32))
Call = Callable[[], object]


class Case:
    """A suite under the questions of conformance.

    `sizes` are asked in `make test`, `many` in `make system`; `lacks` says which question makes no sense, and why.
    """

    name: str
    sizes: tuple[int, ...] = (2, 3, 5)
    many: tuple[int, ...] = ()
    altered: tuple[int, ...] = ()
    """Sizes of the larger rooms in which bits are altered."""
    orders = 3
    """Members in runs of drawn orders."""
    lacks: Mapping[str, str] = {}
    crashes = 4
    """In `make test` a device dies at every step that is a multiple of this."""
    waits = True
    """Whether an absent member holds a change up."""
    variants: tuple[Suite, ...] = ()
    """Other variants of the suite, which nobody is talked into."""

    @property
    def suite(self) -> Suite:
        raise LookupError

    def net(self, seed: object) -> Net:
        """A relay."""
        return Net(seed=seed)

    def member(self, net: Net, user: str, index: int) -> Node:
        """One more device."""
        return net.node(self.suite, user, index)

    def members(self, n: int, seed: object) -> tuple[Net, list[Node]]:
        """Devices that have no room yet."""
        net = self.net(seed)
        return net, [self.member(net, user, index) for index, user in enumerate(users(n))]

    def meeting(self, nodes: Sequence[Node], room: bytes) -> list[Call]:
        """The calls by which these come to have a room, one after the other."""
        first, *others = nodes
        return [
            lambda: first.create(room, POLICY),
            lambda: first.change(*(Add(node.name) for node in others)),
        ]

    def begin(self, n: int, seed: object, room: bytes = ROOM) -> tuple[Net, list[Node]]:
        """The first has made the room and asked the others in; nobody has read anything."""
        net, nodes = self.members(n, seed)
        for call in self.meeting(nodes, room):
            call()
        return net, nodes

    def agreed(self, n: int, seed: object, room: bytes = ROOM) -> tuple[Net, list[Node]]:
        """The room stands."""
        net, nodes = self.begin(n, seed, room)
        if n < 32:
            net.settle()
        else:
            net.rounds()
        return net, nodes

    def rekey(self, net: Net, nodes: Sequence[Node], who: int = 0) -> None:
        """A new key among the same members, asked for by one of them."""
        nodes[who].change(Rekey())

    def remove(self, nodes: Sequence[Node], who: int) -> None:
        """Put a member out."""
        nodes[0].change(Remove(nodes[who].name))

    def reads(self, moment: Given) -> bool:
        """Whether what the envelope holds is judged there, and not by the log's hash chain alone."""
        return True

    def forged(self, nodes: Sequence[Node], forger: int, victim: int, content: bytes) -> Envelope:
        """A record that a member makes with all that it has, under another member's name."""
        raise LookupError


class Classic(Case):
    """Suites whose epochs, chains and records are those of docs/spec/record.md."""

    many = (8, 16, 32)
    altered = (3, 8)

    def member(self, net: Net, user: str, index: int) -> Node:
        """One more device; in large rooms several have the same RSA keys, which are slow to make."""
        return net.node(self.suite, user, index % 16)

    def forged(self, nodes: Sequence[Node], forger: int, victim: int, content: bytes) -> Envelope:
        """The victim's chain as every member has it, the forger's signature."""
        thief, owner = nodes[forger], nodes[victim]
        if thief is owner:
            honest = self.suite.restore(thief.me, thief.items)
            return _posted(nodes, honest.seal(content, seeded(content)(16), None, thief.net.now, thief.rng))
        roster = thief.live.view.roster
        (send,) = [key for key in thief.items if key.startswith(b"send/")]
        chain = send.removeprefix(b"send/")
        place = RECV.key(chain + roster.index(owner.name).to_bytes(2, "big"))
        known = RecvChain.decode(thief.items[place])
        items = {**thief.items, send: SEND.encode(SendChain(seq=known.seq, key=known.key))}
        me = replace(thief.me, device=owner.name)
        session = self.suite.restore(me, items)
        return _posted(nodes, session.seal(content, seeded(content)(16), None, thief.net.now, thief.rng))


class NoncesCase(Classic):
    """Document 000."""

    name = "nonces"

    @property
    def suite(self) -> Suite:
        return Nonces()

    variants = (nonces_originals.original(), nonces_originals.original(frozenset({"F1.1"})))


class SharesCase(Classic):
    """Document 001."""

    name = "shares"

    @property
    def suite(self) -> Suite:
        return Shares()

    variants = (shares_originals.original(),)


class TransportCase(Classic):
    """Document 002."""

    name = "transport"
    sizes = (2, 3)
    many = (16, 256)
    altered = (3, 16)
    waits = False

    @property
    def suite(self) -> Suite:
        return Transport()

    variants = (transport_originals.original(),)

    def meeting(self, nodes: Sequence[Node], room: bytes) -> list[Call]:
        """Whoever asks for a new key must be an inviter, which its owners are: here all (the first of many)."""
        first, *others = nodes
        policy = replace(POLICY, owners=tuple(users(len(nodes))[:16]))
        return [lambda: first.create(room, policy), lambda: first.change(*(Add(node.name) for node in others))]

    def agreed(self, n: int, seed: object, room: bytes = ROOM) -> tuple[Net, list[Node]]:
        """In a very large room three read all acknowledgements: n squared signatures say nothing more."""
        net, nodes = self.begin(n, seed, room)
        for node in nodes[3:] if n > 64 else ():
            node.silent = lambda envelope: envelope.kind == EntryKind.HANDSHAKE
        net.rounds()
        return net, nodes


class _OtherKem(pair_steps.Steps):
    """Another key agreement than this device has."""

    kem = "another"


class PairCase(Case):
    """Document 003."""

    name = "pair"
    sizes = (2,)
    orders = 2
    lacks: Mapping[str, str] = {
        "insider": "of two members, whoever is not me is the other; content is deniable",
        "remove": "there is nobody to stay; a session is ended for both",
    }

    @property
    def suite(self) -> Suite:
        return Pair()

    variants = (Pair(_OtherKem()),)


class CodeCase(Case):
    """Document 004."""

    name = "code"
    sizes = (2,)
    orders = 2
    lacks: Mapping[str, str] = {
        "insider": "of two members, whoever is not me is the other; content is deniable",
        "remove": "there is nobody to stay; a session is ended for both",
        "variant": "what is typed chooses: a whole code, or strings that are compared (tests/scenarios)",
        "absence": "the two are there at the same time, or meet again within a day",
    }

    @property
    def suite(self) -> Suite:
        return Code()

    def meeting(self, nodes: Sequence[Node], room: bytes) -> list[Call]:
        """One makes a code, the other types it, the relay pairs them."""
        creator, joiner = nodes
        creator.net.pairs[SessionCode.parse(CODE).id.encode()] = creator, joiner
        typed = CODE.encode()
        return [
            lambda: creator.create(room, POLICY),
            lambda: creator.apply(creator.live.answer("code", typed, creator.net.now, creator.rng)),
            lambda: joiner.give(word(CODE, "paired")),
            lambda: joiner.apply(joiner.live.answer("code", typed, joiner.net.now, joiner.rng)),
            lambda: creator.give(word(CODE, "paired")),
        ]

    def reads(self, moment: Given) -> bool:
        """D1 and D2 are judged by what D3 and D4 show: an alteration is noticed there."""
        return not any(moment.envelope.payload.startswith(enc(kind)[1:], 1) for kind in ("commit", "dh"))


class MlsCase(Case):
    """RFC 9420."""

    name = "mls"
    sizes = (2, 3, 10)
    many = (100,)
    altered = (3, 10)
    waits = False
    lacks: Mapping[str, str] = {"variant": "a room's cipher suite stands in every KeyPackage and Welcome; there is one"}

    @property
    def suite(self) -> Suite:
        return MLS

    def net(self, seed: object) -> Net:
        return MlsNet(seed=seed)

    def member(self, net: Net, user: str, index: int) -> Node:
        assert isinstance(net, MlsNet)
        return net.member(user, index, packages=4)

    def reads(self, moment: Given) -> bool:
        """Who enters by a Welcome has its keys from there, and cannot open the commit that it stands beside."""
        return moment.envelope.kind != EntryKind.COMMIT or moment.envelope.next_token_hash not in moment.tokens

    def forged(self, nodes: Sequence[Node], forger: int, victim: int, content: bytes) -> Envelope:
        """The victim's ratchet as every member has it, the forger's signature."""
        thief = nodes[forger]
        session = MLS.restore(thief.me, thief.items)
        owner = nodes[victim].live
        assert isinstance(session, MlsSession)
        assert isinstance(owner, MlsSession)
        live = session.group._state.live
        live.epoch = replace(live.epoch, own=owner.group._state.live.epoch.own)
        return _posted(nodes, session.seal(content, seeded(content)(16), None, thief.net.now, thief.rng))


def _posted(nodes: Sequence[Node], effects: Effects) -> Envelope:
    """What the relay makes of a post: the next entry of the room's log."""
    (post,) = [effect for effect in effects if isinstance(effect, Post)]
    log = nodes[0].net.rooms[post.channel.id]
    entry = Envelope(
        channel=post.channel, kind=post.kind, payload=post.payload, entry_id=post.entry_id, token_hash=log.tip
    )
    return log.append(post.channel.kind, entry, nodes[0].net.now)


CASES: tuple[Case, ...] = (NoncesCase(), SharesCase(), TransportCase(), PairCase(), CodeCase(), MlsCase())


# --- looking --------------------------------------------------------------------------------------------------


def at_one(nodes: Sequence[Node]) -> None:
    """All are in the same epoch with the same key, and nobody accuses anybody."""
    views = [node.live.view for node in nodes]
    assert {view.state for view in views} == {State.READY}
    assert len({(view.epoch, view.roster, view.key_check) for view in views}) == 1
    assert len({node.live.export("conformance", b"", 32) for node in nodes}) == 1
    assert [fault for node in nodes for fault in node.faults] == []


def speaker(node: Node) -> str:
    """How the others see a device: by its name, or in a session without names by its place."""
    roster = node.live.view.roster
    return node.name if node.name in roster else roster[node.net.nodes.index(node)]


def talk(net: Net, nodes: Sequence[Node], mark: str = "") -> None:
    """Each says something, and each other one gets it once, from the right sender."""
    seen = {node.name: len(node.delivered) for node in nodes}
    for node in nodes:
        node.say(f"{mark} from {node.name}".encode())
        net.settle()
    for node in nodes:
        found = Counter((each.sender, each.content) for each in node.delivered[seen[node.name] :])
        assert found == Counter(
            {(speaker(other), f"{mark} from {other.name}".encode()): 1 for other in nodes if other is not node}
        )


def texts(node: Node) -> list[bytes]:
    """What a device was told, in order."""
    return [each.content for each in node.delivered]


def say_through(net: Net, nodes: Sequence[Node], drawn: random.Random) -> None:
    """Each says its name, and again if the relay has refused it for an epoch that was over, as an outbox does."""
    waiting = list(nodes)
    while waiting:
        before = len(net.refused)
        for node in waiting:
            node.say(node.name.encode())
        net.mix(drawn)
        refused = {name for name, effect in net.refused[before:] if isinstance(effect, Post)}
        waiting = [node for node in waiting if node.name in refused]


@dataclass
class Given:
    """An envelope that a device was given, and what it had stored before."""

    node: Node
    envelope: Envelope
    before: dict[bytes, bytes]
    fresh: bool
    """Whether the device had no session yet."""
    tokens: frozenset[bytes]
    """Hashes of the tokens that it held."""

    @property
    def own(self) -> bool:
        """Whether the device has made it itself."""
        made = (effect for effects in self.node.effects for effect in effects if isinstance(effect, Post | Commit))
        return any(effect.entry_id == self.envelope.entry_id for effect in made)


def recorded(nodes: Sequence[Node]) -> list[Given]:
    """From now on, everything that these devices are given."""
    found: list[Given] = []
    for node in nodes:
        node.give = _recording(node, node.give, found)  # type: ignore[method-assign]
    return found


def _recording(node: Node, give: Any, found: list[Given]) -> Any:
    def noted(envelope: Envelope) -> Effects:
        found.append(Given(node, envelope, dict(node.items), node.session is None, frozenset(node.tokens)))
        return give(envelope)  # type: ignore[no-any-return]

    return noted


def harmless(effects: Effects) -> bool:
    """Whether nothing was believed: no message, no key, nothing said to anybody; a failed try may be forgotten."""
    failed = any(isinstance(effect, Fault) and effect.fatal for effect in effects)
    return all(
        isinstance(effect, Fault | Need)
        or (failed and isinstance(effect, Put | Drop))
        or (failed and isinstance(effect, EpochChanged) and effect.access_token is None)
        for effect in effects
    )


def given_again(case: Case, moment: Given, envelope: Envelope) -> Effects:
    """What a copy of the device, as it was then, does with an envelope; PeerError and Behind are no effects."""
    if not moment.fresh:
        session = case.suite.restore(moment.node.me, moment.before)
        return session.receive(envelope, moment.node.net.now, seeded("again"))
    try:
        _, effects = case.suite.join(moment.node.me, envelope, None, moment.node.net.now, seeded("again"))
    except (PeerError, Behind):
        return ()
    return effects


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit the other way."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


# --- splitting, dying, counting -------------------------------------------------------------------------------


def twin(net: Net) -> tuple[Net, list[Node]]:
    """The same relay and devices once more, as a relay that forks shows itself to another half."""
    other = copy.copy(net)
    other.rng = seeded(("twin", net.seed))
    other.rooms = {room: _copied(log) for room, log in net.rooms.items()}
    other.runs = {run: _copied(log) for run, log in net.runs.items()}
    other.mail = {name: list(items) for name, items in net.mail.items()}
    other.refused = []
    other.nodes = []
    for index, node in enumerate(net.nodes):
        made = copy.copy(node)
        made.net, made.items, made.rng = other, dict(node.items), seeded(("twin", net.seed, index))
        made.tokens, made.run_tokens = dict(node.tokens), dict(node.run_tokens)
        made.read = {log: set(read) for log, read in node.read.items()}
        made.delivered, made.faults, made.needs, made.changes, made.effects = [], [], [], [], []
        made.session = node.suite.restore(node.me, made.items) if node.session is not None else None
        other.nodes.append(made)
    return other, other.nodes


def _copied(log: Any) -> Any:
    made = copy.copy(log)
    made.entries, made.ids = list(log.entries), set(log.ids)
    return made


class DiedError(Exception):
    """kill -9."""


@dataclass
class Sealed:
    """Every (key, nonce) that sealed something which left its device."""

    uses: list[tuple[bytes, bytes]] = field(default_factory=list)

    def twice(self) -> list[tuple[bytes, bytes]]:
        """What was used again."""
        return [use for use, count in Counter(self.uses).items() if count > 1]


@contextmanager
def counting() -> Iterator[Sealed]:
    """`Aead`, writing down what it seals with."""
    found = Sealed()
    gcm, seal = Aead.aes_gcm.__func__, Aead.seal  # type: ignore[attr-defined]
    keys: dict[int, tuple[Aead, bytes]] = {}

    def aes_gcm(cls: type[Aead], key: bytes) -> Aead:
        made: Aead = gcm(cls, key)
        keys[id(made)] = made, key
        return made

    def noted(self: Aead, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        if id(self) in keys:
            found.uses.append((keys[id(self)][1], nonce))
        return seal(self, nonce, plaintext, aad)

    with mock.patch.object(Aead, "aes_gcm", classmethod(aes_gcm)), mock.patch.object(Aead, "seal", noted):
        yield found


class Mortality:
    """One device of a net dies once, at its k-th call: before the transaction, or after it and before it sends."""

    def __init__(self, case: Case, nodes: Sequence[Node], at: int, *, stored: bool, sealed: Sealed) -> None:
        self.case, self.left, self.stored, self.sealed = case, at, stored, sealed
        self.died, self.victim = False, cast(Node | None, None)
        for node in nodes:
            node.apply = self._mortal(node, node.apply)  # type: ignore[method-assign]

    def _mortal(self, node: Node, apply: Any) -> Any:
        mark, depth = [0], [0]

        def dying(effects: Effects) -> Effects:
            self.left -= 1
            if self.left or self.died:
                mark[0] = len(self.sealed.uses)
                depth[0] += 1
                try:
                    return apply(effects)  # type: ignore[no-any-return]
                finally:
                    depth[0] -= 1
                    if not depth[0] and self.died and node is self.victim:
                        self.victim, node.alarm = None, node.net.now  # a start wakes the session
                        if any(isinstance(effect, Ask) and effect.kind == "accept" for effect in effects):
                            with suppress(UsageError):  # the person's answer, unless it was stored
                                node.decide(accept=True)
            self.died, self.victim = True, node
            kept = tuple(effect for effect in effects if isinstance(effect, Put | Drop))
            if not self.stored:
                del self.sealed.uses[mark[0] :]
                self._reborn(node)
                if depth[0]:
                    return ()  # it died answering a Need: what asked for it is stored, and asks again
                raise DiedError
            apply(kept)
            self._reborn(node)
            apply(tuple(effect for effect in effects if effect not in kept))  # the outbox, after the start
            return effects

        return dying

    def _reborn(self, node: Node) -> None:
        node.session = self.case.suite.restore(node.me, dict(node.items)) if node.items else None
        if node.session is not None:
            node.alarm = node.net.now


def persistent(net: Net, call: Any) -> None:
    """A call of a person, made again when the device died before it was stored; then everything there is.

    A minute passes, too: some questions are not asked again after a death, and their answers waited for so long.
    """
    try:
        call()
    except DiedError:
        call()
    patient = True
    while True:
        able = [node for node in net.nodes if node.pending() or node.due()]
        if not able and patient:
            net.pass_time(MINUTE)
            patient = False
            continue
        if not able:
            return
        found, own = able[0].pending(), dict(getattr(able[0], "own", {}))
        try:
            if found:
                able[0].give(found[0])
                able[0].taken(found[0])
            else:
                able[0].wake()
        except DiedError:
            if isinstance(able[0], MlsNode):
                able[0].own = own  # a key package goes in the transaction that did not come about


def dice(seed: object) -> random.Random:
    """Dice of a test."""
    return random.Random(repr(seed))
