"""Public test tools: for Cloister's own simulation, and for authors of bots who want to test without a network.

- `clock`            an asyncio loop whose time jumps and whose order comes from a seed
- `network`          connections in memory that delay, break, repeat, reorder and partition
- `relay`            the real relay's rules over a memory store, with commits that take time and crashes
- `store`            a client store whose uncommitted work a crash drops
- `history_checker`  judges what was sent, acknowledged and shown
- `evil_relay`       a relay that drops, repeats, reorders or forks one entry
- `sessions`         sessions of any suite over a relay in memory, without a network or a client (`directory`, `keys`)
"""
