"""Suite `shares`: key shares, combined by XOR (document 001)."""
