"""Every signed structure of the product, made for real: each suite, the login, enrolment, mailboxes, the logs.

`made()` drives them all and writes down what was signed; `labels_in_source()` reads the labels out of the source, so
that a test can tell whether one was missed.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest import mock

from cloister.identity.enrolment import Application
from cloister.identity.keys import UserKeys
from cloister.primitives.labelled import PREFIX
from cloister.primitives.rsa import RsaSigningKey
from cloister.primitives.signature import SigningKey
from cloister.protocols.interface import Leave, Remove
from cloister.wire import guest, login
from support.conformance import CASES, talk
from support.need import REPOSITORY
from support.suite_net import NOW, keys_of
from support.world import World, live, small_realm

SRC = REPOSITORY / "src" / "cloister"
MLS = b"MLS 1.0 "


@contextmanager
def recording() -> Iterator[set[bytes]]:
    """What is signed from now on."""
    found: set[bytes] = set()
    with ExitStack() as stack:
        for kind in (SigningKey, RsaSigningKey):
            stack.enter_context(mock.patch.object(kind, "sign", _noting(kind.sign, found)))
        yield found


def _noting(sign: Callable[[Any, bytes], bytes], found: set[bytes]) -> Callable[[Any, bytes], bytes]:
    def noted(self: Any, message: bytes) -> bytes:
        found.add(message)
        return sign(self, message)

    return noted


def label_of(message: bytes) -> str:
    """The label of a signed string, ours or of RFC 9420."""
    if message.startswith(PREFIX):
        return message.removeprefix(PREFIX).partition(b"\0")[0].decode()
    length = message[0]
    if message[1:].startswith(MLS) and length < 64:
        return message[1 : 1 + length].decode()
    raise ValueError(f"signed without a label: {message[:40]!r}")


@cache
def made() -> dict[str, bytes]:
    """Label -> a string that was signed under it."""
    with recording() as found:
        for case in CASES:
            _room(case)
        _people()
        _doors()
    return {label_of(message): message for message in sorted(found)}


def _room(case: Any) -> None:
    """A room's life: agreeing, talking, a new key, a member who goes and one who is put out."""
    for last in (lambda nodes: nodes[1].change(Leave()), lambda nodes: nodes[0].change(Remove(nodes[-1].name))):
        net, nodes = case.agreed(case.orders, "signatures")
        talk(net, nodes)
        case.rekey(net, nodes)
        net.settle()
        if "remove" not in case.lacks:
            last(nodes)
            net.settle()


def _people() -> None:
    """A realm, its relay and its devices, who log in, send and read."""

    async def story(world: World) -> None:
        await world.room("bob")

    live(story, small_realm())


def _doors() -> None:
    """What the world does not do: an enrolment, a guest's login."""
    rng = random.Random("doors").randbytes
    user, _ = UserKeys.generate(rng)
    first = login.hello(None, rng)
    relay = user.identity
    second = login.challenge(first, "relay", relay, relay.public.raw, [], bytes(32), NOW, rng)
    guest.guest_login(first, second, keys_of(0, rsa=False).device, bytes(32), NOW)
    application = Application.make(user, keys_of(0), "cloister://home/u/erin/d/phone", None, NOW)
    application.register(user, bytes(32), bytes(32), NOW)


# --- the source -------------------------------------------------------------------------------------------------


def labels_in_source() -> set[str]:
    """The labels in calls of `sign` and `verify`, as patterns: what is put in stands as `.+`."""
    found: set[str] = set()
    for path in sorted(SRC.rglob("*.py")):
        if "lab/" in path.as_posix():
            continue
        tree = ast.parse(path.read_text())
        names = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module == "cloister.primitives.labelled"
            for alias in node.names
        }
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign | ast.Assign)
            for target in ([node.target] if isinstance(node, ast.AnnAssign) else node.targets)
            if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                found |= _label_in(node, names, constants)
    return found


def _label_in(call: ast.Call, names: set[str], constants: dict[str, Any]) -> set[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if isinstance(call.func, ast.Name) and name not in names:
        return set()
    place = {"sign": 1, "verify": 2}.get(name)
    if place is None or len(call.args) <= place:
        return set()
    return _pattern(call.args[place], constants)


def _pattern(label: ast.expr, constants: dict[str, Any]) -> set[str]:
    if isinstance(label, ast.Constant) and isinstance(label.value, str):
        return {re.escape(label.value)}
    if isinstance(label, ast.Name) and isinstance(constants.get(label.id), str):
        return {re.escape(constants[label.id])}
    if isinstance(label, ast.JoinedStr):
        parts = (re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in label.values)
        return {"".join(parts)}
    return set()
