"""Suites `nonces`, `shares`: whatever bytes come in, on any channel, a session answers with one fault and stays."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.protocols.interface import Channel, ChannelKind, Envelope, Fault, Session
from support.insider import SUITE, SUITES, bench, standing
from support.suite_net import MAILBOX, NOW, ROOM, dump, seeded

KINDS = ("propose", "parked", "here", "handshake", "application", "commit", "create", "other")


def _garbage(dice: random.Random) -> bytes:
    """Noise, CBOR noise, or a beginning that looks right."""
    match dice.randrange(4):
        case 0:
            return dice.randbytes(dice.randrange(200))
        case 1:
            return enc(
                dice.choice(["propose", "order", "commit", "here", "parked", "hello"]), dice.randrange(9), [], None
            )
        case 2:
            return enc(*(dice.randbytes(dice.choice([0, 16, 32])) for _ in range(dice.randrange(8))))
        case _:
            return enc("parked", ROOM, bytes(16), ["x"] * dice.randrange(300))


def _unmoved(session: Session, envelope: Envelope) -> None:
    before = dump(session)
    effects = session.receive(envelope, NOW, seeded(1))
    assert len(effects) == 1, effects
    assert isinstance(effects[0], Fault)
    assert dump(session) == before


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("where", ["standing", "in a run"])
def test_garbage_on_every_channel_gives_one_fault(suite: str, where: str) -> None:
    room, case, dice = standing(suite=suite), bench(suite=suite), random.Random(where)
    session = room.session() if where == "standing" else case.session("hello")
    channels = (MAILBOX, Channel(ChannelKind.ROOM, ROOM), Channel(ChannelKind.RUN, case.run.id))
    for _ in range(600):
        envelope = Envelope(
            channel=dice.choice(channels),
            kind=dice.choice(KINDS),
            payload=_garbage(dice),
            entry_id=dice.randbytes(dice.choice([0, 16])),
            seq=dice.randrange(5),
            token_hash=dice.choice([b"", bytes(32), room.epoch.token_hash]),
            next_token_hash=dice.choice([None, bytes(32)]),
            sender=dice.choice([None, "x", room.nodes[0].name]),
        )
        _unmoved(session, envelope)


def test_altered_proposals_give_one_fault() -> None:
    room, dice = standing(), random.Random("proposals")
    session, good = room.session(), room.propose(room.context())
    for _ in range(250):
        at = dice.randrange(len(good.payload))
        payload = good.payload[:at] + bytes([good.payload[at] ^ 1 << dice.randrange(8)]) + good.payload[at + 1 :]
        before = dump(session)
        effects = session.receive(replace(good, payload=payload), NOW, seeded(1))
        assert len(effects) == 1
        assert type(effects[0]).__name__ in ("Fault", "Need"), "a larger log size asks for the realm log first"
        assert dump(session) == before


def test_garbage_does_not_lead_into_a_room() -> None:
    dice, me = random.Random("join"), standing().nodes[0].me
    for _ in range(200):
        envelope = Envelope(channel=MAILBOX, kind="propose", payload=_garbage(dice), sender="x")
        with pytest.raises(PeerError):
            SUITE.join(me, envelope, None, NOW, seeded(1))
