"""Lets a suite's members agree on a key over a relay in memory, and counts what went through it.

`FORMULAS` is what the protocols page says of each suite; docs/spec/classic/README.md has it as a table, a test lets
every suite agree and compares. RSA keys are taken in turns (an agreement costs the same with one's own as with a
neighbour's): they are slow to make and no part of an agreement.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.protocols.code.forms import Code as SessionCode
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import (
    Add,
    ChannelKind,
    Commit,
    Direct,
    OpenRun,
    Post,
    State,
    Suite,
)
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.pair.suite import Pair
from cloister.protocols.shares.suite import Shares
from cloister.protocols.transport.suite import Transport
from cloister.testing.mls_sessions import MlsNet
from cloister.testing.pairs import CODE, word
from cloister.testing.sessions import POLICY, ROOM, Net, Node, users

KEYS = 4
"""RSA pairs that are made."""
SUITES: dict[str, Suite] = {
    "nonces": Nonces(),
    "shares": Shares(),
    "transport": Transport(),
    "pair": Pair(),
    "code": Code(),
}
FORMULAS = {
    "nonces": ("1", "3n", "n - 1", "0"),
    "shares": ("1", "3n", "n - 1", "0"),
    "transport": ("n", "0", "n - 1", "0"),
    "pair": ("1", "0", "3", "0"),
    "code": ("1", "0", "0", "4"),
    "mls": ("2", "0", "n - 1", "0"),
}
"""Suite -> entries of the room's log, entries of run logs, mailbox items, messages through the rendezvous."""


@dataclass(frozen=True)
class Traffic:
    """What agreeing has put through the relay: numbers as FORMULAS has them, and the bytes of all payloads."""

    numbers: tuple[int, int, int, int]
    size: int


def members(suite: str, n: int) -> tuple[Net, list[Node]]:
    """Devices that have no room yet; those of mls have brought key packages to the relay."""
    if suite == "mls":
        rooms = MlsNet()
        return rooms, [rooms.member(user, index) for index, user in enumerate(users(n))]
    net = Net()
    return net, [net.node(SUITES[suite], user, index % KEYS) for index, user in enumerate(users(n))]


def ask(suite: str, net: Net, nodes: list[Node]) -> None:
    """The first makes a room and asks the others in; of suite `code`, both type the code."""
    first, *others = nodes
    first.create(ROOM, POLICY)
    if suite != "code":
        first.change(*(Add(node.name) for node in others))
        return
    net.pairs[SessionCode.parse(CODE).id.encode()] = first, others[0]
    first.apply(first.live.answer("code", CODE.encode(), net.now, first.rng))
    others[0].give(word(CODE, "paired"))
    others[0].apply(others[0].live.answer("code", CODE.encode(), net.now, others[0].rng))
    first.give(word(CODE, "paired"))


def agree(net: Net, nodes: list[Node]) -> None:
    """Until all hold the key; RuntimeError if they do not."""
    net.settle()
    if {node.live.view.state for node in nodes} != {State.READY} or len(
        {node.live.view.key_check for node in nodes}
    ) > 1:
        raise RuntimeError("the members do not agree")


def traffic(net: Net, nodes: list[Node]) -> Traffic:
    """What has gone through the relay."""
    made = [effect for node in nodes for effects in node.effects for effect in effects]
    room = [entry.payload for log in net.rooms.values() for entry in log.entries]
    run = [entry.payload for log in net.runs.values() for entry in log.entries]
    mail = [body for effect in made if isinstance(effect, Commit | OpenRun) for _, _, body in effect.sealed]
    mail += [effect.body for effect in made if isinstance(effect, Direct)]
    passed = [
        effect.payload for effect in made if isinstance(effect, Post) and effect.channel.kind is ChannelKind.RENDEZVOUS
    ]
    beside = [effect.group_info for effect in made if isinstance(effect, Commit) and effect.group_info]
    parts = (room, run, mail, passed)
    numbers = (len(room), len(run), len(mail), len(passed))
    return Traffic(numbers, sum(len(data) for part in (*parts, beside) for data in part))


def expected(suite: str, n: int) -> tuple[int, ...]:
    """The numbers that the page gives for n members."""
    return tuple(_value(formula, n) for formula in FORMULAS[suite])


def _value(formula: str, n: int) -> int:
    """The value of `a`, `n`, `an` or `n - b`."""
    product, _, less = formula.partition(" - ")
    factor = product.removesuffix("n")
    value = int(factor or 1) * (n if product.endswith("n") else 1)
    return value - int(less or 0)
