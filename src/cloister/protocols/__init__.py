"""Key agreements behind one interface; a folder for each suite, in it `suite`, `session`, `steps` and `items`.

Beside the suites stand what all of them share (`record`, `ratchet`, `policy`, `checks` and the modules here), `rounds`
(rooms whose members make each epoch's key together) and `contributions` (how `nonces` and `shares` do so).

Pure: bytes and `now` in, effects out. Suites do not know each other.
"""
