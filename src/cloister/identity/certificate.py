"""X.509: requests, the chain check and revocation lists; `issuing` makes what is checked here.

Source: RFC 5280, RFC 2986; docs/spec/identity.md ("Certificates"). The only pure module that may import
`datetime`: X.509 speaks of dates, everything else of Cloister of milliseconds since the epoch.

    root (ECDSA P-256, self-signed) -> intermediate (P-256, path length 0) -> leaf

    Usage    key       keyUsage          name
    DEVICE   Ed25519   digitalSignature  the device id
    SIGN     RSA-3072  digitalSignature  the device id
    ENCRYPT  RSA-3072  keyEncipherment   the device id      (K1: no RSA key has both usages)
    RELAY    Ed25519   digitalSignature  cloister://REALM/relay

Invariants
- A leaf has an empty subject, one URI as its critical subjectAltName, clientAuth, one key usage, 90 days.
- Path, signatures, dates and constraints are checked by the library's RFC 5280 verifier; what is ours to ask
  (name, usage, kind of key, revocation) is asked here, each with a code of its own:
  bad_cert, wrong_usage, wrong_name, expired, revoked, wrong_authority.
- A request proves possession: it is signed by the key it is for. That is the one signature an RSA
  encryption key ever makes.
Left out: other authority modes, OCSP, name constraints, changing the root or the intermediate.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.keys import DeviceKeys, key_hash
from cloister.primitives.rsa import BITS, RsaDecryptKey, RsaSigningKey
from cloister.primitives.signature import SigningKey

LEAF_DAYS: Final = 90
RENEW_DAYS: Final = 60
"""Age at which a leaf is renewed."""
MAX_CERTIFICATE: Final = 2048
"""Bytes of the largest certificate or request that is read."""
MAX_CRL: Final = 2**18
DAY_MS: Final = 86_400_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
_Spoiled = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    Warning,  # deprecated forms, where warnings are errors
)


class Usage(Enum):
    """What a leaf's key is for."""

    DEVICE = "device"
    SIGN = "sign"
    ENCRYPT = "encrypt"
    RELAY = "relay"

    @property
    def is_rsa(self) -> bool:
        """Whether the key is RSA-3072; else it is Ed25519."""
        return self in (Usage.SIGN, Usage.ENCRYPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A request whose signature has been checked: who asks (a URI), for which key (DER SPKI) and use."""

    der: bytes
    subject: str
    usage: Usage
    spki: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCertificate:
    """A leaf that stood the whole check. Times are milliseconds since the epoch."""

    der: bytes
    subject: str
    usage: Usage
    spki: bytes
    serial: int
    not_before: int
    not_after: int

    @property
    def spki_hash(self) -> bytes:
        """SHA-256 of the SPKI, as in a manifest's row."""
        return key_hash(self.spki)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A CRL whose signature has been checked: its number, its time (ms) and the revoked serial numbers."""

    number: int
    issued: int
    serials: frozenset[int]


def date_of(at_ms: int) -> datetime:
    """The date, in whole seconds, of a time in ms; PeerError("bad_encoding") outside the calendar."""
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).replace(microsecond=0)
    except OverflowError as error:
        raise PeerError("bad_encoding", "a time outside the calendar") from error


def ms_of(date: datetime) -> int:
    """The time in ms of a date."""
    return (date - _EPOCH) // timedelta(milliseconds=1)


def key_usage(usage: Usage) -> x509.KeyUsage:
    """The keyUsage extension of a leaf."""
    return usage_bits(digital_signature=usage is not Usage.ENCRYPT, key_encipherment=usage is Usage.ENCRYPT)


def usage_bits(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    authority: bool = False,
) -> x509.KeyUsage:
    """A keyUsage extension; `authority` signs certificates and revocation lists."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _one_spelling(der: bytes, signature: bytes) -> None:
    """The signature ends `der` as a bit string of whole bytes: the library lets unused bits pass."""
    if not der.endswith(b"\0" + signature):
        raise PeerError("bad_cert", "a signature of a broken form")


# --- requests ---------------------------------------------------------------------------------------------


def build_request(key: SigningKey | RsaSigningKey | RsaDecryptKey, subject: str, usage: Usage) -> bytes:
    """A PKCS#10 request (DER) for `key`, signed by it, naming `subject` (a URI)."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(subject)]), critical=True)
        .add_extension(key_usage(usage), critical=True)
    )
    if isinstance(key, SigningKey):
        request = builder.sign(ed25519.Ed25519PrivateKey.from_private_bytes(key.private_bytes()), None)
    else:
        private = serialization.load_der_private_key(key.private_bytes(), None, unsafe_skip_rsa_key_validation=True)
        request = builder.sign(cast("rsa.RSAPrivateKey", private), hashes.SHA256(), rsa_padding=_PSS)
    return request.public_bytes(serialization.Encoding.DER)


DEVICE_USAGES: Final = (Usage.DEVICE, Usage.SIGN, Usage.ENCRYPT)
"""The order of a device's requests, certificates and hashes; a device without RSA has only the first."""


def build_requests(keys: DeviceKeys, device_id: str) -> tuple[bytes, ...]:
    """The requests of a device in the order of DEVICE_USAGES: one, or three with RSA."""
    requests = [build_request(keys.device, device_id, Usage.DEVICE)]
    if keys.rsa_sign is not None and keys.rsa_decrypt is not None:
        requests.append(build_request(keys.rsa_sign, device_id, Usage.SIGN))
        requests.append(build_request(keys.rsa_decrypt, device_id, Usage.ENCRYPT))
    return tuple(requests)


def read_request(der: bytes, usage: Usage) -> CertificateRequest:
    """The request for `usage` in `der` (at most 2,048 bytes), its signature checked; bad_cert or wrong_usage."""
    if len(der) > MAX_CERTIFICATE:  # CERT-01
        raise PeerError("bad_cert", "a request is too large")
    try:
        request = x509.load_der_x509_csr(der)
        _one_spelling(der, request.signature)  # CERT-02
        if not request.is_signature_valid:  # CERT-03
            raise PeerError("bad_cert", "a request is not signed by its key")
        extensions = request.extensions
        key = request.public_key()
        fits = _fits(key, extensions, usage)
        subject = _subject(extensions)
    except _Spoiled as error:
        raise PeerError("bad_cert", "not a certificate request") from error
    if len(extensions) != 2 or len(request.subject):  # CERT-04
        raise PeerError("bad_cert", "a request of an unknown form")
    if not fits:  # CERT-05
        raise PeerError("wrong_usage", "a request")
    return CertificateRequest(der=der, subject=subject, usage=usage, spki=_spki(key))


def _spki(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _subject(extensions: x509.Extensions) -> str:
    """The one URI that names the subject; PeerError("bad_cert") for none, several or another kind of name."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise PeerError("bad_cert", "no subjectAltName") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(names) != 1 or len(uris) != 1:  # CERT-06
        raise PeerError("bad_cert", "not one URI as subjectAltName")
    return uris[0]


def _fits(key: object, extensions: x509.Extensions, usage: Usage) -> bool:
    """Whether kind of key and keyUsage are those of `usage`."""
    if isinstance(key, rsa.RSAPublicKey):
        fits = usage.is_rsa and key.key_size == BITS and key.public_numbers().e == 65537
    else:
        fits = not usage.is_rsa and isinstance(key, ed25519.Ed25519PublicKey)
    try:
        return fits and extensions.get_extension_for_class(x509.KeyUsage).value == key_usage(usage)
    except x509.ExtensionNotFound:
        return False


def _is_client(extensions: x509.Extensions) -> bool:
    """Whether the extended usage is clientAuth and nothing else."""
    try:
        value = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return list(value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


# --- checking ---------------------------------------------------------------------------------------------


def _load(der: bytes) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE:  # CERT-01
        raise PeerError("bad_cert", "a certificate is too large")
    try:
        certificate = x509.load_der_x509_certificate(der)
        _one_spelling(der, certificate.signature)  # CERT-02
    except _Spoiled as error:
        raise PeerError("bad_cert", "not a certificate") from error
    return certificate


def subject_of(der: bytes) -> str:
    """The URI that a certificate bears, nothing of it checked yet; PeerError("bad_cert") when there is none."""
    try:
        return _subject(_load(der).extensions)
    except _Spoiled as error:
        raise PeerError("bad_cert", "not a certificate of ours") from error


def _load_authority(der: bytes, issuer: x509.Certificate | None) -> x509.Certificate:
    """A P-256 authority certificate that `issuer` (or itself) has signed."""
    certificate = _load(der)
    try:
        key = certificate.public_key()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer or certificate)  # CERT-12
    except x509.ExtensionNotFound as error:
        raise PeerError("bad_cert", "not the certificate of an authority") from error
    except Exception as error:  # InvalidSignature, ValueError, TypeError: it is not from there
        raise PeerError("wrong_authority") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1" or not constraints.ca:  # CERT-13
        raise PeerError("bad_cert", "not the certificate of an authority on P-256")
    return certificate


class Authorities:
    """A realm's root and intermediate, parsed and checked once, ready to check many leaves."""

    __slots__ = ("_intermediate", "_root", "_store", "intermediate", "root")

    def __init__(self, root: bytes, intermediate: bytes) -> None:
        self.root = root
        self.intermediate = intermediate
        self._root = _load_authority(root, None)
        self._intermediate = _load_authority(intermediate, self._root)
        self._store = verification.Store([self._root])

    @property
    def root_hash(self) -> bytes:
        """The root's SPKI hash, as in an invite link; 32 bytes."""
        return key_hash(_spki(self._root.public_key()))

    @property
    def realm(self) -> str:
        """The realm's name as the root bears it."""
        names = self._root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(names[0].value) if names else ""

    @property
    def chain(self) -> tuple[bytes, bytes]:
        """What follows a leaf in a chain: intermediate and root."""
        return self.intermediate, self.root

    def verify(
        self, der: bytes, at: int, expected: str, usage: Usage, revoked: Collection[int] = ()
    ) -> VerifiedCertificate:
        """The leaf, checked for time `at` (ms), name, usage, revoked serials and issuer; see the module."""
        leaf = _load(der)
        try:
            extensions = leaf.extensions
            key = leaf.public_key()
            subject = _subject(extensions)
            fits = _fits(key, extensions, usage) and _is_client(extensions)
            serial = leaf.serial_number
        except _Spoiled as error:
            raise PeerError("bad_cert", "not a certificate of ours") from error
        if not fits:  # CERT-05
            raise PeerError("wrong_usage")
        if subject != expected:  # CERT-07
            raise PeerError("wrong_name")
        self._dates(leaf, at)
        self._issued(leaf, at)  # CERT-10
        if serial in revoked:  # CERT-11
            raise PeerError("revoked", "its certificate is on the realm's revocation list")
        return VerifiedCertificate(
            der=der,
            subject=subject,
            usage=usage,
            spki=_spki(key),
            serial=serial,
            not_before=ms_of(leaf.not_valid_before_utc),
            not_after=ms_of(leaf.not_valid_after_utc),
        )

    def _dates(self, leaf: x509.Certificate, at: int) -> None:
        if at < ms_of(leaf.not_valid_before_utc):  # CERT-08
            raise PeerError("bad_cert", "a certificate is not valid yet")
        if at > min(ms_of(leaf.not_valid_after_utc), ms_of(self._intermediate.not_valid_after_utc)):  # CERT-09
            raise PeerError("expired")

    def _issued(self, leaf: x509.Certificate, at: int) -> None:
        verifier = verification.PolicyBuilder().store(self._store).time(date_of(at)).build_client_verifier()
        try:
            verifier.verify(leaf, [self._intermediate])
        except (verification.VerificationError, *_Spoiled) as error:
            raise PeerError("wrong_authority") from error

    def verify_crl(self, der: bytes) -> RevocationList:
        """The list, its issuer and signature checked; bad_cert or wrong_authority otherwise."""
        if len(der) > MAX_CRL:
            raise PeerError("bad_cert", "a revocation list is too large")
        try:
            crl = x509.load_der_x509_crl(der)
            _one_spelling(der, crl.signature)  # CERT-02
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            serials = frozenset(entry.serial_number for entry in crl)
            issued = ms_of(crl.last_update_utc)
        except (x509.ExtensionNotFound, *_Spoiled) as error:
            raise PeerError("bad_cert", "not a revocation list") from error
        key = self._intermediate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not crl.is_signature_valid(key):  # CERT-14
            raise PeerError("wrong_authority", "a revocation list")
        return RevocationList(number=number, issued=issued, serials=serials)


def verify_chain(
    chain: Sequence[bytes],
    root: bytes,
    at: int,
    expected: str,
    usage: Usage,
    *,
    revoked: Collection[int] = (),
) -> VerifiedCertificate:
    """Check a whole chain (DER): leaf, intermediate, root.

    `root` is the pinned root certificate, which the chain may leave out, or its SPKI hash of 32 bytes.
    PeerError with one of the codes of the module's docstring.
    """
    if len(chain) == 2 and len(root) != 32:
        chain = (*chain, root)
    if len(chain) != 3:  # CERT-15
        raise PeerError("bad_cert", "a chain is leaf, intermediate and root")
    authorities = Authorities(chain[2], chain[1])
    if root not in (authorities.root_hash, chain[2]):  # CERT-16
        raise PeerError("wrong_authority", "another root")
    return authorities.verify(chain[0], at, expected, usage, revoked)


def encode_chain(chain: Sequence[bytes]) -> bytes:
    """A chain as one byte string: enc(leaf, intermediate, root)."""
    return enc(*chain)


def decode_chain(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Leaf, intermediate, root; PeerError("bad_encoding") unless there are exactly these."""
    fields = Fields.decode(data, "chain")
    chain = tuple(fields.octets(name, most=MAX_CERTIFICATE) for name in ("leaf", "intermediate", "root"))
    fields.end()
    return chain[0], chain[1], chain[2]
