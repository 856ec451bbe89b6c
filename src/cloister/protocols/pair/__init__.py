"""Suite `pair`: two devices and signed X25519 (document 003)."""
