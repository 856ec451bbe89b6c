"""Key encapsulation for HPKE: DHKEM over five groups, ML-KEM, and hybrids of both, X-Wing among them.

Source: RFC 9180 section 4.1 (DHKEM), FIPS 203 (ML-KEM), draft-connolly-cfrg-xwing-kem (X-Wing), and
draft-ietf-hpke-pq for the other hybrids and `DeriveKeyPair` of the post-quantum ones.

Invariants
- A key is parsed once; `PublicKey` and `PrivateKey` keep the parsed object.
- Public keys of the NIST curves are uncompressed points on the curve; an all-zero X25519 or X448 result is
  refused (`zero_key`).
- Everything wrong with a peer's key or encapsulation is PeerError("bad_encoding" or "zero_key"). ML-KEM
  rejects implicitly: a wrong ciphertext gives another secret, and the AEAD on top fails.
- Ephemeral DH keys come from the caller's `rng`; the library draws ML-KEM's encapsulation randomness itself.

Left out: ML-KEM-512, which the library does not offer.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.primitives.kdf import expand, extract

VERSION: Final = b"HPKE-v1"


class PublicKey:
    """A parsed public key of one KEM; `raw` is its serialised form."""

    __slots__ = ("key", "raw")

    def __init__(self, raw: bytes, key: Any) -> None:
        self.raw = raw
        self.key = key


class PrivateKey:
    """A parsed private key of one KEM; `raw` is secret, `public` is the serialised public key."""

    __slots__ = ("key", "public", "raw")

    def __init__(self, raw: bytes, key: Any, public: bytes) -> None:
        self.raw = raw
        self.key = key
        self.public = public

    def __repr__(self) -> str:
        return "<PrivateKey>"


class Kem(Protocol):
    """What HPKE needs of a key encapsulation mechanism. Sizes are in bytes."""

    @property
    def kem_id(self) -> int:
        """The code point."""
        ...

    @property
    def private_size(self) -> int:
        """Bytes of a private key, and of the input to `derive_key_pair`."""
        ...

    @property
    def secret_size(self) -> int:
        """Bytes of a shared secret."""
        ...

    def private_key(self, raw: bytes) -> PrivateKey:
        """Parse one of our own private keys; UsageError for a malformed one."""
        ...

    def public_key(self, raw: bytes) -> PublicKey:
        """Parse a peer's public key; PeerError("bad_encoding") for a malformed one."""
        ...

    def derive_key_pair(self, ikm: bytes) -> PrivateKey:
        """The key pair that follows from `ikm` (at least `private_size` unpredictable bytes)."""
        ...

    def encap(self, public: PublicKey, rng: Rng) -> tuple[bytes, bytes]:
        """A fresh (shared secret, encapsulation)."""
        ...

    def decap(self, private: PrivateKey, enc: bytes) -> bytes:
        """The shared secret that `enc` carries."""
        ...


def labeled_derive(suite_id: bytes, ikm: bytes, label: bytes, context: bytes, size: int, shake: str) -> bytes:
    """LabeledDerive of a single-stage KDF (draft-ietf-hpke-hpke section 4): `size` bytes."""
    message = b"".join(
        (
            ikm,
            VERSION,
            suite_id,
            len(label).to_bytes(2, "big"),
            label,
            size.to_bytes(2, "big"),
            context,
        )
    )
    xof = hashlib.shake_128(message) if shake == "shake128" else hashlib.shake_256(message)
    return xof.digest(size)


class _Montgomery:
    """X25519 and X448: raw bytes in, raw bytes out."""

    order = None

    def __init__(self, private: type[Any], public: type[Any], size: int) -> None:
        self._private = private
        self._public = public
        self.size = size

    def load_private(self, raw: bytes) -> Any:
        return self._private.from_private_bytes(raw)

    def load_public(self, raw: bytes) -> Any:
        return self._public.from_public_bytes(raw)

    @staticmethod
    def dump_public(private: Any) -> bytes:
        raw: bytes = private.public_key().public_bytes_raw()
        return raw

    @staticmethod
    def exchange(private: Any, public: Any) -> bytes:
        try:
            shared: bytes = private.exchange(public)
        except ValueError as error:  # the library refuses the zero result itself
            raise PeerError("zero_key") from error
        return shared


class _Weierstrass:
    """P-256, P-384 and P-521: uncompressed points, scalars of the field's size."""

    def __init__(self, curve: ec.EllipticCurve, order: int, size: int) -> None:
        self._curve = curve
        self.order = order
        self.size = size

    def load_private(self, raw: bytes) -> Any:
        return ec.derive_private_key(int.from_bytes(raw, "big"), self._curve)

    def load_public(self, raw: bytes) -> Any:
        if raw[:1] != b"\x04":
            raise ValueError("only uncompressed points")
        return ec.EllipticCurvePublicKey.from_encoded_point(self._curve, raw)

    @staticmethod
    def dump_public(private: Any) -> bytes:
        raw: bytes = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return raw

    @staticmethod
    def exchange(private: Any, public: Any) -> bytes:
        shared: bytes = private.exchange(ec.ECDH(), public)
        return shared


@dataclass(frozen=True, slots=True)
class DhKem:
    """DHKEM(group, HKDF) of RFC 9180 section 4.1."""

    kem_id: int
    hash_name: str
    secret_size: int
    private_size: int
    group: _Montgomery | _Weierstrass
    suite_id: bytes

    def private_key(self, raw: bytes) -> PrivateKey:
        """From the serialised private key."""
        try:
            key = self.group.load_private(raw)
        except ValueError as error:
            raise UsageError("usage", "not a private key of this KEM") from error
        return PrivateKey(raw, key, self.group.dump_public(key))

    def public_key(self, raw: bytes) -> PublicKey:
        """From the serialised public key; a NIST point is checked to be on its curve."""
        try:
            return PublicKey(raw, self.group.load_public(raw))
        except ValueError as error:
            raise PeerError("bad_encoding", "not a public key of this KEM") from error

    def derive_key_pair(self, ikm: bytes) -> PrivateKey:
        """Section 7.1.3: by expansion, on NIST curves by rejection sampling."""
        prk = self._extract(b"", b"dkp_prk", ikm)
        size = self.private_size
        if self.group.order is None:
            return self.private_key(self._expand(prk, b"sk", b"", size))
        mask = 0x01 if size == 66 else 0xFF
        for counter in range(256):
            candidate = bytearray(self._expand(prk, b"candidate", bytes((counter,)), size))
            candidate[0] &= mask
            if 0 < int.from_bytes(candidate, "big") < self.group.order:
                return self.private_key(bytes(candidate))
        raise UsageError("usage", "no key pair follows from this input")

    def encap(self, public: PublicKey, rng: Rng) -> tuple[bytes, bytes]:
        """A fresh (shared secret, ephemeral public key)."""
        ephemeral = self.derive_key_pair(rng(self.private_size))
        shared = self.group.exchange(ephemeral.key, public.key)
        enc = ephemeral.public
        return self._secret(shared, enc + public.raw), enc

    def decap(self, private: PrivateKey, enc: bytes) -> bytes:
        """The shared secret."""
        shared = self.group.exchange(private.key, self.public_key(enc).key)
        return self._secret(shared, enc + private.public)

    def auth_encap(self, public: PublicKey, sender: PrivateKey, rng: Rng) -> tuple[bytes, bytes]:
        """As `encap`, and bound to the sender's key (mode_auth)."""
        ephemeral = self.derive_key_pair(rng(self.private_size))
        shared = self.group.exchange(ephemeral.key, public.key) + self.group.exchange(sender.key, public.key)
        enc = ephemeral.public
        return self._secret(shared, enc + public.raw + sender.public), enc

    def auth_decap(self, private: PrivateKey, enc: bytes, sender: PublicKey) -> bytes:
        """As `decap`, and bound to the sender's key."""
        ephemeral = self.public_key(enc)
        shared = self.group.exchange(private.key, ephemeral.key) + self.group.exchange(private.key, sender.key)
        return self._secret(shared, enc + private.public + sender.raw)

    def _extract(self, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return extract(salt, VERSION + self.suite_id + label + ikm, self.hash_name)

    def _expand(self, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + VERSION + self.suite_id + label + info
        return expand(prk, labeled, length, self.hash_name)

    def _secret(self, shared: bytes, context: bytes) -> bytes:
        prk = self._extract(b"", b"eae_prk", shared)
        return self._expand(prk, b"shared_secret", context, self.secret_size)


_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384_ORDER: Final = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
)
_P521_ORDER: Final = int(
    "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
    "FA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
    16,
)


def _dh(kem_id: int, hash_name: str, secret_size: int, group: _Montgomery | _Weierstrass) -> DhKem:
    return DhKem(kem_id, hash_name, secret_size, group.size, group, b"KEM" + kem_id.to_bytes(2, "big"))


P256: Final = _dh(0x0010, "sha256", 32, _Weierstrass(ec.SECP256R1(), _P256_ORDER, 32))
P384: Final = _dh(0x0011, "sha384", 48, _Weierstrass(ec.SECP384R1(), _P384_ORDER, 48))
P521: Final = _dh(0x0012, "sha512", 64, _Weierstrass(ec.SECP521R1(), _P521_ORDER, 66))
X25519: Final = _dh(0x0020, "sha256", 32, _Montgomery(X25519PrivateKey, X25519PublicKey, 32))
X448: Final = _dh(0x0021, "sha512", 64, _Montgomery(X448PrivateKey, X448PublicKey, 56))


@dataclass(frozen=True, slots=True)
class MlKem:
    """ML-KEM-768 or ML-KEM-1024; the private key is the 64-byte seed d || z."""

    kem_id: int
    private_type: Any
    public_type: Any
    private_size: int = 64
    secret_size: int = 32

    def private_key(self, raw: bytes) -> PrivateKey:
        """From the seed."""
        try:
            key = self.private_type.from_seed_bytes(raw)
        except ValueError as error:
            raise UsageError("usage", "not a private key of this KEM") from error
        return PrivateKey(raw, key, key.public_key().public_bytes_raw())

    def public_key(self, raw: bytes) -> PublicKey:
        """From the encapsulation key; its modulus check is the library's."""
        try:
            return PublicKey(raw, self.public_type.from_public_bytes(raw))
        except ValueError as error:
            raise PeerError("bad_encoding", "not a public key of this KEM") from error

    def derive_key_pair(self, ikm: bytes) -> PrivateKey:
        """draft-ietf-hpke-pq section 3."""
        suite_id = b"KEM" + self.kem_id.to_bytes(2, "big")
        return self.private_key(labeled_derive(suite_id, ikm, b"DeriveKeyPair", b"", 64, "shake256"))

    def encap(self, public: PublicKey, rng: Rng) -> tuple[bytes, bytes]:
        """A fresh (shared secret, ciphertext); the library draws the randomness."""
        shared, ciphertext = public.key.encapsulate()
        return shared, ciphertext

    def decap(self, private: PrivateKey, enc: bytes) -> bytes:
        """The shared secret; an implicit rejection gives a secret that nobody else has."""
        try:
            shared: bytes = private.key.decapsulate(enc)
        except ValueError as error:
            raise PeerError("bad_encoding", "not an encapsulation of this KEM") from error
        return shared


ML_KEM_768: Final = MlKem(0x0041, mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey)
ML_KEM_1024: Final = MlKem(0x0042, mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey)


@dataclass(frozen=True, slots=True)
class Hybrid:
    """ML-KEM beside a DH group, secure while either is; the private key is a 32-byte seed.

    `seed_size` bytes of the expanded seed are for the group: candidates for its scalar, one after another.
    """

    kem_id: int
    lattice: MlKem
    curve: DhKem
    seed_size: int
    public_sizes: tuple[int, int]
    enc_sizes: tuple[int, int]
    label: bytes
    private_size: int = 32
    secret_size: int = 32

    def private_key(self, raw: bytes) -> PrivateKey:
        """From the seed."""
        if len(raw) != self.private_size:
            raise UsageError("usage", "not a private key of this KEM")
        expanded = hashlib.shake_256(raw).digest(64 + self.seed_size)
        lattice = self.lattice.private_key(expanded[:64])
        curve = self.curve.private_key(self._scalar(expanded[64:]))
        return PrivateKey(raw, (lattice, curve), lattice.public + curve.public)

    def _scalar(self, seed: bytes) -> bytes:
        size, order = self.curve.private_size, self.curve.group.order
        candidates = [seed[at : at + size] for at in range(0, len(seed), size)]
        found = next((each for each in candidates if order is None or 0 < int.from_bytes(each, "big") < order), None)
        if found is None:
            raise UsageError("usage", "no key pair follows from this seed")
        return found

    def public_key(self, raw: bytes) -> PublicKey:
        """From both public keys, ML-KEM's first."""
        if len(raw) != sum(self.public_sizes):
            raise PeerError("bad_encoding", "not a public key of this KEM")
        at = self.public_sizes[0]
        return PublicKey(raw, (self.lattice.public_key(raw[:at]), self.curve.public_key(raw[at:])))

    def derive_key_pair(self, ikm: bytes) -> PrivateKey:
        """draft-ietf-hpke-pq section 4."""
        suite_id = b"KEM" + self.kem_id.to_bytes(2, "big")
        return self.private_key(labeled_derive(suite_id, ikm, b"DeriveKeyPair", b"", 32, "shake256"))

    def encap(self, public: PublicKey, rng: Rng) -> tuple[bytes, bytes]:
        """A fresh (shared secret, both encapsulations)."""
        lattice, curve = public.key
        lattice_secret, ciphertext = self.lattice.encap(lattice, rng)
        ephemeral = self.curve.derive_key_pair(rng(self.curve.private_size))
        curve_secret = self.curve.group.exchange(ephemeral.key, curve.key)
        shared = self._combine(lattice_secret, curve_secret, ephemeral.public, curve.raw)
        return shared, ciphertext + ephemeral.public

    def decap(self, private: PrivateKey, enc: bytes) -> bytes:
        """The shared secret."""
        if len(enc) != sum(self.enc_sizes):
            raise PeerError("bad_encoding", "not an encapsulation of this KEM")
        lattice, curve = private.key
        at = self.enc_sizes[0]
        lattice_secret = self.lattice.decap(lattice, enc[:at])
        ephemeral = self.curve.public_key(enc[at:])
        curve_secret = self.curve.group.exchange(curve.key, ephemeral.key)
        return self._combine(lattice_secret, curve_secret, ephemeral.raw, curve.public)

    def _combine(self, lattice: bytes, curve: bytes, ephemeral: bytes, public: bytes) -> bytes:
        return hashlib.sha3_256(lattice + curve + ephemeral + public + self.label).digest()


X_WING: Final = Hybrid(0x647A, ML_KEM_768, X25519, 32, (1184, 32), (1088, 32), bytes.fromhex("5c2e2f2f5e5c"))
"""ML-KEM-768 and X25519."""
MLKEM768_P256: Final = Hybrid(0x0050, ML_KEM_768, P256, 128, (1184, 65), (1088, 65), b"MLKEM768-P256")
MLKEM1024_P384: Final = Hybrid(0x0051, ML_KEM_1024, P384, 48, (1568, 97), (1568, 97), b"MLKEM1024-P384")


def same_key(private: PrivateKey, public: bytes) -> bool:
    """Whether `public` is the serialised public half of `private`."""
    return hmac.compare_digest(private.public, public)
