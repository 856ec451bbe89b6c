"""How `nonces` and `shares` agree on a key: commit to a contribution, give it, confirm."""
