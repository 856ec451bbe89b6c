"""A relay in memory and clients that speak its frames by hand: what the relay's own tests drive.

The realm, its people and the store are real; the connection is a list. `step()` stores the gathered batch and
commits it; tests that look at what happens before that call the core themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from cloister.identity.invite import Token, stored_proof
from cloister.primitives.kdf import sha256
from cloister.primitives.signature import SigningKey
from cloister.relay.core import RelayCore, RelayKeys, Settings
from cloister.relay.core.enrol import AUTHORITY
from cloister.relay.store.interface import EntryRow, InviteRow, PutEntries, PutMeta, Store
from cloister.relay.store.memory import MemoryStore
from cloister.wire import frames, login
from cloister.wire.frames import NO_TOKEN, REALM_LOG, Frame
from cloister.wire.guest import guest_login
from cloister.wire.log import NO_ATTACHMENTS, START, Chain, HeadKeys, certify_head_key, entry_hash
from support.people import NOW, Person, Realm, seeded

TLS = sha256(b"the relay's certificate")
F = TypeVar("F", bound=Frame)


@dataclass(eq=False)
class Wire:
    """A connection that keeps what is sent; `stuck` bytes wait for ever."""

    address: str = "192.0.2.1"
    tls: bytes = TLS
    sent: list[bytes] = field(default_factory=list)
    closed: str = ""
    waiting: int = 0

    def send(self, data: bytes) -> None:
        """Keep a frame."""
        if not self.closed:
            self.sent.append(data)

    def close(self, code: str) -> None:
        """Remember why."""
        self.closed = self.closed or code


@dataclass(eq=False)
class Client:
    """One end of a connection to the world's relay."""

    world: World
    wire: Wire
    person: Person | None = None
    rid: int = 0
    key: SigningKey | None = None
    """A guest's."""

    def say(self, frame: Frame) -> None:
        """Send a frame; nothing is stored yet."""
        self.world.core.frame(self.wire, frames.encode(frame), self.world.now)

    def hear(self) -> list[Frame]:
        """Everything that came since the last call."""
        heard = [frames.decode_answer(data) for data in self.wire.sent]
        self.wire.sent.clear()
        return heard  # type: ignore[return-value]

    def next(self) -> int:
        """A new request number."""
        self.rid += 1
        return self.rid

    def ask(self, frame: Frame, kind: type[F]) -> F:
        """Send a request, let the relay store, and take its one answer, which must be of a kind."""
        self.say(frame)
        self.world.step()
        heard = self.hear()
        answers = [each for each in heard if getattr(each, "rid", None) == getattr(frame, "rid", None)]
        assert len(answers) == 1, heard
        assert isinstance(answers[0], kind), answers[0]
        return answers[0]

    def refused(self, frame: Frame) -> str:
        """The code with which a request is refused."""
        return self.ask(frame, frames.Refused).code

    # --- usual requests -------------------------------------------------------------------------------------

    def present(self, log: bytes, token: bytes = b"", after: int = 0) -> frames.Page:
        """Open a log."""
        return self.ask(frames.Present(rid=self.next(), log=log, token=token, after=after), frames.Page)

    def post(self, log: bytes, token: bytes, entry_id: bytes, payload: bytes = b"x", kind: str = "application") -> int:
        """Append, and give the seq."""
        return self.ask(self.a_post(log, token, entry_id, payload, kind), frames.Ack).seq

    def a_post(
        self, log: bytes, token: bytes, entry_id: bytes, payload: bytes = b"x", kind: str = "application"
    ) -> frames.Post:
        """A post frame."""
        return frames.Post(
            rid=self.next(), log=log, kind=kind, token_hash=sha256(token), entry_id=entry_id, payload=payload
        )

    def a_commit(
        self,
        log: bytes,
        expects: bytes | None,
        following: bytes | None,
        entry_id: bytes,
        payload: frames.Payload = b"commit",
        group_info: frames.Payload | None = None,
        items: tuple[frames.Mail, ...] = (),
        staged_items: frames.Staged | None = None,
    ) -> frames.Commit:
        """A commit frame from one token to the next; `expects` None creates the room."""
        return frames.Commit(
            rid=self.next(),
            log=log,
            expects=NO_TOKEN if expects is None else sha256(expects),
            entry_id=entry_id,
            payload=payload,
            next=None if following is None else sha256(following),
            group_info=group_info,
            items=list(items),
            staged_items=staged_items,
        )

    def create(self, log: bytes, token: bytes) -> frames.Ack:
        """Create a room whose first epoch has this token."""
        return self.ask(self.a_commit(log, None, token, sha256(b"create" + log)[:16], b""), frames.Ack)


@dataclass(eq=False)
class World:
    """A relay, its realm and its people. `names` are enrolled from the start, each with one device."""

    names: tuple[str, ...] = ("ann", "bob", "cy")
    store: Store = field(default_factory=MemoryStore)
    realm: Realm = field(default_factory=Realm)
    now: int = NOW
    people: dict[str, Person] = field(default_factory=dict)
    guests: bool = True
    core: RelayCore = field(init=False)

    def __post_init__(self) -> None:
        self.rng = seeded("relay world")
        self.head = SigningKey.generate("ed25519", self.rng)
        chain = (self.realm.authority.issue_relay(self.realm.relay_key, self.now, self.rng),)
        for name in self.names:
            self.people[name] = person = self.realm.person(name)
            self.realm.append(person.application.record(self.realm.certify(person)).encode())
        self.store.apply([*realm_writes(self.realm), PutMeta(AUTHORITY, self.realm.authority.encode())])
        self.keys = RelayKeys(
            identity=self.realm.relay_key,
            head=self.head,
            head_key=certify_head_key(self.realm.relay_key, self.realm.name, self.head.public.raw, self.now),
            chain=chain,
        )
        self.start()

    def start(self) -> None:
        """A relay process on the store as it is."""
        self.core = RelayCore(self.store, self.settings, self.keys, self.realm.authority, self.rng)
        self.store.refresh()

    @property
    def settings(self) -> Settings:
        """What the operator has decided."""
        return Settings(realm=self.realm.name, guests=self.guests)

    @property
    def head_keys(self) -> HeadKeys:
        """Whose heads count."""
        return HeadKeys.certified(self.realm.name, self.realm.relay_key.public, [self.keys.head_key])

    def chain(self, log: bytes) -> Chain:
        """A chain at a log's start."""
        return Chain(self.realm.name, log)

    def step(self) -> None:
        """Store and commit until nothing is gathered any more."""
        while (batch := self.core.take_batch()) is not None:
            self.store.apply(batch.writes)
            self.core.committed(batch, self.now)

    def stranger(self, address: str = "192.0.2.1") -> Client:
        """A connection that has said nothing."""
        client = Client(self, Wire(address))
        self.core.connect(client.wire, self.now)
        return client

    def client(self, name: str, address: str = "192.0.2.1") -> Client:
        """A logged-in device of somebody."""
        client = self.stranger(address)
        client.person = person = self.people[name]
        first = login.hello(person.id, self.rng)
        client.say(first)
        (second,) = client.hear()
        assert isinstance(second, frames.Challenge)
        login.check_challenge(first, second, self.realm_pin, TLS, self.now)
        client.say(login.login(first, second, person.device.device, [], TLS, self.now))
        (fourth,) = client.hear()
        assert isinstance(fourth, frames.Welcome), fourth
        login.check_welcome(self.realm.name, self.realm.relay_key.public, fourth)
        return client

    @property
    def realm_pin(self) -> bytes:
        """The pin of the relay's identity key."""
        return sha256(self.realm.relay_key.public.spki())

    def guest(self, key: SigningKey | None = None, address: str = "192.0.2.1") -> Client:
        """A guest that has logged in, with a key of its own."""
        client = self.stranger(address)
        first = login.hello(None, self.rng)
        client.say(first)
        (second,) = client.hear()
        assert isinstance(second, frames.Challenge)
        client.key = key or SigningKey.generate("ed25519", self.rng)
        client.say(guest_login(first, second, client.key, client.wire.tls, self.now))
        (fourth,) = client.hear()
        assert isinstance(fourth, frames.Welcome), fourth
        return client

    def invite(self, uses: int = 1, life: int = 3_600_000) -> Token:
        """A live invite made by the operator."""
        token = Token.generate(self.rng)
        row = InviteRow(token.id, stored_proof(token.relay_proof()), uses, self.now + life, "")
        self.core.admission.put_invite(row, self.now)
        self.step()
        return token


def realm_writes(realm: Realm) -> list[PutEntries]:
    """The realm's records as the entries of its log."""
    writes = []
    prev = START
    for seq, (payload, ts_ms) in enumerate(realm.records, 1):
        entry = frames.Entry(
            seq=seq, kind="realm", flags=0, epoch=0, token_hash=NO_TOKEN, entry_id=sha256(payload)[:16],
            payload=payload, ts_ms=ts_ms,
        )  # fmt: skip
        prev = entry_hash(realm.name, REALM_LOG, 0, prev, entry)
        row = EntryRow(
            REALM_LOG, seq, "realm", 0, 0, NO_TOKEN, entry.entry_id, payload, sha256(payload), NO_ATTACHMENTS,
            None, None, b"", ts_ms, prev,
        )  # fmt: skip
        writes.append(PutEntries([row]))
    return writes


def item(person: Person, item_id: bytes, body: bytes = b"sealed") -> frames.Mail:
    """A mailbox item."""
    return frames.Mail(device=person.id, item_id=item_id, body=body)
