"""The worked example of docs/spec/classic/pair.md: one session's messages, computed by the suite's own code.

Every key and every draw is counting bytes, so the page is the same on every machine; X25519, Ed25519 and AES-GCM draw
nothing by themselves, so the bytes are whole.
"""

from __future__ import annotations

from typing import Final

from cloister.primitives.kdf import sha256
from cloister.primitives.signature import SigningKey
from cloister.protocols.interface import RoomPolicy
from cloister.protocols.pair import items, steps
from cloister.protocols.pair.items import Agreed, Place, Standing
from cloister.protocols.ratchet import SendChain

_NOW: Final = 1_790_000_000_000
_ROOM: Final = bytes(range(16))
_LINE: Final = 128


def _counting(first: int, size: int) -> bytes:
    return bytes((first + i) % 256 for i in range(size))


def _shown(name: str, data: bytes) -> str:
    """A value in hexadecimal, its size, and 64 bytes a line."""
    text = data.hex()
    lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
    return "\n".join([f"{name} ({len(data)} bytes)", *(f"    {line}" for line in lines)])


def example() -> str:
    """The messages and keys of a first session, as a block of the page."""
    rule = steps.Steps()
    signers = [SigningKey("ed25519", _counting(first, 32)) for first in (0x10, 0x20)]
    ids = tuple(
        steps.Identity(f"cloister://home/u/{user}/d/phone", sha256(user.encode()), key.public.raw)
        for user, key in zip(("alice", "bob"), signers, strict=True)
    )
    public, private = rule.offer(lambda size: _counting(0x30, size))
    request = steps.Request(
        kem=rule.kem, room=_ROOM, epoch=1, prev=steps.FIRST, sid=_counting(0x50, 16), ids=(ids[0], ids[1]), log_size=7,
        policy=RoomPolicy(title="two", owners=("alice",)), prekey=None, ephemeral=public, ts=_NOW,
    )  # fmt: skip
    request = steps.sign_request(rule, signers[0], request)
    answer, shared = rule.answer(public, lambda size: _counting(0x40, size))
    keys = steps.keys_of(rule, request, answer, shared)
    if rule.finish(private, answer) != shared:
        raise ValueError("the two sides differ")
    response = steps.make_response(rule, signers[1], request, answer, keys)
    confirm = steps.make_confirm(signers[0], request.sid, keys)
    agreed = Agreed(request=request, keys=keys, side=steps.REQUESTER, confirmed=True)
    standing = Standing(
        number=1, sid=request.sid, th=keys.th, ids=request.ids, side=steps.REQUESTER, exporter=keys.exporter,
        key_check=keys.key_check, began=_NOW,
    )  # fmt: skip
    place = Place(room=_ROOM, kind="application", entry_id=_counting(0x60, 16))
    sealed, _ = items.seal(standing, SendChain(0, keys.chains[steps.REQUESTER]), items.CHAT, b"hello", place, None)
    shown = [
        _shown("chat_request", request.encode()),
        _shown("chat_response", response.encode()),
        _shown("chat_confirm", confirm.encode()),
        _shown("X25519", shared),
        _shown("th", keys.th),
        _shown("k_A>B, step 0", keys.chains[0]),
        _shown("k_B>A, step 0", keys.chains[1]),
        _shown("create", items.commit_payload(agreed)),
        _shown("next_token_hash", sha256(agreed.token)),
        _shown('record of "hello", in its envelope', sealed),
        f"check value  {keys.key_check}",
    ]
    return "```\n" + "\n".join(shown) + "\n```\n"
