"""Tests of suite `mls`: the net of `cloister.testing.mls_sessions`, and what only a test asks of a session."""

from __future__ import annotations

from cloister.protocols.interface import Envelope, Fault
from cloister.protocols.mls.session import MlsSession
from cloister.testing.mls_sessions import AUTHORITY as AUTHORITY
from cloister.testing.mls_sessions import MLS as MLS
from cloister.testing.mls_sessions import CertifiedDirectory as CertifiedDirectory
from cloister.testing.mls_sessions import MlsNet as MlsNet
from cloister.testing.mls_sessions import MlsNode as MlsNode
from cloister.testing.mls_sessions import certified as certified
from cloister.testing.mls_sessions import mls_room as mls_room
from support.suite_net import seeded


def dump_mls(session: MlsSession) -> dict[bytes, bytes]:
    """Everything that the session holds in memory, in its stored form."""
    group = session._group
    items = dict(session._stored)
    if group is not None:
        state = group._state
        items |= {b"g/g": state._overview() or b"", b"g/e": state.live.epoch.encode_state()}
        items |= {b"g/p" + each.reference: b"" for each in group.pending}
        for ratchet, value in state.live.secrets.ratchets.items():
            items[b"g/r" + repr(ratchet).encode()] = repr(value).encode()
    return items


def refusal_mls(node: MlsNode, envelope: Envelope, *, code: str, check: str = "") -> Fault:
    """Give an envelope that must be refused with this code by this check, and change nothing."""
    before, view = dump_mls(node.mls), node.live.view
    effects = node.live.receive(envelope, node.net.now, seeded("refusal"))
    assert len(effects) == 1, effects
    (fault,) = effects
    assert isinstance(fault, Fault), fault
    assert (fault.code, fault.check) == (code, check), fault
    assert dump_mls(node.mls) == before
    assert node.live.view == view
    return fault
