"""Suite `nonces`: nonces and answers (document 000)."""
