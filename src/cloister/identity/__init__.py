"""Who is who in a realm: keys, certificates, manifests, the realm's log, invites, vault. No I/O.

Bytes in, bytes out: files, modes and clocks belong to `client` and `relay`. Normative: docs/spec/identity.md.
"""
