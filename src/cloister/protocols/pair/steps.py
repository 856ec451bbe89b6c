"""The steps of suite `pair` that a fix changed, each one function; the forms of its messages; its checks.

Source: docs/spec/classic/pair.md, document 003. The suite calls these methods and nothing else where a fix matters, so
`lab.originals.pair` shows what the document did by overriding exactly one of them.

    A -> B   ["chat_request", 1, kem, room, epoch, prev, sid, ids, log size, policy, prekey, E_A, ts, sig, confirm]
    B -> A   ["chat_response", sid, accept, E_B, mac, sig]
    A -> B   ["chat_confirm", sid, mac, sig]

ids are [device id, identity key, device key] of A and of B; the device keys sign. `th` is a hash over the whole request
and E_B, so both signatures, both MACs and every key cover version, room, epoch, previous session, names and keys.

Invariants
- Sizes: sid and room 16 bytes, keys 32, E_A and E_B at most E_MOST; nothing longer is parsed.
- A check is called through its module's globals under its id (PAI-nn); it raises PeerError or gives what it verified.
- Left out: storage, which is the session's (`items`); registration (F4.1) is `identity.enrolment`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.realm import DeviceRecord
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.labelled import Signer, Verifier, derive, hash_of, mac, sign, verify, verify_mac
from cloister.primitives.signature import VerifyKey
from cloister.protocols import policy as policies
from cloister.protocols.checks import check, named
from cloister.protocols.forms import DEVICE_MOST, HASH, ID
from cloister.protocols.interface import RoomPolicy
from cloister.protocols.record import Schedule, schedule

NAME: Final = "pair"
VERSION: Final = 1
FIRST: Final = bytes(ID)
"""The `prev` of a room's first session."""
E_MOST: Final = 2048
SIGNATURE: Final = 64
CONFIRM_MOST: Final = 256
AHEAD: Final = 120_000
"""How far (ms) a request's time may lie ahead: the difference of two clocks."""
STORED: Final = 7 * 24 * 60 * 60_000
"""How long (ms) a request may wait in a mailbox."""
REQUESTER: Final = 0
RESPONDER: Final = 1


# --- messages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """A side of a session: device id, the user's identity key and the device key (32 bytes each)."""

    device: str
    identity: bytes
    key: bytes

    @classmethod
    def of(cls, record: DeviceRecord) -> Identity:
        """The device as the realm log has it."""
        return cls(record.device_id, record.identity_key, record.key.raw)

    def items(self) -> list[object]:
        """The array that travels."""
        return [self.device, self.identity, self.key]

    @classmethod
    def read(cls, fields: Fields) -> Identity:
        """What `items` gave."""
        read = cls(fields.text("device", DEVICE_MOST), fields.octets("identity", 32), fields.octets("key", 32))
        fields.end()
        return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """chat_request: who asks whom, for which session of which room.

    `epoch` is the session's ordinal (1 for the first), `prev` the sid that it replaces, `prekey` the reference of the
    prekey that `ephemeral` answers or None, `log_size` the realm log as the requester has it, `ts` its time (ms).
    """

    kem: str
    room: bytes
    epoch: int
    prev: bytes
    sid: bytes
    ids: tuple[Identity, Identity]
    log_size: int
    policy: RoomPolicy
    prekey: bytes | None
    ephemeral: bytes
    ts: int
    signature: bytes = b""
    confirm: bytes | None = None
    """By prekey, the third message goes with the first."""

    def body(self) -> list[object]:
        """What the signature and th cover."""
        return [
            VERSION, self.kem, self.room, self.epoch, self.prev, self.sid, [side.items() for side in self.ids],
            self.log_size, policies.items(self.policy), self.prekey, self.ephemeral, self.ts,
        ]  # fmt: skip

    def encode(self) -> bytes:
        """The mailbox item's body."""
        return enc("chat_request", *self.body(), self.signature, self.confirm)

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """What `encode` gave; PeerError bad_encoding or unsupported."""
        fields = Fields.decode(data, "chat_request")
        fields.kind("chat_request")
        if fields.uint("version", 16) != VERSION:
            raise PeerError("unsupported", "a chat request of a later version")
        request = cls(
            kem=fields.text("kem", 32),
            room=fields.octets("room", ID),
            epoch=fields.uint("epoch"),
            prev=fields.octets("prev", ID),
            sid=fields.octets("sid", ID),
            ids=_sides(fields.fields("ids")),
            log_size=fields.uint("log size"),
            policy=policies.read(fields.fields("policy")),
            prekey=fields.octets_or_none("prekey", HASH),
            ephemeral=fields.octets("ephemeral", most=E_MOST),
            ts=fields.uint("ts", 63),
            signature=fields.octets("signature", SIGNATURE),
            confirm=fields.octets_or_none("confirm", most=CONFIRM_MOST),
        )
        fields.end()
        return request


def _sides(fields: Fields) -> tuple[Identity, Identity]:
    sides = Identity.read(fields.fields("requester")), Identity.read(fields.fields("responder"))
    fields.end()
    return sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """chat_response: whether B takes the request, its E_B, and the proof that it holds the key."""

    sid: bytes
    accept: bool
    ephemeral: bytes = b""
    mac: bytes = b""
    signature: bytes = b""

    def body(self) -> list[object]:
        """What is signed together with the request."""
        return [self.sid, self.accept, self.ephemeral, self.mac]

    def encode(self) -> bytes:
        """The mailbox item's body."""
        return enc("chat_response", *self.body(), self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Response:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "chat_response")
        fields.kind("chat_response")
        response = cls(
            sid=fields.octets("sid", ID),
            accept=fields.flag("accept"),
            ephemeral=fields.octets("ephemeral", most=E_MOST),
            mac=fields.octets("mac", most=HASH),
            signature=fields.octets("signature", SIGNATURE),
        )
        fields.end()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """chat_confirm: A's proof that it holds the key (the third message)."""

    sid: bytes
    mac: bytes
    signature: bytes = b""

    def encode(self) -> bytes:
        """The mailbox item's body."""
        return enc("chat_confirm", self.sid, self.mac, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Confirm:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "chat_confirm")
        fields.kind("chat_confirm")
        confirm = cls(
            sid=fields.octets("sid", ID),
            mac=fields.octets("mac", HASH),
            signature=fields.octets("signature", SIGNATURE),
        )
        fields.end()
        return confirm


# --- what the fixes made of the document -------------------------------------------------------------------


class Steps:
    """What the fixes made of document 003, one method per fix; no state."""

    kem = "x25519"

    def key_of(self, record: DeviceRecord, claimed: Identity) -> VerifyKey:
        """F4.2: the key that signs is the one in the realm log, never one that came with the message."""
        check_identity(record, claimed)
        return record.key

    def covered(self, request: Request) -> list[object]:
        """F4.3: signatures cover the whole request: sid, names and keys of both, room, what it replaces."""
        return request.body()

    def transcript(self, request: Request, answer: bytes) -> bytes:
        """F4.3: th covers the same and E_B; both MACs and every key follow from it. 32 bytes."""
        return hash_of("pair th", *request.body(), answer)

    def confirms(self) -> bool:
        """F4.3: B waits for the third message before it takes anything of the session."""
        return True

    def ends_by_hint(self) -> bool:
        """F4.4: whether an unsealed chat_terminate ends a session. It does not: only a sealed record does."""
        return False

    def exchange(self, own: DhKey, public: bytes) -> bytes:
        """F4.5: the shared secret, 32 bytes; PeerError("zero_key") when it would be zero."""
        check_not_zero(own, public)
        return own.exchange(public)

    # --- the key encapsulation, in the form that E4.1 and E4.2 need ---

    def offer(self, rng: Rng) -> tuple[bytes, bytes]:
        """A fresh key that others can answer: (public, private)."""
        own = DhKey.generate(rng)
        return own.public, own.private_bytes()

    def answer(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        """The answer to an offered key, and the shared secret."""
        own = DhKey.generate(rng)
        return own.public, self.exchange(own, public)

    def finish(self, private: bytes, answer: bytes) -> bytes:
        """The shared secret from the own offered key's private half and the answer to it."""
        return self.exchange(DhKey(private), answer)


def keys_of(steps: Steps, request: Request, answer: bytes, shared: bytes) -> Schedule:
    """k_A>B and k_B>A (chains 0 and 1), the secrets behind cA and cB, and the exporter.

    `answer` is E_B; for a session by prekey it is the prekey itself, and E_A its answer.
    """
    return schedule(NAME, steps.transcript(request, answer), shared, 2)


class Keyed(Protocol):
    """What a proof is over: a session's transcript hash and the secret behind cA and cB."""

    @property
    def th(self) -> bytes:
        """32 bytes."""
        ...

    @property
    def confirm(self) -> bytes:
        """32 secret bytes."""
        ...


def confirm_key(keys: Keyed, side: int) -> bytes:
    """cA (side 0) or cB (side 1), 32 bytes."""
    return derive(keys.confirm, "pair confirm", "AB"[side])


def sign_request(steps: Steps, key: Signer, request: Request) -> Request:
    """The request with its signature."""
    return replace(request, signature=sign(key, "pair chat_request", *steps.covered(request)))


def make_response(steps: Steps, key: Signer, request: Request, answer: bytes, keys: Keyed) -> Response:
    """B's acceptance, with its proof that it holds the key."""
    response = Response(
        sid=request.sid, accept=True, ephemeral=answer, mac=mac(confirm_key(keys, RESPONDER), "pair B", keys.th)
    )
    return sign_response(steps, key, request, response)


def make_refusal(steps: Steps, key: Signer, request: Request) -> Response:
    """B's signed no."""
    return sign_response(steps, key, request, Response(sid=request.sid, accept=False))


def sign_response(steps: Steps, key: Signer, request: Request, response: Response) -> Response:
    """The response with its signature."""
    return replace(response, signature=sign(key, "pair chat_response", *steps.covered(request), *response.body()))


def make_confirm(key: Signer, sid: bytes, keys: Keyed) -> Confirm:
    """A's third message."""
    confirm = Confirm(sid=sid, mac=mac(confirm_key(keys, REQUESTER), "pair A", keys.th))
    return sign_confirm(key, confirm, keys.th)


def sign_confirm(key: Signer, confirm: Confirm, th: bytes) -> Confirm:
    """The confirm with its signature."""
    return replace(confirm, signature=sign(key, "pair chat_confirm", th))


# --- checks of requests ------------------------------------------------------------------------------------


@check("PAI-01")
def check_request_signed(steps: Steps, key: Verifier, request: Request) -> None:
    """PeerError("bad_sig") unless the requesting device signed the request."""
    with named("PAI-01"):
        verify(key, request.signature, "pair chat_request", *steps.covered(request))


@check("PAI-02")
def check_sent_by(sender: str | None, named_device: str) -> None:
    """PeerError("inner_outer") unless the mailbox item was sent by the device that the message names."""
    if sender != named_device:
        raise PeerError("inner_outer", "somebody else's message", check="PAI-02")


@check("PAI-03")
def check_addressed(request: Request, room: bytes, device: str) -> None:
    """PeerError("misrouted") unless the request is for this room and this device."""
    if request.room != room or request.ids[RESPONDER].device != device:
        raise PeerError("misrouted", "a request for another room or device", check="PAI-03")


@check("PAI-04")
def check_identity(record: DeviceRecord, claimed: Identity) -> None:
    """PeerError("identity_changed") unless identity key and device key are those of the realm log."""
    if claimed != Identity.of(record):
        raise PeerError("identity_changed", "other keys than the realm log's", check="PAI-04")


@check("PAI-05")
def check_recent(request: Request, now: int) -> None:
    """PeerError("stale_timestamp") for a request from the future, or one that waited longer than STORED."""
    if not now - STORED <= request.ts <= now + AHEAD:
        raise PeerError("stale_timestamp", check="PAI-05")


@check("PAI-06")
def check_fresh(seen: int | None) -> None:
    """PeerError("replay") for a sid that this session has seen."""
    if seen is not None:
        raise PeerError("replay", "this session was requested before", check="PAI-06")


@check("PAI-07")
def check_continues(request: Request, epoch: int, prev: bytes) -> None:
    """PeerError("stale_epoch") unless the request replaces the session that stands."""
    if (request.epoch, request.prev) != (epoch + 1, prev):
        raise PeerError("stale_epoch", "a request that replaces another session", check="PAI-07")


@check("PAI-08")
def check_kem(request: Request, kem: str) -> None:
    """PeerError("not_allowed") for another key encapsulation than this device consents to."""
    if request.kem != kem:
        raise PeerError("not_allowed", "another key encapsulation", check="PAI-08")


@check("PAI-09")
def check_same_people(request: Request, peer: str, pinned: tuple[Identity, Identity] | None) -> None:
    """PeerError unless the requester is the room's other device (not_allowed), both with the identity keys they had.

    identity_changed: pin on first use; who has got another identity key begins another room.
    """
    if request.ids[REQUESTER].device != peer:
        raise PeerError("not_allowed", "a request of somebody else", check="PAI-09")
    known = {side.device: side.identity for side in pinned or request.ids}
    if {side.device: side.identity for side in request.ids} != known:
        raise PeerError("identity_changed", "another identity key than when this room began", check="PAI-09")


@check("PAI-22")
def check_few(requests: int, most: int) -> None:
    """PeerError("quota") when a peer has made too many requests within the time window."""
    if requests >= most:
        raise PeerError("quota", "requests of one peer", check="PAI-22")


# --- checks of responses and confirms ----------------------------------------------------------------------


@check("PAI-10")
def check_awaited(request: Request | None, sid: bytes) -> Request:
    """The own request that is answered; PeerError("no_session") when there is none."""
    if request is None or request.sid != sid:
        raise PeerError("no_session", "an answer to nothing that was asked", check="PAI-10")
    return request


@check("PAI-11")
def check_response_signed(steps: Steps, key: Verifier, request: Request, response: Response) -> None:
    """PeerError("bad_sig") unless the asked device signed the response to this request."""
    with named("PAI-11"):
        verify(key, response.signature, "pair chat_response", *steps.covered(request), *response.body())


@check("PAI-12")
def check_response_mac(keys: Keyed, response: Response) -> None:
    """PeerError("confirm_mismatch") unless B holds the same key."""
    with named("PAI-12"):
        verify_mac(response.mac, confirm_key(keys, RESPONDER), "pair B", keys.th, code="confirm_mismatch")


@check("PAI-13")
def check_confirm_signed(key: Verifier, keys: Keyed, confirm: Confirm) -> None:
    """PeerError("bad_sig") unless the requesting device signed the confirm of this session."""
    with named("PAI-13"):
        verify(key, confirm.signature, "pair chat_confirm", keys.th)


@check("PAI-14")
def check_confirm_mac(keys: Keyed, confirm: Confirm) -> None:
    """PeerError("confirm_mismatch") unless A holds the same key."""
    with named("PAI-14"):
        verify_mac(confirm.mac, confirm_key(keys, REQUESTER), "pair A", keys.th, code="confirm_mismatch")


@check("PAI-26")
def check_not_zero(own: DhKey, public: bytes) -> None:
    """PeerError("zero_key") for an X25519 key of small order, which would make the keys known to all."""
    with named("PAI-26"):
        own.exchange(public)
