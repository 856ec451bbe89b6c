"""No signed structure counts in another's place: a matrix over every label that the source signs under."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations

import msgspec
import pytest

from cloister.errors import PeerError
from cloister.primitives.labelled import PREFIX
from cloister.primitives.rsa import RsaVerifyKey
from cloister.protocols.interface import Channel, ChannelKind, Deliver, EpochChanged
from cloister.wire import guest, login
from support.conformance import CASES, Case, recorded, talk
from support.signatures import label_of, labels_in_source, made
from support.suite_net import NOW, keys_of, seeded

SUITES = ("nonces", "shares", "transport", "pair", "code")


def test_every_label_of_the_source_was_signed_under_and_none_besides() -> None:
    patterns = labels_in_source()
    ours = {label for label in made() if not label.startswith("MLS 1.0 ")}
    assert [pattern for pattern in patterns if not any(re.fullmatch(pattern, label) for label in ours)] == []
    assert [label for label in ours if not any(re.fullmatch(pattern, label) for pattern in patterns)] == []
    assert len(ours) > 25


def test_a_label_belongs_to_one_suite() -> None:
    for label in made():
        first = label.split()[0]
        assert first in SUITES or not any(suite in label for suite in SUITES), label


@pytest.mark.parametrize("scheme", ["ed25519", "rsa"])
def test_of_all_signed_structures_only_the_one_that_was_signed_verifies(scheme: str) -> None:
    """One key signs them all, so that nothing but what was signed can make the difference."""
    keys = keys_of(0)
    assert keys.rsa_sign is not None
    signer = keys.device if scheme == "ed25519" else keys.rsa_sign
    verifier = keys.device.public if scheme == "ed25519" else RsaVerifyKey(keys.rsa_sign.spki)
    structures = made()
    signatures = {label: signer.sign(message) for label, message in structures.items()}
    for signed, signature in signatures.items():
        for verified, message in structures.items():
            if signed == verified:
                verifier.verify(signature, message)
            else:
                with pytest.raises(PeerError) as error:
                    verifier.verify(signature, message)
                assert error.value.code == "bad_sig"


def test_the_same_content_under_another_label_is_another_string() -> None:
    for label, message in made().items():
        if message.startswith(PREFIX):
            content = message.partition(b"\0")[2]
            for other in made():
                assert (PREFIX + other.encode() + b"\0" + content == message) == (other == label)


def test_no_signature_of_a_suite_is_a_login() -> None:
    """LOGIN-01, LOGIN-04, LOGIN-08: whatever else a key has signed, it does not open a session."""
    rng, keys = seeded("login"), keys_of(0, rsa=False)
    first = login.hello("cloister://home/u/a/d/phone", rng)
    relay = keys_of(1, rsa=False).device
    second = login.challenge(first, "relay", relay, relay.public.raw, [], bytes(32), NOW, rng)
    third = login.login(first, second, keys.device, [], bytes(32), NOW)
    by_guest = guest.guest_login(first, second, keys.device, bytes(32), NOW)
    login.check_login(first, second, third, keys.device.public, bytes(32), NOW)
    guest.check_guest(first, second, by_guest, bytes(32), NOW)
    for message in made().values():
        signature = keys.device.sign(message)
        with pytest.raises(PeerError) as device:
            login.check_login(
                first, second, msgspec.structs.replace(third, signature=signature), keys.device.public, bytes(32), NOW
            )
        with pytest.raises(PeerError) as stranger:
            guest.check_guest(first, second, msgspec.structs.replace(by_guest, signature=signature), bytes(32), NOW)
        assert (device.value.code, stranger.value.code) == ("bad_sig", "bad_sig")


@pytest.mark.parametrize(
    ("case", "other"), [pytest.param(*pair, id=f"{pair[0].name}-in-{pair[1].name}") for pair in permutations(CASES, 2)]
)
def test_what_one_suite_says_counts_in_no_other(case: Case, other: Case) -> None:
    """The same devices, the same room id, the same kinds of envelopes: only the suite is another one."""
    net, nodes = case.begin(2, "said")
    given = recorded(nodes)
    net.settle()
    talk(net, nodes)
    there, others = other.agreed(2, "heard")
    views = [node.live.view for node in others]
    (log,) = there.rooms.values()
    for moment in given:
        channel = moment.envelope.channel
        if channel.kind is ChannelKind.ROOM:
            channel = Channel(channel.kind, log.id)
        elif channel.kind is ChannelKind.RUN and there.runs:
            channel = Channel(channel.kind, next(iter(there.runs)))
        moved = replace(moment.envelope, channel=channel, token_hash=log.tip, seq=len(log.entries) + 1)
        for node in others:
            effects = node.live.receive(moved, there.now, seeded("moved"))
            assert not [each for each in effects if isinstance(each, Deliver | EpochChanged)], moment.envelope.kind
    assert [node.live.view for node in others] == views
    talk(there, others, "still there")


def test_what_has_no_label_is_noticed() -> None:
    with pytest.raises(ValueError, match="without a label"):
        label_of(b"\x05hello")
