"""Chains: one key per message, forward secrecy inside an epoch, and the window against replays (fixes K3 and K4).

Source: docs/spec/record.md ("Chains").

    mk = Expand(ck, "msg")    (ke, km) = Expand(mk, 64)    ck' = Expand(ck, "next")

Each sender has one chain per epoch; message number `seq` uses the key of step `seq`, and no two messages share one.

Invariants
- A chain moves forwards only; the key of a step cannot be had from any later one.
- At most MAX_SKIP keys of one chain wait for messages that have not come; a longer jump is `gap`.
- A number is used once: the window holds the last WINDOW numbers, and what is older counts as seen (`replay`).
- Nothing here changes anything: `advance` says what would change, the caller makes it so once the signature holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.labelled import derive
from cloister.protocols.checks import check

MAX_SKIP: Final = 1000
WINDOW: Final = 1024
_MASK: Final = (1 << WINDOW) - 1
_KEY: Final = 32


@dataclass(frozen=True, slots=True)
class MessageKey:
    """Keys of one message: `cipher` and `mac`, 32 bytes each."""

    cipher: bytes = field(repr=False)
    mac: bytes = field(repr=False)


def split(mk: bytes) -> MessageKey:
    """(ke, km) of a message key."""
    both = derive(mk, "record keys", length=2 * _KEY)
    return MessageKey(both[:_KEY], both[_KEY:])


def message_key(ck: bytes) -> bytes:
    """mk of the step whose chain key is `ck`, 32 bytes."""
    return derive(ck, "record msg")


def next_key(ck: bytes) -> bytes:
    """The chain key of the next step, 32 bytes."""
    return derive(ck, "record next")


@dataclass(frozen=True, slots=True)
class SendChain:
    """One's own chain: the number of the next message, and the chain key of that step."""

    seq: int
    key: bytes = field(repr=False)

    def step(self) -> tuple[MessageKey, SendChain]:
        """The next message's keys, and the chain after it (to be stored before the message is sent)."""
        return split(message_key(self.key)), SendChain(self.seq + 1, next_key(self.key))

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.seq, self.key)

    @classmethod
    def decode(cls, data: bytes) -> SendChain:
        """What `encode` gave."""
        fields = Fields.decode(data, "send chain")
        chain = cls(fields.uint("seq"), fields.octets("key", _KEY))
        fields.end()
        return chain


@dataclass(frozen=True, slots=True)
class RecvChain:
    """Another's chain: the next number not yet derived, its chain key, and which of the numbers below were seen.

    Bit k of `window` stands for number seq-1-k.
    """

    seq: int
    key: bytes = field(repr=False)
    window: int = 0

    def seen(self, seq: int) -> bool:
        """Whether this number counts as used."""
        behind = self.seq - 1 - seq
        return behind >= WINDOW or (behind >= 0 and bool(self.window >> behind & 1))

    def encode(self) -> bytes:
        """The stored form; the window is 128 bytes."""
        return enc(self.seq, self.key, self.window.to_bytes(WINDOW // 8, "big"))

    @classmethod
    def decode(cls, data: bytes) -> RecvChain:
        """What `encode` gave."""
        fields = Fields.decode(data, "receive chain")
        seq, key = fields.uint("seq"), fields.octets("key", _KEY)
        window = int.from_bytes(fields.octets("window", WINDOW // 8), "big")
        fields.end()
        return cls(seq, key, window)


@dataclass(frozen=True, slots=True)
class Advance:
    """What a message of one number does to its chain, once it has verified.

    `kept` are (number, message key) of those that were skipped, `spent` the numbers whose kept keys must go.
    """

    keys: MessageKey
    chain: RecvChain
    kept: tuple[tuple[int, bytes], ...] = ()
    spent: tuple[int, ...] = ()


@check("REC-03")
def check_unseen(chain: RecvChain, seq: int) -> None:
    """PeerError("replay") for a number that was used, or that lies before the window."""
    if chain.seen(seq):
        raise PeerError("replay", check="REC-03")


@check("REC-04")
def check_jump(chain: RecvChain, seq: int) -> None:
    """PeerError("gap") when more than MAX_SKIP messages would be skipped."""
    if seq - chain.seq > MAX_SKIP:
        raise PeerError("gap", "too many messages are missing before this one", check="REC-04")


def advance(chain: RecvChain, seq: int, kept: bytes | None) -> Advance:
    """What message `seq` needs and changes; `kept` is its skipped key if there is one.

    PeerError replay or gap.
    """
    check_unseen(chain, seq)
    if seq < chain.seq:
        if kept is None:
            raise PeerError("replay", "its key is gone")
        marked = RecvChain(chain.seq, chain.key, chain.window | 1 << (chain.seq - 1 - seq))
        return Advance(split(kept), marked, spent=(seq,))
    check_jump(chain, seq)
    ck, skipped = chain.key, []
    for number in range(chain.seq, seq):
        skipped.append((number, message_key(ck)))
        ck = next_key(ck)
    window = (chain.window << (seq + 1 - chain.seq) | 1) & _MASK
    stale = range(max(0, chain.seq - MAX_SKIP), max(0, seq + 1 - MAX_SKIP))
    return Advance(split(message_key(ck)), RecvChain(seq + 1, next_key(ck), window), tuple(skipped), tuple(stale))
