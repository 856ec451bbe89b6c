"""Drives sessions of any suite through their effects: an in-memory relay without a network, devices that can crash.

    net, nodes = agreed(Nonces(), 3)        # three devices of three users, their room stands
    nodes[0].say(b"hello")
    net.settle()
    nodes[2].delivered[0].content

The relay keeps room logs (epochs named by token hashes, first commit wins), run logs (own token, deadline) and
mailboxes. A device applies effects as the engine does: items first, then what is sent. Delivery is lossless; `settle`
gives everything in order, `step` one envelope, so orders, crashes and silences are the caller's. An attacker reads
`net.rooms`, `net.runs` and `net.mail` (bodies of mail are plain here: the mailbox's own seal is the driver's), gives a
`Node` another suite, or gives a node an envelope of its own making.

Source: docs/spec/suites.md. Left out: the network, the mailbox's seal, the log's signatures (a driver checks them).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    NO_EPOCH,
    Add,
    Ask,
    Behind,
    Change,
    Channel,
    ChannelKind,
    Commit,
    Deliver,
    Direct,
    Drop,
    Effects,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    Follow,
    Me,
    Need,
    OpenRun,
    Post,
    PreKey,
    Put,
    RoomPolicy,
    Session,
    SignedHead,
    State,
    Suite,
    Unfollow,
    Wake,
)
from cloister.testing.directory import NOW, FakeDirectory
from cloister.testing.keys import keys_of, seeded

MINUTE = 60_000
MAILBOX = Channel(ChannelKind.MAILBOX, b"")


@dataclass
class Log:
    """A log at the relay: entries that every reader of its tokens sees, chained."""

    id: bytes
    entries: list[Envelope] = field(default_factory=list)
    chain: bytes = bytes(32)
    tip: bytes = NO_EPOCH
    """Token hash of the epoch that takes posts (a run's: always its own)."""
    deadline: int = 2**63
    ids: set[bytes] = field(default_factory=set)

    def append(self, kind: ChannelKind, entry: Envelope, now: int) -> Envelope:
        """The entry in its place."""
        seq = len(self.entries) + 1
        self.chain = sha256(self.chain + entry.entry_id + entry.payload)
        head = SignedHead(incarnation=0, seq=seq, hash=self.chain, signature=sha256(b"relay" + self.chain))
        placed = replace(entry, channel=Channel(kind, self.id), seq=seq, hash=self.chain, head=head, ts_ms=now)
        self.entries.append(placed)
        self.ids.add(entry.entry_id)
        return placed


@dataclass
class Net:
    """The relay, the clock and the dice."""

    directory: FakeDirectory = field(default_factory=FakeDirectory)
    now: int = NOW
    seed: object = 0
    rooms: dict[bytes, Log] = field(default_factory=dict)
    runs: dict[bytes, Log] = field(default_factory=dict)
    mail: dict[str, list[Envelope]] = field(default_factory=dict)
    prekeys: dict[str, list[PreKey]] = field(default_factory=dict)
    """Device -> what it has published and nobody has claimed; nothing for devices made by other means."""
    pairs: dict[bytes, tuple[Node, Node]] = field(default_factory=dict)
    """Session code -> the two that the rendezvous has paired."""
    passed: dict[str, list[Envelope]] = field(default_factory=dict)
    """What the rendezvous has for a device."""
    nodes: list[Node] = field(default_factory=list)
    refused: list[tuple[str, object]] = field(default_factory=list)
    """(device, effect) that the relay did not take."""

    def __post_init__(self) -> None:
        self.rng = seeded(("net", self.seed))

    def node(self, suite: Suite, user: str, index: int, *, device: str | None = None) -> Node:
        """One more device, enrolled."""
        name = self.directory.enrol(user, index, device=device)
        directory = self.directory
        me = Me(device=name, keys=keys_of(index), directory=lambda: directory, realm="home")
        made = Node(net=self, suite=suite, me=me, rng=seeded((self.seed, user, index)))
        self.nodes.append(made)
        self.prekeys[name] = []
        return made

    # --- what a device sends ---

    def post(self, node: Node, effect: Post) -> None:
        """Append an entry where the token fits; the same entry id is one entry. A rendezvous passes it on."""
        if effect.channel.kind is ChannelKind.RENDEZVOUS:
            creator, joiner = self.pairs[effect.channel.id]
            said = Envelope(channel=effect.channel, kind=effect.kind, payload=effect.payload, entry_id=effect.entry_id)
            self.passed.setdefault((joiner if node is creator else creator).name, []).append(said)
            return
        log = self.runs.get(effect.channel.id) if effect.channel.kind is ChannelKind.RUN else None
        if effect.channel.kind is ChannelKind.ROOM:
            log = self.rooms.get(effect.channel.id)
        token = node.run_tokens.get(effect.channel.id) or node.token
        fits = log is not None and sha256(token) == log.tip and self.now <= log.deadline
        if log is None or not fits:
            self.refused.append((node.name, effect))
            return
        if effect.entry_id not in log.ids:
            entry = Envelope(
                channel=effect.channel,
                kind=effect.kind,
                payload=effect.payload,
                entry_id=effect.entry_id,
                token_hash=log.tip,
            )
            log.append(effect.channel.kind, entry, self.now)

    def commit(self, node: Node, effect: Commit) -> None:
        """End an epoch, if it still is the newest; what is sealed goes out with it."""
        log = self.rooms.get(effect.room)
        if log is None and effect.expects == NO_EPOCH:
            log = self.rooms[effect.room] = Log(effect.room)
        if log is None or log.tip != effect.expects:
            self.refused.append((node.name, effect))
            return
        entry = Envelope(
            channel=Channel(ChannelKind.ROOM, effect.room),
            kind=EntryKind.CREATE if effect.expects == NO_EPOCH else EntryKind.COMMIT,
            payload=effect.payload,
            entry_id=effect.entry_id,
            token_hash=effect.expects,
            next_token_hash=effect.next_token_hash,
        )
        log.append(ChannelKind.ROOM, entry, self.now)
        log.tip = effect.next_token_hash or bytes(32)
        for device, kind, body in effect.sealed:
            self.deposit(node.name, device, kind, body)

    def open_run(self, node: Node, effect: OpenRun) -> None:
        """Begin the log of a run."""
        if effect.room is not None and sha256(node.token) != self.rooms[effect.room].tip:
            self.refused.append((node.name, effect))
            return
        self.runs[effect.run_id] = Log(effect.run_id, tip=sha256(effect.token), deadline=effect.deadline)
        for device, kind, body in effect.sealed:
            self.deposit(node.name, device, kind, body)

    def claim_prekeys(self, devices: Iterable[str]) -> list[list[object]]:
        """One prekey of each of these devices that has any, as a driver answers to Need("prekeys")."""
        found: list[list[object]] = []
        for device in devices:
            waiting = self.prekeys.get(device, [])
            if waiting:
                each = waiting.pop(0)
                found.append([device, each.public, each.ref, each.not_before, each.expires])
        return found

    def deposit(self, sender: str, device: str, kind: str, body: bytes) -> None:
        """Put an item into a mailbox."""
        item = Envelope(channel=MAILBOX, kind=kind, payload=body, sender=sender)
        self.mail.setdefault(device, []).append(item)

    # --- what a device gets ---

    def settle(self, nodes: Iterable[Node] | None = None, *, most: int = 200_000) -> None:
        """Give these devices (all) everything there is, in order, and wake whoever is due, until nothing moves."""
        chosen = list(nodes if nodes is not None else self.nodes)
        for _ in range(most):
            if not any(node.step() for node in chosen):
                return
        raise RuntimeError("the devices never come to rest")

    def rounds(self) -> None:
        """As `settle`, each device in turn as far as it gets: quicker where there are many."""
        while sum([_as_far_as_it_gets(node) for node in self.nodes]):
            pass

    def mix(self, dice: random.Random, nodes: Sequence[Node] | None = None) -> None:
        """As `settle`, but whose turn it is, is drawn, and so is the log that it reads next."""
        chosen = list(nodes if nodes is not None else self.nodes)
        while True:
            able = [node for node in chosen if node.pending() or node.due()]
            if not able:
                return
            dice.choice(able).step(dice)

    def pass_time(self, ms: int) -> None:
        """Move the clock and wake whoever is due."""
        self.now += ms


@dataclass
class Node:
    """A device: a session, its stored items, and where it has read to."""

    net: Net
    suite: Suite
    me: Me
    rng: Rng
    session: Session | None = None
    items: dict[bytes, bytes] = field(default_factory=dict)
    token: bytes = b""
    tokens: dict[bytes, bytes] = field(default_factory=dict)
    """Token hash -> token of the room: what it may read."""
    run_tokens: dict[bytes, bytes] = field(default_factory=dict)
    read: dict[bytes, set[int]] = field(default_factory=dict)
    delivered: list[Deliver] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    accepts: bool | None = True
    """What the person says to an invitation; None: nobody is there."""
    prekeys: dict[bytes, PreKey] = field(default_factory=dict)
    """Own prekeys by reference."""
    changes: list[EpochChanged] = field(default_factory=list)
    effects: list[Effects] = field(default_factory=list)
    alarm: int | None = None
    silent: Callable[[Envelope], bool] | None = None
    """Envelopes for which this is true are not given to the device (it is away from that log)."""

    @property
    def name(self) -> str:
        """The device's name."""
        return self.me.device

    @property
    def live(self) -> Session:
        """The session; there must be one."""
        if self.session is None:
            raise LookupError(f"{self.name} has no session")
        return self.session

    # --- effects ---

    def apply(self, effects: Effects) -> Effects:
        """As the engine: store first, then send."""
        self.effects.append(effects)
        for effect in effects:
            if isinstance(effect, Put):
                self.items[effect.key] = effect.value
            elif isinstance(effect, Drop):
                del self.items[effect.key]
        for effect in effects:
            self._carry_out(effect)
        return effects

    def _carry_out(self, effect: object) -> None:
        match effect:
            case Post() | Commit() | OpenRun() | Direct() | Follow() | Unfollow():
                self._send(effect)
            case Deliver():
                self.delivered.append(effect)
            case EpochChanged():
                self.changes.append(effect)
                if effect.access_token is not None:
                    self.tokens[sha256(effect.access_token)] = effect.access_token
                    if effect.state is not State.PENDING or effect.began_by:
                        self.token = effect.access_token
            case Fault():
                self.faults.append(effect)
            case Need():
                self._fetch(effect)
            case Wake():
                self.alarm = effect.at
            case Ask():
                self._person(effect)
            case _:
                """Put and Drop are done."""

    def _person(self, ask: Ask) -> None:
        """What the person at this device says to a question of this kind, if anybody is there."""
        self.asked.append(ask)
        if ask.kind == "accept" and self.accepts is not None:
            self.decide(accept=self.accepts)

    def decide(self, *, accept: bool) -> Effects:
        """Say yes or no to an invitation."""
        return self.apply(self.live.answer("accept", bytes([accept]), self.net.now, self.rng))

    def _fetch(self, need: Need) -> None:
        """Prekeys of others that this relay has a stock of: what it has, or none."""
        self.needs.append(need)
        devices = [ref.decode() for ref in need.ids if ref.startswith(b"cloister://")]
        if devices and self.session is not None and self.net.prekeys.keys() >= set(devices):
            found = self.net.claim_prekeys(devices)
            self.apply(self.session.answer("prekeys", enc(found), self.net.now, self.rng))

    def publish_prekeys(self, count: int) -> None:
        """Bring prekeys to the relay."""
        made = self.suite.prekeys(self.me, count, self.net.now, self.rng)
        self.prekeys.update({each.ref: each for each in made})
        self.net.prekeys.setdefault(self.name, []).extend(made)

    def _send(self, effect: Post | Commit | OpenRun | Direct | Follow | Unfollow) -> None:
        match effect:
            case Post():
                self.net.post(self, effect)
            case Commit():
                self.net.commit(self, effect)
            case OpenRun():
                self.run_tokens[effect.run_id] = effect.token
                self.net.open_run(self, effect)
            case Follow():
                self.run_tokens[effect.run_id] = effect.token
            case Unfollow():
                self.run_tokens.pop(effect.run_id, None)
            case Direct():
                self.net.deposit(self.name, effect.device, effect.kind, effect.body)

    # --- calls ---

    def create(self, room: bytes, policy: RoomPolicy) -> Effects:
        """Make a room."""
        self.session, effects = self.suite.create(self.me, room, policy, self.net.now, self.rng)
        return self.apply(effects)

    def change(self, *changes: Change) -> Effects:
        """Ask for changes."""
        return self.apply(self.live.change(changes, self.net.now, self.rng))

    def give(self, envelope: Envelope) -> Effects:
        """An envelope, as the engine routes it: a proposal for a room that is not there leads to `join`."""
        if self.session is None:
            try:
                self.session, effects = self._enter(envelope)
            except Behind as behind:
                return self.apply((behind.need,))
            except PeerError as error:
                return self.apply((Fault(code=error.code, check=error.check),))
            return self.apply(effects)
        return self.apply(self.session.receive(envelope, self.net.now, self.rng))

    def _enter(self, envelope: Envelope) -> tuple[Session, Effects]:
        """Enter, with the own prekey that the invitation names if there is one."""
        try:
            return self.suite.join(self.me, envelope, None, self.net.now, self.rng)
        except Behind as behind:
            prekey = self.prekeys.pop(behind.need.ids[0], None)
            if prekey is None:
                raise
        return self.suite.join(self.me, envelope, prekey, self.net.now, self.rng)

    def say(self, content: bytes) -> bytes:
        """Seal and post; the entry id."""
        entry_id = self.net.rng(16)
        room = self.net.rooms[self.live.view.room]
        head = room.entries[-1].head if room.entries else None
        self.apply(self.live.seal(content, entry_id, head, self.net.now, self.rng))
        return entry_id

    def wake(self) -> Effects:
        """Tell the session that time has passed."""
        self.alarm = None
        return self.apply(self.live.wake(self.net.now, self.rng))

    def restart(self) -> None:
        """Forget everything in memory; go on from the stored items."""
        if self.session is not None:
            self.session = self.suite.restore(self.me, dict(self.items))
            self.wake()

    # --- reading ---

    def due(self) -> bool:
        """Whether its alarm has come."""
        return self.session is not None and self.alarm is not None and self.alarm <= self.net.now

    def pending(self) -> list[Envelope]:
        """The next envelope of each channel."""
        found = []
        waiting = self.net.mail.get(self.name, [])
        if waiting and not (self.silent and self.silent(waiting[0])):
            found.append(waiting[0])
        found += self.net.passed.get(self.name, [])[:1]
        for run_id in list(self.run_tokens):
            found += self._next(self.net.runs.get(run_id), lambda entry: True)
        for log in self.net.rooms.values():
            found += self._next(log, self._opens)
        return found

    def _opens(self, entry: Envelope) -> bool:
        return entry.token_hash in self.tokens or entry.next_token_hash in self.tokens

    def _next(self, log: Log | None, readable: Callable[[Envelope], bool]) -> list[Envelope]:
        if log is None or self.session is None:
            return []
        read = self.read.setdefault(log.id, set())
        for entry in log.entries:
            if entry.seq not in read and readable(entry):
                return [] if self.silent and self.silent(entry) else [entry]
        return []

    def taken(self, envelope: Envelope) -> None:
        """The envelope counts as read."""
        if envelope.channel.kind is ChannelKind.MAILBOX:
            self.net.mail[self.name].remove(envelope)
        elif envelope.channel.kind is ChannelKind.RENDEZVOUS:
            self.net.passed[self.name].remove(envelope)
        else:
            self.read.setdefault(envelope.channel.id, set()).add(envelope.seq)

    def step(self, dice: random.Random | None = None) -> bool:
        """Take one envelope, or wake when due; whether there was anything to do."""
        found = self.pending()
        if found:
            envelope = dice.choice(found) if dice else found[0]
            self.taken(envelope)
            self.give(envelope)
            return True
        if self.due():
            self.wake()
            return True
        return False


def _as_far_as_it_gets(node: Node) -> bool:
    """Whether there was anything to do."""
    moved = False
    while node.step():
        moved = True
    return moved


POLICY = RoomPolicy(title="triad", owners=("a",))
ROOM = bytes(range(16))


def users(n: int) -> list[str]:
    """a, b, c, ... or m00, m01, ... for many; sorted as their device names are."""
    return [chr(ord("a") + i) for i in range(n)] if n <= 26 else ["a", *(f"m{i:02}" for i in range(1, n))]


def assembly(suite: Suite, n: int, seed: object = 0) -> tuple[Net, list[Node]]:
    """A net with n devices of n users; the first has created the room and proposed to add the others."""
    net = Net(seed=seed)
    nodes = [net.node(suite, user, index) for index, user in enumerate(users(n))]
    nodes[0].create(ROOM, POLICY)
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    return net, nodes


def agreed(suite: Suite, n: int, seed: object = 0) -> tuple[Net, list[Node]]:
    """As `assembly`, and the room stands."""
    net, nodes = assembly(suite, n, seed)
    net.settle()
    return net, nodes


def refusals(nodes: Iterable[Node]) -> list[Fault]:
    """What these devices have refused, in order."""
    return [fault for node in nodes for fault in node.faults]
