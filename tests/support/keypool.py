"""The run's RSA pairs, by the names that tests use: `cloister.testing.keys` makes and keeps them."""

from __future__ import annotations

from cloister.testing.keys import POOL as POOL
from cloister.testing.keys import rsa_decrypt_key as rsa_decrypt_key
from cloister.testing.keys import rsa_signing_key as rsa_signing_key
