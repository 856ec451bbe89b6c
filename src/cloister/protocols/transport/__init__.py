"""Suite `transport`: the inviter's key, transported (document 002, ISO/IEC 11770-3)."""
