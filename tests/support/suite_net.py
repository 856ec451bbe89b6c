"""Tests of suites: the net of `cloister.testing.sessions`, and what only a test asks of a session."""

from __future__ import annotations

from cloister.protocols.interface import Directory, Envelope, Fault, Session
from cloister.protocols.rounds.session import RoundsSession
from cloister.testing.directory import DAY as DAY
from cloister.testing.directory import NOW as NOW
from cloister.testing.directory import FakeDirectory as FakeDirectory
from cloister.testing.directory import device_name as device_name
from cloister.testing.keys import MemoDecrypt as MemoDecrypt
from cloister.testing.keys import keys_of as keys_of
from cloister.testing.keys import seeded as seeded
from cloister.testing.sessions import MAILBOX as MAILBOX
from cloister.testing.sessions import MINUTE as MINUTE
from cloister.testing.sessions import POLICY as POLICY
from cloister.testing.sessions import ROOM as ROOM
from cloister.testing.sessions import Log as Log
from cloister.testing.sessions import Net as Net
from cloister.testing.sessions import Node as Node
from cloister.testing.sessions import agreed as agreed
from cloister.testing.sessions import assembly as assembly
from cloister.testing.sessions import users as users


def dump(session: Session) -> dict[bytes, bytes]:
    """Everything that a session in rounds holds in memory, in its stored form."""
    assert isinstance(session, RoundsSession)
    stock, shelves = session._stock, session._shelves
    return {
        shelves[name].key(suffix): shelves[name].encode(value)
        for name, values in stock.items()
        for suffix, value in values.items()
    }


def refusal(session: Session, envelope: Envelope, now: int = NOW, *, code: str, check: str = "") -> Fault:
    """Give an envelope that must be refused with this code by this check, and change nothing (but end a run)."""
    before, view = dump(session), session.view
    effects = session.receive(envelope, now, seeded("refusal"))
    faults = [effect for effect in effects if isinstance(effect, Fault)]
    assert len(faults) == 1, effects
    (fault,) = faults
    assert (fault.code, fault.check) == (code, check), fault
    if not fault.fatal:
        assert effects == (fault,)
        assert dump(session) == before
        assert session.view == view
        return fault
    after = dump(session)
    assert after.items() <= before.items(), "a fatal fault adds nothing"
    gone = {key.partition(b"/")[0] for key in before.keys() - after.keys()}
    assert gone <= {b"run", b"mine", b"peer", b"early", b"agreed"}
    assert (session.view.epoch, session.view.roster if view.epoch else ()) == (
        view.epoch,
        view.roster if view.epoch else (),
    )
    return fault


def _is_directory(directory: FakeDirectory) -> Directory:
    """mypy proves that the fake is what the suites ask for."""
    return directory
