"""What it costs to agree on a key, suite by suite, beside mls: make bench-suites, `python -m benchmarks.suites`.

    python -m benchmarks.suites [--json FILE] [--rounds 5]

A row is {suite, members, room, run, mail, rendezvous, bytes, cpu_ms, cpu_ms_each}: log entries, mailbox items and
messages through the rendezvous as the protocols page counts them, the bytes of all payloads, and CPU milliseconds of
all members together and of each: the median of several rounds in one process. Making RSA keys, certificates and key
packages is no part of it; the relay, its log's hashes and the mailbox's own seal are not either.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.suites.traffic import FORMULAS, agree, ask, expected, members, traffic

MEMBERS = {
    "nonces": (2, 3, 8, 16, 32),
    "shares": (2, 3, 8, 16, 32),
    "transport": (2, 3, 8, 16, 32, 64),
    "pair": (2,),
    "code": (2,),
    "mls": (2, 3, 8, 16, 32, 64),
}
COLUMNS = ("suite", "members", "room", "run", "mail", "rendezvous", "bytes", "cpu_ms", "cpu_ms_each")


def measured(suite: str, n: int, rounds: int) -> dict[str, Any]:
    """One row."""
    times = []
    for _ in range(rounds):
        net, nodes = members(suite, n)
        started = time.process_time()
        ask(suite, net, nodes)
        agree(net, nodes)
        times.append(1000 * (time.process_time() - started))
        found = traffic(net, nodes)
        if found.numbers != expected(suite, n):
            raise RuntimeError(f"{suite}, {n} members: {found.numbers}, not as the page counts")
    cpu = statistics.median(times)
    values = (suite, n, *found.numbers, found.size, round(cpu, 2), round(cpu / n, 2))
    return dict(zip(COLUMNS, values, strict=True))


def main(arguments: Sequence[str]) -> int:
    """Print a table, and write it where it is wanted."""
    parser = argparse.ArgumentParser(prog="make bench-suites", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    sys.stdout.write("".join(f"{column:>12}" for column in COLUMNS) + "\n")
    rows = []
    for suite in FORMULAS:
        members(suite, min(4, MEMBERS[suite][-1]))  # the keys are made
        for n in MEMBERS[suite]:
            rows.append(measured(suite, n, options.rounds if n < 16 else 1))
            sys.stdout.write("".join(f"{value:>12}" for value in rows[-1].values()) + "\n")
            sys.stdout.flush()
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
