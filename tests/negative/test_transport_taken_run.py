"""A run's name is no secret: an insider's invitation under it takes nobody else's place, whenever it comes."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from cloister.protocols.interface import Envelope, Fault, Session, State
from cloister.protocols.transport.items import INVITE, WAITING
from support.suite_net import NOW, keys_of, seeded
from support.transport_insider import SUITE, Standing, dump, refusal, standing

ORDERS = [order for order in permutations(("real", "insider", "commit")) if order[0] != "commit"]


def give(session: Session, envelope: Envelope) -> list[str]:
    """The codes of what is refused."""
    return [each.code for each in session.receive(envelope, NOW, seeded("taken")) if isinstance(each, Fault)]


def letters(room: Standing, *, newcomer: bool) -> dict[str, Envelope]:
    """The inviter's commit and invitation, and what member c sends for the same run, with its own invitation's id."""
    roster = tuple(sorted({*room.epoch.roster, *(room.guests[:1] if newcomer else ())}))
    to, invitees = (3, room.guests[:1]) if newcomer else (1, ())
    real = room.forge(room.context(roster=roster), to=to, invitees=invitees)
    context = room.context(roster=roster, proposer=room.nodes[2].name)
    taken = room.forge(
        context, by=2, to=to, invitees=invitees, key=bytes([1]) * 32,
        token=lambda token: replace(token, invite_id=bytes([8]) * 16),
    )  # fmt: skip
    return {"real": real.invite, "insider": taken.invite, "commit": real.commit}


@pytest.mark.parametrize("order", [*ORDERS, ("commit", "insider", "real"), ("commit", "real", "insider")], ids="-".join)
def test_a_member_follows_the_commit_of_a_run_whose_name_an_insider_took(order: tuple[str, ...]) -> None:
    room = standing()
    session, sent = room.session(), letters(room, newcomer=False)
    for name in order:
        codes = give(session, sent[name])
        assert name == "insider" or codes == []
    assert (session.view.epoch, session.view.state) == (2, State.READY)
    assert not [key for key in dump(session) if key.startswith((INVITE.name, WAITING.name))]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_newcomer_follows_the_commit_of_a_run_whose_name_an_insider_took(order: tuple[str, ...]) -> None:
    room = standing()
    sent = letters(room, newcomer=True)
    me = replace(room.nodes[1].me, device=room.guests[0], keys=keys_of(3))
    session, _ = SUITE.join(me, sent[order[0]], None, NOW, seeded("guest"))
    for name in order[1:]:
        codes = give(session, sent[name])
        assert name == "insider" or codes == [] or order.index("commit") < order.index("real")
    if order.index("commit") < order.index("real"):  # the log is read after its own invitation's token opened it
        assert give(session, sent["commit"]) == []
    assert (session.view.epoch, session.view.state) == (2, State.READY)


def test_tra_06_an_inviter_invites_once_to_a_run() -> None:
    room = standing()
    session, sent = room.session(), letters(room, newcomer=False)
    assert give(session, sent["insider"]) == give(session, sent["real"]) == []
    again = room.forge(token=lambda token: replace(token, invite_id=bytes(16)))
    refusal(session, again.invite, code="replay", check="TRA-06")
