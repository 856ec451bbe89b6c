"""Suite `code`: a session code and Diffie-Hellman (document 004)."""
