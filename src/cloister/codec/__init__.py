"""Encodings: strict deterministic CBOR and the TLS presentation language. No I/O, no cryptography."""
