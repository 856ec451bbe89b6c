"""Whatever bytes come: a decoder gives a value that encodes to them again, or PeerError, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister.errors import REGISTRY, PeerError
from cloister.identity.authority import Authority
from cloister.identity.certificate import Usage, decode_chain, encode_chain, read_request
from cloister.identity.enrolment import Application, check_register
from cloister.identity.invite import Invite, Token, parse_invite
from cloister.identity.keys import DeviceKeys, UserKeys
from cloister.identity.mailbox import MailboxItem, MailboxKey, open_item, seal_item
from cloister.identity.manifest import Manifest
from cloister.identity.realm import RealmState
from cloister.identity.records import NewCertificates, NewCrl, NewManifest, decode_record
from cloister.identity.vault import FLOOR_N, seal
from cloister.identity.vault import _read as read_vault
from support.people import NOW, Realm, seeded

REALM = Realm(seed="hostile")
TOKEN = Token.generate(REALM.rng)
ALICE, BOB = REALM.enrol("alice", token=TOKEN), REALM.enrol("bob")
TRUST = REALM.authority.authorities
LEAF = REALM.device(ALICE).certificates[0]
SUCCESSOR = ALICE.manifest.successor(ALICE.keys, [ALICE.row], NOW)
ITEM = MailboxItem(sender=ALICE.id, recipient=BOB.id, kind="k", room=None, body=b"b")
LINK = Invite(host="h", port=1, realm="r", relay_hash=bytes(32), root_hash=bytes(32), token=TOKEN)
NEWCOMER = REALM.person("carol")


@dataclass(frozen=True)
class Decoder:
    """A name, a good input, what reads it, and what makes the bytes of what was read (None: nothing does)."""

    name: str
    good: bytes
    read: Callable[[bytes], object]
    again: Callable[[object], bytes] | None = None


def fold(data: bytes) -> RealmState:
    return REALM.state.apply(data, NOW + 1000)


def opened(data: bytes) -> object:
    return open_item(data, BOB.id, [BOB.device.mailbox], lambda who: REALM.state.device(who).key)


def encoded(value: object) -> bytes:
    return value.encode()  # type: ignore[attr-defined, no-any-return]


DECODERS = [
    Decoder("record", REALM.records[1][0], decode_record, encoded),
    Decoder("enrol", NEWCOMER.application.record(REALM.certify(NEWCOMER)).encode(), fold),
    Decoder("new manifest", NewManifest(manifest=SUCCESSOR.encoded).encode(), fold),
    Decoder("certificates", NewCertificates(device_id=ALICE.id, leaves=(LEAF,)).encode(), fold),
    Decoder("crl", NewCrl(crl=REALM.authority.crl(NOW)).encode(), fold),
    Decoder("genesis", REALM.records[0][0], lambda data: RealmState.begin(data, NOW)),
    Decoder("manifest", SUCCESSOR.encoded, lambda data: Manifest.decode(data, REALM.name)),
    Decoder("leaf", LEAF, lambda data: TRUST.verify(data, NOW, ALICE.id, Usage.DEVICE)),
    Decoder("request", ALICE.application.requests[0], lambda data: read_request(data, Usage.DEVICE)),
    Decoder("chain", encode_chain((LEAF, *TRUST.chain)), decode_chain, lambda value: encode_chain(value)),  # type: ignore[arg-type]
    Decoder(
        "register",
        NEWCOMER.application.register(NEWCOMER.keys, bytes(32), bytes(32), NOW),
        lambda data: check_register(data, REALM.name, bytes(32), bytes(32), NOW),
    ),
    Decoder("application", ALICE.application.encode(), lambda data: Application.decode(data, REALM.name), encoded),
    Decoder("authority", REALM.authority.encode(), Authority.decode, encoded),
    Decoder("user keys", ALICE.keys.encode(), UserKeys.decode, encoded),
    Decoder("device keys", ALICE.device.encode(), DeviceKeys.decode, encoded),
    Decoder("mailbox key", ALICE.application.mailbox.encode(), MailboxKey.decode, encoded),
    Decoder("item", seal_item(ITEM, BOB.device.mailbox.public, ALICE.device.device, REALM.rng), opened),
    Decoder("invite", str(LINK).encode(), lambda data: parse_invite(data.decode("latin-1")), None),
    Decoder("vault", seal(b"x", "p", seeded(1), n=FLOOR_N), read_vault),
]


def judge(decoder: Decoder, data: bytes) -> None:
    try:
        value = decoder.read(data)
    except PeerError as error:
        assert error.code in REGISTRY  # noqa: PT017 - both ends are allowed
    else:
        if decoder.again is not None:
            assert decoder.again(value) == data


BY_NAME = {decoder.name: decoder for decoder in DECODERS}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", BY_NAME)
def test_control_the_good_input_is_read(name: str) -> None:
    decoder = BY_NAME[name]
    if name == "certificates":  # the very leaf that stands: form and keys are good, it ends no later
        with pytest.raises(PeerError) as caught:
            decoder.read(decoder.good)
        assert caught.value.code == "replay"
    else:
        value = decoder.read(decoder.good)
        assert decoder.again is None or decoder.again(value) == decoder.good


@pytest.mark.parametrize("name", BY_NAME)
@QUICK
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_cleanly(name: str, data: bytes) -> None:
    judge(BY_NAME[name], data)


@pytest.mark.parametrize("name", BY_NAME)
@QUICK
@given(draw=st.data())
def test_altered_bytes_are_refused_cleanly(name: str, draw: st.DataObject) -> None:
    good = BY_NAME[name].good
    at = draw.draw(st.integers(0, len(good) - 1))
    end = draw.draw(st.integers(at, min(len(good), at + 8)))
    judge(BY_NAME[name], good[:at] + draw.draw(st.binary(max_size=8)) + good[end:])
