"""Two sessions of suite `code` over the net of `testing.sessions`: the code is typed, the relay pairs the two.

    net, (creator, joiner) = met(Code())                       # a whole code: both are ready after `net.settle()`
    net, (creator, joiner) = met(Code(), made="A3F2B1")        # the id alone: both say that the string is the same

Source: docs/spec/classic/code.md. The relay's part is played by hand: `pair` tells both that they are paired, the net
carries what they say. A man in the middle is two such nets whose nodes an attacker plays.
"""

from __future__ import annotations

from cloister.codec.cbor import enc
from cloister.protocols.code.forms import Code as SessionCode
from cloister.protocols.code.steps import FULL, SAS
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import Channel, ChannelKind, Envelope
from cloister.testing.sessions import POLICY, ROOM, Net, Node

CODE = "A3F2B1-7Q4K-M9XP"


def word(code: str, kind: str, mode: str = "") -> Envelope:
    """What the relay says of a code: `paired` with its mode, `left`, `over`."""
    made = SessionCode.parse(code)
    payload = enc("paired", mode or (FULL if made.secret else SAS)) if kind == "paired" else b""
    return Envelope(channel=Channel(ChannelKind.RENDEZVOUS, made.id.encode()), kind=kind, payload=payload)


def created(net: Net, suite: Code, code: str = CODE) -> Node:
    """Somebody who has made a code and waits."""
    node = net.node(suite, "creator", 0)
    node.create(ROOM, POLICY)
    node.apply(node.live.answer("code", code.encode(), net.now, node.rng))
    return node


def joined(net: Net, suite: Code, creator: Node, typed: str = CODE, made: str = CODE, index: int = 1) -> Node:
    """Somebody who types a code; the relay pairs the two."""
    node = net.node(suite, f"joiner{index}", index)
    net.pairs[SessionCode.parse(made).id.encode()] = (creator, node)
    node.give(word(made, "paired"))
    node.apply(node.live.answer("code", typed.encode(), net.now, node.rng))
    creator.give(word(made, "paired"))
    return node


def met(
    suite: Code, *, made: str = CODE, typed: str = "", other: Code | None = None, seed: object = 0
) -> tuple[Net, tuple[Node, Node]]:
    """Two who have typed the same code and heard that they are paired; nothing was delivered yet."""
    net = Net(seed=seed)
    creator = created(net, suite, made)
    return net, (creator, joined(net, other or suite, creator, typed or made, made))


def ready(suite: Code, *, made: str = CODE, seed: object = 0) -> tuple[Net, tuple[Node, Node]]:
    """Two whose session stands; where a string is to be compared, both have said that it is the same."""
    net, nodes = met(suite, made=made, seed=seed)
    net.settle()
    if not SessionCode.parse(made).secret:
        for node in nodes:
            node.apply(node.live.answer("sas", b"\x01", net.now, node.rng))
        net.settle()
    return net, nodes
