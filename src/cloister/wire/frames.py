"""The frames between client and relay: MessagePack arrays of tagged structs.

Source: docs/spec/wire.md, whose table of frames is generated from the structs below.

Invariants
- One value, one encoding: a frame that does not encode to the bytes it came from is refused. This refuses
  surplus items too, which the library would drop in silence.
- Every field has a type and a size; only PeerError("bad_encoding") leaves `decode_*`.
- A request carries `rid`, chosen by the client and repeated in the one answer it gets.
- Before login only Hello, Login, GuestLogin and Enrol are parsed, and nothing over limits.LOGIN_FRAME.

What is signed is never a frame but deterministic CBOR of its fields (`signed_form`).
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.wire import limits
from cloister.wire.meeting import CreateSession as CreateSession
from cloister.wire.meeting import GuestLogin as GuestLogin
from cloister.wire.meeting import JoinSession as JoinSession
from cloister.wire.meeting import Paired as Paired
from cloister.wire.meeting import Pass as Pass
from cloister.wire.meeting import Passed as Passed
from cloister.wire.meeting import PeerLeft as PeerLeft
from cloister.wire.meeting import Release as Release
from cloister.wire.meeting import SessionCreated as SessionCreated
from cloister.wire.meeting import SessionOver as SessionOver
from cloister.wire.parts import NO_TOKEN as NO_TOKEN
from cloister.wire.parts import REALM_LOG as REALM_LOG
from cloister.wire.parts import Chain as Chain
from cloister.wire.parts import Device as Device
from cloister.wire.parts import Entry as Entry
from cloister.wire.parts import Frame as Frame
from cloister.wire.parts import Hash as Hash
from cloister.wire.parts import Head as Head
from cloister.wire.parts import HeadKey as HeadKey
from cloister.wire.parts import Id as Id
from cloister.wire.parts import Item as Item
from cloister.wire.parts import Kind as Kind
from cloister.wire.parts import Mail as Mail
from cloister.wire.parts import MailBody as MailBody
from cloister.wire.parts import Name as Name
from cloister.wire.parts import Payload as Payload
from cloister.wire.parts import Sig as Sig
from cloister.wire.parts import Staged as Staged
from cloister.wire.parts import Stub as Stub
from cloister.wire.parts import Uint as Uint

# --- login (docs/spec/login.md) -----------------------------------------------------------------------------


class Hello(Frame, frozen=True, tag="hello"):
    """L1: who wants in (None before enrolment), a nonce, the versions offered."""

    device: Device | None
    nonce: Hash
    versions: Annotated[list[Uint], Meta(min_length=1, max_length=16)]


class Challenge(Frame, frozen=True, tag="challenge"):
    """L2: Sign_relay("login-s", SHA-256(L1), version, nonce, ts, tls)."""

    nonce: Hash
    ts_ms: Uint
    version: Uint
    server_id: Device
    identity_key: Hash
    chain: Chain
    signature: Sig


class Login(Frame, frozen=True, tag="login"):
    """L3: Sign_device("login-c", SHA-256(L1), SHA-256(L2), SHA-256(chain), ts, tls)."""

    chain: Chain
    ts_ms: Uint
    signature: Sig


class Welcome(Frame, frozen=True, tag="welcome"):
    """L4: the connection stands; the head key, the realm log's head, what waits in the mailbox."""

    connection_id: Id
    incarnation: Uint
    head_key: HeadKey
    realm_head: Head
    mail_count: Uint


class Enrol(Frame, frozen=True, tag="enrol"):
    """Ask for certificates and a place in the realm log: the request of `identity.enrolment`, opaque here."""

    rid: Uint
    request: Annotated[bytes, Meta(max_length=limits.LOGIN_FRAME.value)]


class Enrolled(Frame, frozen=True, tag="enrolled"):
    """The certificates of the new device and the realm record's place."""

    rid: Uint
    reply: Annotated[bytes, Meta(max_length=limits.FRAME.value)]


# --- logs ---------------------------------------------------------------------------------------------------


class Present(Frame, frozen=True, tag="present"):
    """Read a log from `after` on with this token (empty for the realm log), and follow it."""

    rid: Uint
    log: Id
    token: Annotated[bytes, Meta(max_length=32)]
    after: Uint


class Forget(Frame, frozen=True, tag="forget"):
    """Stop following a log."""

    rid: Uint
    log: Id


class Page(Frame, frozen=True, tag="page"):
    """Answer to Present: entries and stubs in order, the newest head, whether more follows at once."""

    rid: Uint
    log: Id
    entries: list[Entry | Stub]
    head: Head
    more: bool


class Pushed(Frame, frozen=True, tag="pushed"):
    """New entries of a followed log: one frame, built once for all its readers."""

    log: Id
    entries: list[Entry | Stub]
    head: Head


class Behind(Frame, frozen=True, tag="behind"):
    """Entries of a followed log were not pushed (slow reader, or too large): present again to read them."""

    log: Id
    seq: Uint


class Post(Frame, frozen=True, tag="post"):
    """Append an entry under the epoch whose token hash this is (the token was presented before)."""

    rid: Uint
    log: Id
    kind: Kind
    token_hash: Hash
    entry_id: Id
    payload: Annotated[bytes, Meta(max_length=limits.RECORD.value)]


class Commit(Frame, frozen=True, tag="commit"):
    """End the epoch `expects` (NO_TOKEN: create the room) and begin the one whose token hash is `next`."""

    rid: Uint
    log: Id
    expects: Hash
    entry_id: Id
    payload: Payload
    next: Hash | None
    group_info: Payload | None
    items: Annotated[list[Mail], Meta(max_length=limits.COMMIT_ITEMS.value)]
    contest: bool = False
    staged_items: Staged | None = None
    """Further items, staged as one MessagePack list of `mail`."""


class GetGroupInfo(Frame, frozen=True, tag="getgroupinfo"):
    """Read, from `offset` on, the sealed group info of the commit that began the epoch of this token."""

    rid: Uint
    log: Id
    token: Hash
    offset: Uint


class GroupInfo(Frame, frozen=True, tag="groupinfo"):
    """A part of it, and how many bytes it has in all; more is asked for with the next offset."""

    rid: Uint
    size: Annotated[int, Meta(ge=1, le=limits.COMMIT.value)]
    data: Annotated[bytes, Meta(min_length=1, max_length=limits.PART.value)]


class OpenRun(Frame, frozen=True, tag="openrun"):
    """Open a run's log: `room` is the room it is for (its current token presented), None for a new room."""

    rid: Uint
    run: Id
    room: Id | None
    token_hash: Hash
    deadline: Uint
    items: Annotated[list[Mail], Meta(max_length=limits.COMMIT_ITEMS.value)]


class Stage(Frame, frozen=True, tag="stage"):
    """One part of bytes that a later commit names: they begin at `offset` of `size` in all."""

    rid: Uint
    hash: Hash
    size: Annotated[int, Meta(ge=1, le=limits.STAGE.value)]
    offset: Uint
    data: Annotated[bytes, Meta(min_length=1, max_length=limits.FRAME.value)]


class Ack(Frame, frozen=True, tag="ack"):
    """The entry is stored and signed: its place, its time, a head that covers it."""

    rid: Uint
    seq: Uint
    ts_ms: Uint
    head: Head


# --- mailbox, directory, invites ----------------------------------------------------------------------------


class Deposit(Frame, frozen=True, tag="deposit"):
    """Put an item into a device's mailbox."""

    rid: Uint
    mail: Mail


class MailOpen(Frame, frozen=True, tag="mailopen"):
    """Send what waits in my mailbox beyond item number `after`, and what comes later."""

    rid: Uint
    after: Uint


class Mailed(Frame, frozen=True, tag="mailed"):
    """Items of this device's mailbox, in order."""

    items: list[Item]


class MailAck(Frame, frozen=True, tag="mailack"):
    """The items up to this number are stored here: delete them."""

    rid: Uint
    upto: Uint


class PutMailKey(Frame, frozen=True, tag="putmailkey"):
    """Publish this device's mailbox key: the signed statement of `identity.mailbox`, opaque here."""

    rid: Uint
    statement: Annotated[bytes, Meta(max_length=1024)]


class GetMailKeys(Frame, frozen=True, tag="getmailkeys"):
    """Ask for the current mailbox key statements of these devices."""

    rid: Uint
    devices: Annotated[list[Device], Meta(max_length=limits.COMMIT_ITEMS.value)]


class MailKeys(Frame, frozen=True, tag="mailkeys"):
    """The statements, in the order asked; None where there is none."""

    rid: Uint
    statements: list[bytes | None]


class Prekey(Frame, frozen=True, tag="prekey"):
    """A key package, opaque, and what its owner declares of it: reference, from when until when (ms), last resort."""

    ref: Hash
    not_before: Uint
    not_after: Uint
    last_resort: bool
    package: Annotated[bytes, Meta(min_length=1, max_length=limits.PREKEY.value)]


class PrekeysPut(Frame, frozen=True, tag="prekeysput"):
    """Publish key packages of this device: one-time ones are added, one of last resort replaces the older."""

    rid: Uint
    suite: Kind
    packages: Annotated[list[Prekey], Meta(max_length=limits.PREKEYS.value + 1)]


class PrekeysStored(Frame, frozen=True, tag="prekeysstored"):
    """How many one-time key packages of this device are left now."""

    rid: Uint
    left: Uint


class PrekeysClaim(Frame, frozen=True, tag="prekeysclaim"):
    """Take one key package of each of these devices; a one-time one is given to nobody else."""

    rid: Uint
    suite: Kind
    devices: Annotated[list[Device], Meta(min_length=1, max_length=limits.PREKEY_CLAIM.value)]


class PrekeysClaimed(Frame, frozen=True, tag="prekeysclaimed"):
    """The packages, in the order asked; None where there is none."""

    rid: Uint
    packages: list[Prekey | None]


class PrekeysLow(Frame, frozen=True, tag="prekeyslow"):
    """Few one-time key packages of this device are left: upload new ones."""

    suite: Kind


class Certify(Frame, frozen=True, tag="certify"):
    """Renew this device's certificates for the keys it has: its requests; the realm log brings the answer."""

    rid: Uint
    requests: Annotated[list[Annotated[bytes, Meta(max_length=limits.CERTIFICATE.value)]], Meta(max_length=3)]


class Append(Frame, frozen=True, tag="append"):
    """Append a record to the realm log: a manifest, certificates or a CRL (`identity.realm` checks it)."""

    rid: Uint
    record: Annotated[bytes, Meta(max_length=limits.RECORD_REALM.value)]


class InvitePut(Frame, frozen=True, tag="inviteput"):
    """Let the bearers of a link enrol: its id and the hash of the relay's half of its secret."""

    rid: Uint
    invite: Id
    secret_hash: Hash
    uses: Annotated[int, Meta(ge=1, le=1000)]
    expires: Uint


class UserList(Frame, frozen=True, tag="user_list"):
    """Who is in the realm (a view of the realm log; document 003's name)."""

    rid: Uint


class Users(Frame, frozen=True, tag="users"):
    """All user names, sorted; of those who want to be seen, who is online. Changes follow as `online`."""

    rid: Uint
    names: list[Name]
    online: list[Name]


class Presence(Frame, frozen=True, tag="presence"):
    """Let others see that this device is online, or not (the default)."""

    rid: Uint
    visible: bool


class Online(Frame, frozen=True, tag="online"):
    """Somebody who wants to be seen came or went: a hint."""

    name: Name
    online: bool


class GetPubkey(Frame, frozen=True, tag="get_pubkey"):
    """A user's identity key and place in the realm log (a view; clients check it against their replica)."""

    rid: Uint
    username: Name


class Pubkey(Frame, frozen=True, tag="pubkey"):
    """Answer to get_pubkey."""

    rid: Uint
    username: Name
    identity_key: Hash
    log_index: Uint


# --- answers of general use ---------------------------------------------------------------------------------


class Done(Frame, frozen=True, tag="done"):
    """The request was carried out."""

    rid: Uint


class Refused(Frame, frozen=True, tag="refused"):
    """The request was not carried out; `number` is the relay's time with clock_skew."""

    rid: Uint
    code: Annotated[str, Meta(max_length=32)]
    detail: Annotated[str, Meta(max_length=512)] = ""
    number: Uint = 0


class Bye(Frame, frozen=True, tag="bye"):
    """The relay closes: it stops, or the connection broke a rule."""

    code: Annotated[str, Meta(max_length=32)]


BeforeLogin = Hello | Login | GuestLogin | Enrol
Request = (
    Present | Forget | Post | Commit | GetGroupInfo | OpenRun | Stage | Deposit | MailOpen | MailAck
    | PutMailKey | GetMailKeys | PrekeysPut | PrekeysClaim | Certify | Append | InvitePut | UserList | Presence
    | GetPubkey | CreateSession | JoinSession | Pass | Release
)  # fmt: skip
Answer = (
    Challenge | Welcome | Enrolled | Page | Pushed | Behind | Ack | GroupInfo | Mailed | MailKeys
    | PrekeysStored | PrekeysClaimed | PrekeysLow | Users | Online | Pubkey | Done | Refused | Bye
    | SessionCreated | Paired | Passed | PeerLeft | SessionOver
)  # fmt: skip

_encoder: Final = msgspec.msgpack.Encoder()
_before_login: Final[msgspec.msgpack.Decoder[BeforeLogin]] = msgspec.msgpack.Decoder(BeforeLogin)
_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_answer: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_mails: Final[msgspec.msgpack.Decoder[list[Mail]]] = msgspec.msgpack.Decoder(list[Mail])


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    return _encoder.encode(frame)


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    try:
        frame = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise PeerError("bad_encoding", "not a known frame") from error
    if _encoder.encode(frame) != data:
        raise PeerError("bad_encoding", "not the one encoding of this frame")
    return frame


def decode_before_login(data: bytes) -> BeforeLogin:
    """A frame that a stranger may send."""
    frame: BeforeLogin = _decode(_before_login, data)
    return frame


def decode_request(data: bytes) -> Request:
    """A frame that a logged-in device may send."""
    frame: Request = _decode(_request, data)
    return frame


def decode_answer(data: bytes) -> Answer:
    """A frame that the relay may send."""
    frame: Answer = _decode(_answer, data)
    return frame


def encode_items(items: list[Mail]) -> bytes:
    """Mailbox items as they are staged for a commit whose frame they do not fit into."""
    return _encoder.encode(items)


def decode_items(data: bytes) -> list[Mail]:
    """What `encode_items` gave."""
    items: list[Mail] = _decode(_mails, data)
    return items


def signed_form(frame: Frame) -> bytes:
    """Deterministic CBOR of a frame: `[tag, fields...]`; what hashes and signatures cover."""
    return enc(*msgspec.to_builtins(frame, builtin_types=(bytes,)))


def digest(frame: Frame) -> bytes:
    """SHA-256 of the signed form: `SHA-256(L1)` and the like."""
    return sha256(signed_form(frame))
