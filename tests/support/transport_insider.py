"""An inviter of suite `transport` that breaks the rules: any part of what it sends altered, and signed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cloister.primitives.kdf import sha256
from cloister.protocols import record as records
from cloister.protocols.context import Context
from cloister.protocols.interface import (
    NO_EPOCH,
    Add,
    Channel,
    ChannelKind,
    EntryKind,
    Envelope,
    Fault,
    Session,
    Suite,
)
from cloister.protocols.rounds.epochs import EPOCH, Epoch, scope_of
from cloister.protocols.rounds.run import NO_TH
from cloister.protocols.transport import steps
from cloister.protocols.transport.items import STANDING
from cloister.protocols.transport.items import Standing as StandingItem
from cloister.protocols.transport.session import TransportSession
from cloister.protocols.transport.steps import ACK_LIFE, Box, CommitEntry, Ending, Invite, Steps, Terms, Token
from cloister.protocols.transport.suite import Transport
from support.suite_net import MAILBOX, NOW, POLICY, ROOM, Net, Node, keys_of, seeded, users

SUITE = Transport()

Alter = Callable[[Any], Any]


def same(part: Any) -> Any:
    """Nothing is altered."""
    return part


def dump(session: Session) -> dict[bytes, bytes]:
    """Everything that a session holds in memory, in its stored form."""
    from cloister.protocols.transport.items import SHELVES

    assert isinstance(session, TransportSession)
    return {
        SHELVES[name].key(suffix): SHELVES[name].encode(value)
        for name, values in session._stock.items()
        for suffix, value in values.items()
    }


def refusal(session: Session, envelope: Envelope, now: int = NOW, *, code: str, check: str = "") -> Fault:
    """Give an envelope that must be refused with this code by this check, and change nothing."""
    before, view = dump(session), session.view
    effects = session.receive(envelope, now, seeded("refusal"))
    assert [type(effect) for effect in effects] == [Fault], effects
    (fault,) = effects
    assert isinstance(fault, Fault)
    assert (fault.code, fault.check) == (code, check), fault
    assert not fault.fatal
    assert dump(session) == before
    assert session.view == view
    return fault


def spoilt(session: Session, envelope: Envelope, *, code: str, check: str = "") -> Fault:
    """Give a commit that its maker has spoilt, provably: it is named, and the device is out of the room."""
    effects = session.receive(envelope, NOW, seeded("spoilt"))
    faults = [effect for effect in effects if isinstance(effect, Fault) and effect.code != "locked_out"]
    assert len(faults) == 1, effects
    (fault,) = faults
    assert (fault.code, fault.check, fault.fatal) == (code, check, True), fault
    assert fault.evidence
    return fault


@dataclass
class Forged:
    """I0 as the log shows it, and I1 for the victim."""

    commit: Envelope
    invite: Envelope
    token: bytes


@dataclass
class Standing:
    """A room of n in epoch 1 with inviter `a`; every test takes its victim anew from the stored items."""

    net: Net
    nodes: list[Node]
    epoch: Epoch
    item: StandingItem
    guests: tuple[str, str]

    def session(self, victim: int = 1) -> Session:
        """A member in the standing epoch."""
        node = self.nodes[victim]
        return SUITE.restore(node.me, node.items)

    def context(self, **changes: object) -> Context:
        """The context of the rekey that the inviter may make."""
        context = Context(
            suite="transport",
            variant="plain",
            room=ROOM,
            epoch=self.epoch.number + 1,
            run_id=bytes([7]) * 16,
            prev_th=self.epoch.th,
            proposer=self.nodes[0].name,
            deadline=NOW + ACK_LIFE,
            log_size=self.net.directory.size,
            roster=self.epoch.roster,
            policy=POLICY,
        )
        return replace(context, **changes)  # type: ignore[arg-type]

    def forge(
        self,
        context: Context | None = None,
        *,
        by: int = 0,
        to: int = 1,
        invitees: tuple[str, ...] = (),
        removed: tuple[str, ...] = (),
        box: Alter = same,
        box_by: int | None = None,
        ending: Alter = same,
        ending_by: int | None = None,
        entry: Alter = same,
        token: Alter = same,
        token_by: int | None = None,
        key: bytes = bytes(32),
        other_key: bytes | None = None,
        boxed: Alter = same,
        inside: Callable[[Terms, bytes], bytes] | None = None,
        parent: Epoch | None = None,
        new_room: bool = False,
    ) -> Forged:
        """What member `by` sends for member `to`, each part altered as asked and signed again.

        `other_key` is what the victim is given in the place of the key that the box is sealed with; `boxed` alters
        the context that is boxed and not the one that is signed in tok.
        """
        suite, context = Steps(), context or self.context()
        _, terms = steps.terms_of(context, self.net.directory)
        key_hash = suite.key_hash(terms.ctx, terms.inviter, key)
        keys = steps.keys_of(suite, terms, key_hash, key)
        whole = box(Box(context=boxed(context), invitees=invitees, head=None))
        sealed = steps.seal_box(keys, whole, _signer(by if box_by is None else box_by), terms.ctx, key_hash)
        made = CommitEntry(terms.run_id, key_hash, sealed)
        if not new_room:
            said = ending(Ending(inviter=context.proposer, removed=removed))
            epoch = parent or self.epoch
            signer = _signer(by if ending_by is None else ending_by)
            made = steps.seal_ending(epoch.exporter, epoch.th, made, said, signer)
        made = entry(made)
        payload = made.encode()
        recipient, given = keys_of(to), key if other_key is None else other_key
        plain = inside(terms, given) if inside else suite.inside(terms) + given
        assert recipient.rsa_decrypt is not None
        from cloister.primitives.rsa import RsaEncryptKey

        told = token(
            Token(
                terms=terms,
                to=self.nodes[to].name if to < len(self.nodes) else self.guests[0],
                ts=NOW,
                invite_id=bytes([9]) * 16,
                key_hash=key_hash if other_key is None else suite.key_hash(terms.ctx, terms.inviter, other_key),
                ciphertext=suite.encrypt(
                    RsaEncryptKey(recipient.rsa_decrypt.spki),
                    terms.ctx,
                    self.nodes[to].name if to < len(self.nodes) else self.guests[0],
                    plain,
                ),
                commit_hash=sha256(payload),
            )
        )
        invite = Invite(told).signed(_signer(by if token_by is None else token_by))
        access = keys.token(ROOM)
        commit = Envelope(
            channel=Channel(ChannelKind.ROOM, ROOM),
            kind=EntryKind.CREATE if new_room else EntryKind.COMMIT,
            payload=payload,
            entry_id=bytes([5]) * 16,
            seq=100,
            token_hash=NO_EPOCH if context.prev_th == NO_TH else self.epoch.token_hash,
            next_token_hash=sha256(access),
        )
        mail = Envelope(channel=MAILBOX, kind="invite", payload=invite.encode(), sender=terms.inviter)
        return Forged(commit, mail, access)

    def notice(self, body: bytes) -> Envelope:
        """What a member says in the room's log, in an envelope."""
        entry_id = sha256(body)[:16]
        session = self.session(0)
        assert isinstance(session, TransportSession)
        scope = scope_of(session.turn(NOW, seeded("notice")), self.epoch)
        return Envelope(
            channel=Channel(ChannelKind.ROOM, ROOM),
            kind=EntryKind.HANDSHAKE,
            payload=records.seal_envelope(scope, body, EntryKind.HANDSHAKE, entry_id),
            entry_id=entry_id,
            seq=101,
            token_hash=self.epoch.token_hash,
        )


def _signer(index: int) -> Any:
    key = keys_of(index).rsa_sign
    assert key is not None
    return key


@cache
def standing(n: int = 3, suite: Suite = SUITE) -> Standing:
    """A room of n in epoch 1; two more people of the realm: `x` with the pool's keys 3, `y` without RSA keys."""
    net = Net(seed="standing")
    nodes = [net.node(suite, user, index) for index, user in enumerate(users(n))]
    guests = (net.directory.enrol("x", 3), net.directory.enrol("y", 3, rsa=False))
    nodes[0].create(ROOM, POLICY)
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    items = nodes[0].items
    (epoch,) = [EPOCH.decode(value) for key, value in items.items() if key.startswith(b"epoch/")]
    item = STANDING.decode(items[STANDING.key(epoch.th)])
    return Standing(net, nodes, epoch, item, guests)
