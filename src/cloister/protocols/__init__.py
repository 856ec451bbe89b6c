"""Key agreements behind one interface: `interface` is the contract, one file per suite, `record` and `run` shared.

Pure: bytes and `now` in, effects out. Suites do not know each other.
"""
