"""Suite `shares`: what document 001 got wrong and no attack on a run shows; and the check that is its own."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cloister.errors import PeerError
from cloister.identity import vault
from cloister.primitives.rsa import RsaVerifyKey
from cloister.protocols.contributions.steps import Confirm, Hello, check_signed, encode
from cloister.protocols.interface import Fault, State
from cloister.protocols.nonces.steps import FORM as NONCES
from cloister.protocols.shares.suite import FORM, Shares, Steps, check_not_cancelled, xor
from cloister.testing.keys import keys_of, seeded
from cloister.testing.sessions import agreed, assembly
from support.need import REPOSITORY

ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


# --- F2.3: SHA-01 -------------------------------------------------------------------------------------------


def test_shares_that_cancel_out_are_refused() -> None:  # SHA-01
    for shares in ((ONE, ONE), (ONE, OTHER, xor((ONE, OTHER))), (bytes(32), bytes(32))):
        with pytest.raises(PeerError) as error:
            Steps().combine(bytes(32), shares)
        assert (error.value.code, error.value.check) == ("zero_key", "SHA-01")
    check_not_cancelled(ONE)


class _Cancels(Steps):
    """A member whose dice are loaded: its share is what makes the XOR zero."""

    def combine(self, th: bytes, contributions: tuple[bytes, ...]) -> bytes:
        return super().combine(th, (contributions[0], contributions[0]))


def test_a_run_whose_shares_cancel_out_ends_and_names_nobody() -> None:  # SHA-01
    net, nodes = assembly(Shares(), 2, "cancel")
    nodes[0].live._agreement = Shares(_Cancels()).agreement  # type: ignore[attr-defined]
    net.settle()
    (fault,) = nodes[0].faults
    assert isinstance(fault, Fault)
    assert (fault.code, fault.check, fault.peer, fault.fatal) == ("zero_key", "SHA-01", None, True)
    assert nodes[0].live.view.state is State.PENDING
    assert not [key for key in nodes[0].items if key.startswith((b"mine/", b"peer/", b"agreed/"))]


def test_the_key_is_that_of_the_xor_in_its_context() -> None:
    made = Steps().combine(bytes(32), (ONE, OTHER))
    assert made == Steps().combine(bytes(32), (OTHER, ONE)), "XOR knows no order"
    assert made != Steps().combine(ONE, (ONE, OTHER))
    assert made != xor((ONE, OTHER))


def test_who_commits_stands_in_the_commitment() -> None:
    commitments = {Steps().commitment(bytes(32), i, ONE, OTHER) for i in range(3)}
    assert len(commitments) == 3


# --- F2.5: certs.pkl ----------------------------------------------------------------------------------------


def test_f25_nothing_of_the_product_unpickles() -> None:
    loader = re.compile(r"^\s*(?:import|from)\s+(?:pickle|marshal|shelve|dill|jsonpickle)\b", re.MULTILINE)
    assert loader.search("import os\n    from pickle import loads\n")
    assert [path for path in (REPOSITORY / "src").rglob("*.py") if loader.search(path.read_text())] == []


def test_f25_private_keys_lie_in_a_vault_of_their_owner() -> None:
    secret = keys_of(0).device.private_bytes()
    sealed = vault.seal(secret, "hers", seeded("vault"), n=vault.FLOOR_N)
    assert secret not in sealed
    assert vault.open_vault(sealed, "hers") == secret
    with pytest.raises(PeerError) as error:
        vault.open_vault(sealed, "his")
    assert error.value.code == "wrong_password"


# --- F2.6: Final session key Kabc = ... ---------------------------------------------------------------------


class _Watched(Steps):
    """Keeps what the key was."""

    key = b""

    def combine(self, th: bytes, contributions: tuple[bytes, ...]) -> bytes:
        self.key = super().combine(th, contributions)
        return self.key


def test_f26_what_is_shown_of_the_key_is_the_same_for_all_and_is_not_the_key() -> None:
    steps = _Watched()
    _, nodes = agreed(Shares(steps), 3, "shown")
    (shown,) = {node.live.view.key_check for node in nodes}
    assert len(steps.key) == 32
    assert len(shown.replace("-", "")) == 10
    assert shown.replace("-", "") not in steps.key.hex()
    for node in nodes:
        text = repr(node.live.view) + repr(node.effects) + repr(node.delivered)
        assert steps.key.hex() not in text
        assert repr(steps.key)[2:-1] not in text


# --- forms --------------------------------------------------------------------------------------------------


def test_a_confirm_with_answers_is_not_of_this_suite() -> None:
    plain = Confirm(sender=0, mac=bytes(32), signature=b"s")
    assert FORM.decode(encode(plain)) == plain
    with pytest.raises(PeerError) as error:
        FORM.decode(encode(replace(plain, answers=b"answers")))
    assert error.value.code == "bad_encoding"


def test_labels_name_the_suite() -> None:
    key = keys_of(0).rsa_sign
    assert key is not None
    hello = Hello(sender=0, commitment=bytes(32), ephemeral=bytes(32))
    signed = FORM.sign(key, bytes(32), hello)
    check_signed(FORM, RsaVerifyKey(key.spki), bytes(32), replace(hello, signature=signed))
    with pytest.raises(PeerError) as error:
        check_signed(NONCES, RsaVerifyKey(key.spki), bytes(32), replace(hello, signature=signed))
    assert error.value.code == "bad_sig"
