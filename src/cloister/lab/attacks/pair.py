"""Attacks on suite `pair`, one for each fix that is a step of the protocol (F4.1 to F4.5), and one on restores.

Source: docs/spec/classic/pair.md. The attackers: somebody who has recorded another's registration; a relay that hands
out keys of its own; a member (Mallory) who passes one person's request on as her own; a relay that writes control
messages; a member who chooses its ephemeral key so that everybody knows the secret; a device put back to an old copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cloister.codec.cbor import enc
from cloister.identity.enrolment import Application
from cloister.identity.keys import DeviceKeys, UserKeys
from cloister.lab.attacks import Attack, lost
from cloister.lab.originals.pair import World
from cloister.primitives import Rng
from cloister.primitives.dh import KEY_SIZE
from cloister.primitives.kdf import sha256
from cloister.primitives.signature import SigningKey
from cloister.protocols.interface import NO_EPOCH, READ_ONLY_ITEM, Add, Commit, Envelope, State
from cloister.protocols.pair import items
from cloister.protocols.pair import steps as steps_of
from cloister.protocols.pair.items import EPOCH, Agreed, Place, Standing
from cloister.protocols.pair.steps import FIRST, REQUESTER, Confirm, Identity, Request, Response, Steps
from cloister.protocols.record import Schedule, export
from cloister.testing.directory import NOW
from cloister.testing.keys import seeded
from cloister.testing.sessions import MAILBOX, POLICY, ROOM, Net, Node, agreed, users


def _item(kind: str, body: bytes, sender: str) -> Envelope:
    return Envelope(channel=MAILBOX, kind=kind, payload=body, sender=sender)


def _last(net: Net, device: str, kind: str) -> bytes:
    """The newest item of this kind in a mailbox; LookupError where there is none."""
    return next(item.payload for item in reversed(net.mail.get(device, [])) if item.kind == kind)


def _knows(node: Node, keys: Schedule) -> bool:
    """Whether these are the keys of the session that the device believes to stand."""
    if node.session is None or node.live.view.state is not State.READY:
        return False
    return node.live.export("anything", b"", 32) == export(steps_of.NAME, keys.exporter, "anything", b"", 32)


# --- F4.1 ---------------------------------------------------------------------------------------------------


def register_without_possession(world: World) -> bool:
    """F4.1: who has recorded Alice's registration registers her name and keys on another connection."""
    rng = seeded("F4.1")
    keys, _ = UserKeys.generate(rng)
    device = DeviceKeys.generate(rng, rsa=False)
    application = Application.make(keys, device, "cloister://home/u/alice/d/phone", None, NOW)
    recorded = application.register(keys, sha256(b"her L1"), sha256(b"her L2"), NOW)
    taken = world.register(recorded, "home", sha256(b"another L1"), sha256(b"another L2"), NOW)
    return taken.manifest.user == "alice"


# --- F4.2 ---------------------------------------------------------------------------------------------------


def swap_the_public_key(world: World) -> bool:
    """F4.2: the relay says that its own key is Alice's, and asks Bob for a chat in her name."""
    net = Net(seed="F4.2")
    alice, bob = (net.node(world.suite, user, index) for index, user in enumerate(users(2)))
    steps, rng, relay = world.suite.steps, seeded("relay"), SigningKey.generate("ed25519", seeded("its key"))
    ephemeral, private = steps.offer(rng)
    size = net.directory.size
    known = [Identity.of(net.directory.device(node.name, size)) for node in (alice, bob)]
    swapped = Identity(alice.name, known[0].identity, relay.public.raw)
    request = Request(
        kem=steps.kem, room=ROOM, epoch=1, prev=FIRST, sid=rng(16), ids=(swapped, known[1]), log_size=size,
        policy=POLICY, prekey=None, ephemeral=ephemeral, ts=net.now,
    )  # fmt: skip
    request = steps_of.sign_request(steps, relay, request)
    bob.give(_item("chat_request", request.encode(), alice.name))
    if bob.session is None:
        return lost([bob])
    response = Response.decode(_last(net, alice.name, "chat_response"))
    keys = steps_of.keys_of(steps, request, response.ephemeral, steps.finish(private, response.ephemeral))
    bob.give(_item("chat_confirm", steps_of.make_confirm(relay, request.sid, keys).encode(), alice.name))
    made = Agreed(request=request, keys=keys, side=REQUESTER, confirmed=True)
    payload, token = items.commit_payload(made), sha256(made.token)
    net.commit(alice, Commit(room=ROOM, expects=NO_EPOCH, entry_id=rng(16), payload=payload, next_token_hash=token))
    net.settle([bob])
    return _knows(bob, keys) or lost([bob])


# --- F4.3 ---------------------------------------------------------------------------------------------------


def unknown_key_share(world: World) -> bool:
    """F4.3: Mallory passes Alice's request on to Bob as her own: they share a key, each believes with Mallory."""
    net = Net(seed="F4.3")
    alice, bob, mallory = (net.node(world.suite, user, index) for index, user in enumerate(users(3)))
    steps, key = world.suite.steps, mallory.me.keys.device
    alice.create(ROOM, POLICY)
    alice.change(Add(mallory.name))
    asked = Request.decode(_last(net, mallory.name, "chat_request"))
    size = net.directory.size
    ids = Identity.of(net.directory.device(mallory.name, size)), Identity.of(net.directory.device(bob.name, size))
    passed = steps_of.sign_request(steps, key, _with(asked, ids))
    bob.give(_item("chat_request", passed.encode(), mallory.name))
    answer = Response.decode(_last(net, mallory.name, "chat_response"))
    mine = steps_of.sign_response(steps, key, asked, answer)
    alice.give(_item("chat_response", mine.encode(), mallory.name))
    if alice.faults:
        return lost([alice])
    confirm = Confirm.decode(_last(net, mallory.name, "chat_confirm"))
    th = steps.transcript(passed, answer.ephemeral)
    bob.give(_item("chat_confirm", steps_of.sign_confirm(key, confirm, th).encode(), mallory.name))
    net.settle([alice, bob])
    if State.READY not in (alice.live.view.state, bob.live.view.state):
        return lost([alice, bob])
    return alice.live.export("anything", b"", 32) == bob.live.export("anything", b"", 32)


def _with(request: Request, ids: tuple[Identity, Identity]) -> Request:
    """The same ephemeral key under other names."""
    return Request(
        kem=request.kem, room=request.room, epoch=request.epoch, prev=request.prev, sid=request.sid, ids=ids,
        log_size=request.log_size, policy=request.policy, prekey=None, ephemeral=request.ephemeral, ts=request.ts,
    )  # fmt: skip


# --- F4.4, F4.5 ---------------------------------------------------------------------------------------------


def forge_a_terminate(world: World) -> bool:
    """F4.4: the relay tells Bob that Alice has ended their chat."""
    _, (alice, bob) = agreed(world.suite, 2, "F4.4")
    bob.give(_item("chat_terminate", b"", alice.name))
    return bob.live.view.state is State.REMOVED


class _Zero(Steps):
    """Answers with a point of small order, as if its secret were zeros."""

    def answer(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        return bytes(KEY_SIZE), bytes(KEY_SIZE)


def answer_with_zero(world: World) -> bool:
    """F4.5: Bob answers with the point zero; whoever sees the handshake has the keys."""
    steps = world.suite.steps
    net = Net(seed="F4.5")
    alice = net.node(world.suite, "a", 0)
    bob = net.node(type(world.suite)(type("Cheat", (_Zero, type(steps)), {})()), "b", 1)
    alice.create(ROOM, POLICY)
    alice.change(Add(bob.name))
    request = Request.decode(_last(net, bob.name, "chat_request"))
    net.settle()
    keys = steps_of.keys_of(steps, request, bytes(KEY_SIZE), bytes(KEY_SIZE))
    return _knows(alice, keys) or lost([alice])


def _restored(world: World) -> bool:
    """A device that is put back seals under a key and number that it has used; who knows one text reads the other."""
    net, (_, bob) = agreed(world.suite, 2, "restore")
    backup = dict(bob.items)
    standing, texts = EPOCH.decode(backup[EPOCH.key(b"")]), (b"known to no thief", b"known to everyone")
    bob.say(texts[0])
    first = _ciphertext(net, standing)
    bob.session = world.suite.restore(bob.me, backup | {READ_ONLY_ITEM: b""})
    bob.say(texts[1])  # NotReady in the suite: it seals nothing until a new session begins
    pad = bytes(a ^ b for a, b in zip(_ciphertext(net, standing), enc("chat", texts[1]), strict=False))
    return bytes(a ^ b for a, b in zip(first, pad, strict=False)) == enc("chat", texts[0])


def _ciphertext(net: Net, standing: Standing) -> bytes:
    """The newest record's ciphertext, out of its envelope, as a thief of a store gets it."""
    entry = net.rooms[ROOM].entries[-1]
    return items.unwrap(standing, entry.payload, Place(room=ROOM, kind=entry.kind, entry_id=entry.entry_id)).ciphertext


def _attack(name: str, fix: str, attempt: Callable[[World], bool]) -> Attack:
    return Attack("pair", name, fix, attempt)


ATTACKS: Final = (
    _attack("register without possession", "F4.1", register_without_possession),
    _attack("swapped public key", "F4.2", swap_the_public_key),
    _attack("unknown key share", "F4.3", unknown_key_share),
    _attack("forged terminate", "F4.4", forge_a_terminate),
    _attack("answer of zeros", "F4.5", answer_with_zero),
    _attack("two-time pad after restore", "Restore", _restored),
)
