"""Transcript hashes: a running hash over all commits of a group (RFC 9420 section 8.2).

`confirmed` covers the history up to the last commit's signature, `interim` also its confirmation tag.
"""

from __future__ import annotations

from cloister.codec.tls import opaque
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.framing import AuthenticatedContent


def confirmed_hash(suite: CipherSuite, interim_before: bytes, commit: AuthenticatedContent) -> bytes:
    """The confirmed transcript hash of the epoch that `commit` starts."""
    head = commit.wire_format.to_bytes(2, "big")
    return suite.hash(interim_before + head + commit.content.encoded + opaque(commit.signature))


def interim_hash(suite: CipherSuite, confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """The interim transcript hash that belongs to a confirmed one."""
    return suite.hash(confirmed + opaque(confirmation_tag))
