"""The vault: opens with its password, and with nothing else. Costs are at scrypt's floor."""

from __future__ import annotations

from cloister.codec.cbor import decode, enc
from cloister.identity.vault import DEFAULT_N, FLOOR_N, open_vault, rewrap, seal
from cloister.primitives.aead import Aead
from cloister.primitives.kdf import scrypt
from support.people import seeded

BOX = seal(b"the keys", "pa\u0308sswort", seeded(1), n=FLOOR_N)


def test_a_vault_opens_with_its_password() -> None:
    assert open_vault(BOX, "pa\u0308sswort") == b"the keys"


def test_the_same_password_typed_in_another_unicode_form_opens() -> None:
    assert open_vault(BOX, "p\u00e4sswort") == b"the keys"


def test_a_vault_has_its_documented_form() -> None:
    kind, version, salt, n, r, p, nonce, ct = decode(BOX)
    assert (kind, version, n, r, p) == ("vault", 1, 2**15, 8, 1)
    assert (len(salt), len(nonce), len(ct)) == (16, 12, len(b"the keys") + 16)
    key = scrypt("p\u00e4sswort".encode(), salt, n, r, p)
    aad = enc("vault", 1, salt, n, r, p, nonce)
    assert Aead.aes_gcm(key).open(nonce, ct, aad) == b"the keys"
    assert DEFAULT_N == 2**17


def test_rewrapping_changes_password_salt_and_nonce() -> None:
    rng = seeded(2)
    again = rewrap(BOX, "p\u00e4sswort", "new", rng, n=FLOOR_N)
    assert open_vault(again, "new") == b"the keys"
    assert set(decode(again)[2:7:4]).isdisjoint(decode(BOX)[2:7:4])
    assert again != rewrap(BOX, "p\u00e4sswort", "new", rng, n=FLOOR_N)
