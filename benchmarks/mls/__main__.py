"""MLS beside its peers: cloister, mls-rs and ts-mls interleaved in one run; suite 1, N = 10, 100, 1000.

    python -m benchmarks.mls [--json FILE] [--svg FILE] [--members 10,100,1000] [--without-node]

Rows are {system, operation, members, value}: milliseconds for `create` (the group and one commit that adds N-1),
`join` (the last member, by the Welcome with its tree), `update_create` and `update_process` (an empty commit on the
tree as the Adds left it; `warm_...`: on a tree in which all have committed), messages a second for `protect_per_s` and
`unprotect_per_s` (100 bytes). The median of several rounds; systems take turns within each round. README.md
beside this file says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.mls.peers import MlsRs, Ours, TsMls, TsMlsHost, ts_mls_folder
from benchmarks.mls.warm import warm_group

Row = dict[str, Any]
MESSAGES = 200
RUNS = {10: 15, 100: 7}
SYSTEMS = ("cloister", "mls-rs", "ts-mls")


def milliseconds(peer: Any, run: Callable[[], Any]) -> tuple[float, Any]:
    """The time of one operation; ts-mls measures itself, so that its pipe does not count."""
    start = time.perf_counter()
    result = run()
    elapsed = (time.perf_counter() - start) * 1000
    return (peer.milliseconds if isinstance(peer, TsMls) else elapsed), result


class Table:
    """All measurements of a run."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, int], list[float]] = defaultdict(list)

    def add(self, system: str, operation: str, members: int, value: float) -> None:
        self.values[system, operation, members].append(value)

    def rows(self) -> list[Row]:
        return [
            {"system": system, "operation": operation, "members": members, "value": statistics.median(values)}
            for (system, operation, members), values in self.values.items()
        ]

    def show(self) -> None:
        found = {(row["system"], row["operation"], row["members"]): row["value"] for row in self.rows()}
        print(f"{'operation':24}{'N':>7}" + "".join(f"{each:>12}" for each in SYSTEMS) + "   cloister / mls-rs")
        for operation, members in dict.fromkeys((key[1], key[2]) for key in found):
            values = [found.get((system, operation, members)) for system in SYSTEMS]
            cells = "".join(f"{value:12.2f}" if value is not None else f"{'-':>12}" for value in values)
            ratio = f"{values[0] / values[1]:.2f}" if values[0] and values[1] else "-"
            print(f"{operation:24}{members:7}{cells}   {ratio}")


def makers(host: TsMlsHost | None) -> dict[str, Callable[[str], Any]]:
    made: dict[str, Callable[[str], Any]] = {"cloister": Ours, "mls-rs": MlsRs}
    if host is not None:
        made["ts-mls"] = lambda name: TsMls(name, host)
    return made


def create(table: Table, make: Callable[[str], Any], system: str, members: int, run: int) -> list[Any]:
    """Create and join; gives [founder, last member]."""
    clients = [make(f"{system} {members} {run} {step}") for step in range(members)]
    packages = [each.key_package() for each in clients[1:]]
    group_id = f"bench {members} {run}".encode()

    def founding() -> bytes:
        clients[0].create(group_id)
        arguments = {"path": False} if system == "cloister" else {}  # the peers add without a path too
        return clients[0].commit(packages, **arguments)[1]

    if system == "ts-mls":
        first, _ = milliseconds(clients[0], lambda: clients[0].create(group_id))
        second, (_, welcome) = milliseconds(clients[0], lambda: clients[0].commit(packages))
        elapsed = first + second
    else:
        elapsed, welcome = milliseconds(clients[0], founding)
    table.add(system, "create", members, elapsed)
    elapsed, _ = milliseconds(clients[-1], lambda: clients[-1].join(welcome))
    table.add(system, "join", members, elapsed)
    return [clients[0], clients[-1]]


def updates(table: Table, pairs: dict[str, list[Any]], prefix: str, members: int, rounds: int) -> None:
    """Empty commits by one member, processed by the other; the systems take turns."""
    for _ in range(rounds):
        for system, (receiver, committer) in pairs.items():
            elapsed, (message, _) = milliseconds(committer, committer.commit)
            table.add(system, f"{prefix}update_create", members, elapsed)
            elapsed, _ = milliseconds(receiver, lambda peer=receiver, data=message: peer.process(data))
            table.add(system, f"{prefix}update_process", members, elapsed)


def messages(table: Table, pairs: dict[str, list[Any]], members: int, rounds: int) -> None:
    """Application messages of 100 bytes."""
    data = os.urandom(100)
    for _ in range(rounds):
        for system, (receiver, sender) in pairs.items():
            count = MESSAGES // 4 if system == "ts-mls" else MESSAGES
            if system == "ts-mls":
                answer = sender.call("protect_many", data=data.hex(), count=count)
                elapsed, sealed = answer["ms"], answer["messages"]
                opened = receiver.call("process_many", messages=sealed)["ms"]
            else:
                elapsed, sealed = milliseconds(
                    sender, lambda peer=sender, count=count: [peer.protect(data) for _ in range(count)]
                )
                opened, _ = milliseconds(
                    receiver, lambda peer=receiver, sealed=sealed: [peer.process(each) for each in sealed]
                )
            table.add(system, "protect_per_s", members, count / elapsed * 1000)
            table.add(system, "unprotect_per_s", members, count / opened * 1000)


def warm_pair(make: Callable[[str], Any], system: str, members: int) -> list[Any]:
    """Two members of a system in a warm group of ours; the founder leaves the work to them."""
    founder = Ours(f"founder {system} {members}")
    warm_group(members - 2, f"warm {system} {members}".encode(), founder)
    pair = [make(f"{system} warm {members} {step}") for step in range(2)]
    _, welcome = founder.commit([each.key_package() for each in pair])
    for each in pair:
        each.join(welcome)
    for one, other in (pair, pair[::-1]):
        message, _ = one.commit()
        other.process(message)
    return pair


def growth(limit: int, rounds: int) -> list[Row]:
    """Update and join of ours on warm trees up to `limit`, with the memory that a group takes."""
    rows = []
    members = 10
    while members <= limit:
        table = Table()
        pair = warm_pair(Ours, "cloister", members)
        updates(table, {"cloister": pair}, "warm_", members, rounds)
        joiner = Ours("joiner")
        _, welcome = pair[0].commit([joiner.key_package()])
        tracemalloc.start()
        joiner.join(welcome)
        memory = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        again = Ours("joiner again")
        _, welcome = pair[0].commit([again.key_package()])
        elapsed, _ = milliseconds(again, lambda peer=again, data=welcome: peer.join(data))
        table.add("cloister", "warm_join", members, elapsed)
        table.add("cloister", "memory_mb", members, memory / 2**20)
        rows += table.rows()
        members *= 10
    return rows


def svg(rows: list[Row]) -> str:
    """Update on a warm tree over the members, whose axis is logarithmic: growth with log N is a straight line."""
    from math import ceil, log10

    series = {
        name: [(row["members"], row["value"]) for row in rows if row["operation"] == name]
        for name in ("warm_update_create", "warm_update_process")
    }
    members = sorted({count for points in series.values() for count, _ in points})
    top = ceil(max(value for points in series.values() for _, value in points))

    def place(count: float, value: float) -> tuple[int, int]:
        return round(60 + 130 * (log10(count) - log10(members[0]))), round(250 - 190 * value / top)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 300"',
        'font-family="sans-serif" font-size="12" fill="#57606a">',
        '<rect width="560" height="300" fill="#ffffff"/>',
        '<text x="60" y="28" font-size="14" fill="#24292f">An update on a warm tree, milliseconds over members</text>',
    ]
    for step in range(top + 1):
        y = place(members[0], step)[1]
        parts.append(
            f'<path d="M60 {y}H470" stroke="#d0d7de"/><text x="48" y="{y + 4}" text-anchor="end">{step}</text>'
        )
    parts += [f'<text x="{place(count, 0)[0]}" y="272" text-anchor="middle">{count:,}</text>' for count in members]
    for (name, points), colour in zip(series.items(), ("#0969da", "#cf222e"), strict=True):
        places = [place(*point) for point in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        parts.append(
            f'<text x="{x + 10}" y="{y + 4}" fill="{colour}">{name.rpartition("_")[2]} {points[-1][1]:.1f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Run, print, and write JSON and SVG where asked."""
    parser = argparse.ArgumentParser(prog="benchmarks.mls", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--members", default="10,100,1000")
    parser.add_argument("--growth", type=int, default=10_000)
    parser.add_argument("--without-node", action="store_true")
    chosen = parser.parse_args()
    folder = None if chosen.without_node else ts_mls_folder()
    host = TsMlsHost(folder) if folder else None
    table = Table()
    for members in map(int, chosen.members.split(",")):
        rounds = 9 if members < 1000 else 5
        pairs: dict[str, list[Any]] = {}
        for run in range(RUNS.get(members, 3)):
            for system, make in makers(host).items():
                pairs[system] = create(table, make, system, members, run)
        updates(table, pairs, "", members, rounds)
        messages(table, pairs, members, 15)
        warm = {system: warm_pair(make, system, members) for system, make in makers(host).items()}
        updates(table, warm, "warm_", members, rounds)
    grown = growth(chosen.growth, 9)
    table.show()
    for row in grown:
        print(f"cloister {row['operation']:20} {row['members']:7} {row['value']:10.2f}")
    if chosen.json:
        chosen.json.write_text(json.dumps(table.rows() + grown, indent=1) + "\n")
    if chosen.svg:
        chosen.svg.write_text(svg(grown))
    if host:
        host.close()


if __name__ == "__main__":
    main()
