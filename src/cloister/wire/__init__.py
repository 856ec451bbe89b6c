"""The client-relay protocol: frames, limits, login, and the hashes of a log. Pure; both sides import it."""
