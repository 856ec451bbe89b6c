"""Suite `mls`: rooms on MLS (RFC 9420), the default."""
