"""The one interface of all key agreements: `Suite` makes sessions, a `Session` is a room's live key state.

Source: docs/spec/suites.md; the six walk-throughs in docs/walkthroughs.md run against fakes of these types.

Invariants
- No clock, no I/O: `now` (milliseconds since 1970) and `rng` are arguments; results are effects.
- A room moves (epochs, members, policy) only by `receive`: one's own commit is applied when it comes back in the log.
  `change`, `answer` and `wake` begin and end runs and orders, `seal` moves the own sending chain.
- `Put` and `Drop` are the only persistence: small keyed items, written in the transaction that also holds
  the outbox and the delivered messages, before anything is sent. `restore` builds the session from them; nothing
  stored re-derives an old key.
- `Session.receive` never raises on hostile input: it answers with a `Fault` and leaves the state as it was.

How a driver uses it
- An envelope that names a realm log longer than the directory's comes back as `Need("realm", ...)` alone: fetch
  the log that far and give the same envelope again, before any later one of that channel.
- Bodies in `Commit.sealed`, `OpenRun.sealed` and `Direct` are plain; the driver seals each to its device's mailbox.
- A run's log is followed from `Follow` (or one's own `OpenRun`) to `Unfollow`, entries given from the first in order,
  one's own too: a run is agreed when all confirms stand in its log, the own one among them.
- `join` raises `Behind` for what `receive` would `Need`: fetch, call again; a group info becomes its `attachments`.
- After `restore` call `wake` once: it gives the next `Wake`. A driver that restores a backup (not its own live store)
  puts READ_ONLY_ITEM (empty value) first: the session seals nothing until a new epoch begins, which drops the item.
- After each `EpochChanged` compare intents with `view.roster` and `pending_changes`; ask again for what is in neither.
- `EpochChanged` with state `pending` and an `access_token`: the key stands; present the token to see its commit.
- `view.joined_at` is the head that the inviter vouched for; the room's log must join it (`bad_head`).
- NotReady(FROZEN, missing) from `seal`: `missing` are revoked devices to `Remove` first, or members a run waits for.

Left out: devices of a user, verification marks, retries of intents. They are the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from cloister.errors import UnavailableError, UsageError
from cloister.identity.keys import DeviceKeys
from cloister.identity.realm import DeviceRecord
from cloister.primitives import Rng
from cloister.protocols.caps import CAPS_ROWS as CAPS_ROWS
from cloister.protocols.caps import Caps as Caps
from cloister.protocols.caps import SenderAuth as SenderAuth
from cloister.protocols.room_policy import RoomPolicy as RoomPolicy
from cloister.protocols.room_policy import Who as Who

DeviceId = str
"""`cloister://realm/u/USER/d/DEVICE`, at most 128 bytes."""
RoomId = bytes
RunId = bytes
"""16 random bytes, as a room's id."""
EntryId = bytes
"""16 random bytes, made by the sender; unique in its log."""
Roster = tuple[DeviceId, ...]
"""Devices of an epoch, sorted."""
READ_ONLY_ITEM = b"read-only"
"""Key of the item that marks a session restored from a backup."""

NO_EPOCH = bytes(32)
"""What a room's `create` is posted against: the token hash of no epoch."""


class ChannelKind(StrEnum):
    """Where an envelope travels."""

    ROOM = "room"
    RUN = "run"
    MAILBOX = "mailbox"
    RENDEZVOUS = "rendezvous"


@dataclass(frozen=True, slots=True)
class Channel:
    """A room's log, a run's log, a session code at the relay, or (id empty) this device's mailbox."""

    kind: ChannelKind
    id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """The newest verified head of a log: position, hash and the relay's signature over both."""

    incarnation: int
    seq: int
    hash: bytes
    signature: bytes

    def items(self) -> list[object]:
        """The array that travels: [incarnation, seq, hash, signature]."""
        return [self.incarnation, self.seq, self.hash, self.signature]


class EntryKind(StrEnum):
    """What an entry of a log is; the relay sees it, the sealed part repeats it (`misrouted`)."""

    CREATE = "create"
    COMMIT = "commit"
    APPLICATION = "application"
    HANDSHAKE = "handshake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What reaches a session: a verified log entry, or an opened mailbox item.

    For a mailbox item `sender` is the device whose signature was verified inside it, `kind` its text kind, and
    the log fields are empty. For an entry `sender` is None: only the sealed part says who spoke.
    """

    channel: Channel
    kind: str
    payload: bytes
    entry_id: EntryId = b""
    seq: int = 0
    hash: bytes = b""
    """The entry's place in the hash chain, 32 bytes."""
    token_hash: bytes = b""
    next_token_hash: bytes | None = None
    attachments: bytes = b""
    head: SignedHead | None = None
    ts_ms: int = 0
    sender: DeviceId | None = None


# --- what a caller may ask for -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Add:
    """Take a device in."""

    device: DeviceId


@dataclass(frozen=True, slots=True)
class Remove:
    """Put a device out."""

    device: DeviceId


@dataclass(frozen=True, slots=True)
class Rekey:
    """Make a new key among the same members."""


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Replace the policy (title, owners, rights)."""

    policy: RoomPolicy


@dataclass(frozen=True, slots=True)
class Leave:
    """Put oneself out."""


Change = Add | Remove | Rekey | SetPolicy | Leave


# --- what comes out ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Append an entry to a log, under the token of the newest epoch that is held (a run: its own token)."""

    channel: Channel
    kind: EntryKind
    entry_id: EntryId
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Post the entry that ends epoch `expects` (its token hash; NO_EPOCH: the room's create).

    `next_token_hash` None closes the room's epoch for good. `sealed` are plain bodies per device that become
    mailbox items in the same transaction; `group_info` is opaque or None.
    """

    room: RoomId
    expects: bytes
    entry_id: EntryId
    payload: bytes
    next_token_hash: bytes | None
    sealed: tuple[tuple[DeviceId, str, bytes], ...] = ()
    group_info: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """Open a run's log under `token`; `room` is None for a room that does not exist yet.

    `sealed` are (device, kind, body) items that go out in the same transaction; `deadline` is in ms.
    """

    run_id: RunId
    room: RoomId | None
    token: bytes
    deadline: int
    sealed: tuple[tuple[DeviceId, str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """Read this run's log with this token, from its start."""

    run_id: RunId
    token: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfollow:
    """The run's log is of no more use."""

    run_id: RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """Put an item of this kind into a device's mailbox."""

    device: DeviceId
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Store an item under a key of this session."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Delete an item of this session, beyond recovery."""

    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """A message that verified: who sent it, where it stands, its content bytes."""

    sender: DeviceId
    epoch: int
    seq: int
    entry_id: EntryId
    content: bytes
    head: SignedHead | None


class State(StrEnum):
    """What a session waits for."""

    PENDING = "pending"
    """No key yet; `missing` says whose answer is awaited."""
    READY = "ready"
    """Can seal."""
    FROZEN = "frozen"
    """A removal stands and is not carried out yet: nothing is sealed in the old epoch."""
    READ_ONLY = "read-only"
    """Restored from a backup, or fewer than two members."""
    REMOVED = "removed"
    """This device is out of the room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochChanged:
    """The session's state moved: an epoch began, or a run made progress (`state`, `missing`).

    `access_token` (32 bytes) opens the epoch's log. While the state is pending it is that of a key that `proposer` has
    offered and whose commit is awaited (no proposer in a suite of two), or None. `key_check` is a short display
    value that everybody with this key shares; it verifies nothing. `began_by` is the seq of the commit.
    """

    epoch: int
    roster: Roster
    state: State
    missing: Roster = ()
    key_check: str = ""
    access_token: bytes | None = None
    began_by: int = 0
    parked: Roster = ()
    proposer: DeviceId = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Fetch first: `realm` (log size, 8 bytes), `prekeys` (devices, or own references), `group info` (room, token)."""

    what: Literal["realm", "certificates", "prekeys", "group info"]
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask the person: accept an invitation, type a code, compare an authentication string."""

    kind: Literal["accept", "code", "sas"]
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Call `wake` at this time (ms) or a little later; an earlier one stays valid."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A rule was broken (`check`: its id in docs/spec). `fatal` ends the run it happened in, never the old epoch."""

    code: str
    peer: DeviceId | None = None
    fatal: bool = False
    evidence: bytes = b""
    detail: str = ""
    check: str = ""


Effect = (
    Post | Commit | OpenRun | Follow | Unfollow | Direct | Put | Drop
    | Deliver | EpochChanged | Need | Ask | Wake | Fault
)  # fmt: skip
Effects = tuple[Effect, ...]


# --- who I am, who the others are --------------------------------------------------------------------------


class Directory(Protocol):
    """The replicated and checked realm log, as far as this client has it (`identity.realm.RealmState`)."""

    @property
    def size(self) -> int:
        """Number of records."""
        ...

    def device(self, device: DeviceId, size: int, /) -> DeviceRecord:
        """The device at that log size; PeerError (unknown_sender, revoked, not_in_manifest, ...) if it counts not."""
        ...

    def stale(self, device: DeviceId, size: int, /) -> bool:
        """Whether its certificates had ended 30 days before that size's time: anybody may remove it."""
        ...


class LiveDirectory(Protocol):
    """Gives the newest directory each time it is asked."""

    def __call__(self) -> Directory:
        """The directory now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """This device: its name, its keys, and the directory it has checked."""

    device: DeviceId
    keys: DeviceKeys
    directory: LiveDirectory
    realm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreKey:
    """One key package: what is published, what stays here, from when until when (ms); `last_resort`: for many uses."""

    public: bytes
    private: bytes = field(repr=False)
    ref: bytes
    expires: int
    not_before: int = 0
    last_resort: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """What a surface may show of a session: pure data."""

    suite: str
    room: RoomId
    epoch: int
    roster: Roster
    state: State
    policy: RoomPolicy
    missing: Roster = ()
    awaits: str = ""
    """What the missing owe: hellos, shares, confirms (`commit` once they owe nothing), or acknowledgements."""
    confirmed: Roster = ()
    """Who has proved to this device that it holds the newest key, in suites whose members do."""
    parked: Roster = ()
    key_check: str = ""
    joined_at: SignedHead | None = None
    pending_changes: tuple[Change, ...] = ()
    """What the open run or standing order would change."""


class NotReady(UsageError):
    """Sealing is not possible now; `state` and `missing` say why."""

    default = "not_ready"

    def __init__(self, state: State, missing: Roster = ()) -> None:
        self.state = state
        self.missing = missing
        super().__init__("not_ready", f"{state}, waiting for {len(missing)}" if missing else str(state))


class Behind(UnavailableError):
    """This cannot be judged yet: `need` names what to fetch before the same call is made again."""

    default = "not_ready"

    def __init__(self, need: Need) -> None:
        self.need = need
        super().__init__("not_ready", f"needs {need.what} first")


class Session(Protocol):
    """A room's live key state on one device."""

    @property
    def view(self) -> SessionView:
        """The state for surfaces."""
        ...

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        """Ask for a membership or policy change; UsageError where the policy forbids it."""
        ...

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        """Take an envelope; hostile input gives a `Fault`, never an exception, and changes nothing."""
        ...

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        """An answer to `Ask` or `Need`; `run-refused` (run id), `commit-refused` (entry id): not taken by the relay."""
        ...

    def wake(self, now: int, rng: Rng) -> Effects:
        """Time has passed: deadlines, turns to commit, re-proposals."""
        ...

    def seal(self, content: bytes, entry_id: EntryId, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        """Protect a message: the new ratchet state and one Post. Raises NotReady."""
        ...

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        """A secret of the current (or the pending) epoch; NotReady where there is none."""
        ...


class Suite(Protocol):
    """A key agreement; stateless."""

    @property
    def caps(self) -> Caps:
        """What it gives."""
        ...

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        """`n` fresh key packages and one of last resort; () where the suite has none."""
        ...

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[Session, Effects]:
        """A room with this device as its one member."""
        ...

    def join(self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng) -> tuple[Session, Effects]:
        """Enter by what came to the mailbox; PeerError when it is not acceptable, Behind when it is too early."""
        ...

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> tuple[Session, Effects]:
        """Enter again without an invitation; UsageError unless caps.external_join."""
        ...

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session as its items have it."""
        ...
