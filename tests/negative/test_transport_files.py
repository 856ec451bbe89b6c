"""Fixes of document 002 that are files and formats: F3.5 (key files) and F3.10 (messages, names, any number)."""

from __future__ import annotations

import pytest

from cloister.codec.cbor import decode, encode
from cloister.errors import PeerError, UsageError
from cloister.identity.vault import CEILING_N, DEFAULT_N, FLOOR_N, open_vault, rewrap, seal
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.protocols.record import CONTENT_MOST
from cloister.protocols.transport.suite import Transport
from support.keypool import rsa_decrypt_key
from support.people import seeded
from support.suite_net import agreed

LEGACY = (
    b"-----BEGIN RSA " + b"PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,0011223344556677\n\n"
    + b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\n"
    + b"-----END RSA " + b"PRIVATE KEY-----\n"
)  # fmt: skip
"""The form of the document's files (and no key)."""


def test_f35_a_key_file_of_the_documents_form_is_read_nowhere() -> None:
    with pytest.raises(PeerError) as refused:
        open_vault(LEGACY, "password")
    assert refused.value.code == "bad_vault"
    for form in (RsaSigningKey, RsaDecryptKey):
        with pytest.raises(UsageError):
            form.from_bytes(LEGACY)


@pytest.mark.parametrize("n", [FLOOR_N // 2, CEILING_N * 2])
def test_f35_scrypt_costs_neither_too_little_nor_too_much(n: int) -> None:
    with pytest.raises(UsageError):
        seal(b"key", "password", seeded(1), n=n)
    kind, version, salt, _, *rest = decode(seal(b"key", "password", seeded(1), n=FLOOR_N))
    with pytest.raises(PeerError) as refused:
        open_vault(encode([kind, version, salt, n, *rest]), "password")
    assert refused.value.code == "bad_vault"
    assert DEFAULT_N == 2**17


def test_f35_a_wrong_password_and_an_altered_file_are_one_error() -> None:
    box = seal(rsa_decrypt_key(0).private_bytes(), "password", seeded(1), n=FLOOR_N)
    said = set()
    for data, password in ((box, "passwort"), (box[:-1] + bytes([box[-1] ^ 1]), "password")):
        with pytest.raises(PeerError) as refused:
            open_vault(data, password)
        said.add((refused.value.code, str(refused.value)))
    assert len(said) == 1


def test_f35_another_password_opens_the_same_key() -> None:
    private = rsa_decrypt_key(0).private_bytes()
    box = rewrap(seal(private, "old", seeded(1), n=FLOOR_N), "old", "new", seeded(2), n=FLOOR_N)
    assert RsaDecryptKey.from_bytes(open_vault(box, "new")).spki == rsa_decrypt_key(0).spki


@pytest.mark.parametrize("size", [0, 1, 999, 1_000, 10_000, CONTENT_MOST])
def test_f310_a_message_may_have_any_length_up_to_its_bound(size: int) -> None:
    net, nodes = agreed(Transport(), 2, "lengths")
    nodes[0].say(bytes(size))
    nodes[0].say(b"and the next one")
    net.settle()
    assert [len(each.content) for each in nodes[1].delivered] == [size, 16]
    with pytest.raises(UsageError):
        nodes[0].say(bytes(CONTENT_MOST + 1))


def test_f310_the_members_are_those_of_the_roster_not_three_letters() -> None:
    net, nodes = agreed(Transport(), 5, "five")
    nodes[4].say(b"from the fifth")
    net.settle()
    assert [node.delivered[-1].content for node in nodes[:4]] == [b"from the fifth"] * 4
