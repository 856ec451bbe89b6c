"""Transcripts of mixed groups, for machines without node or the wheel: what our clients heard and said.

    python -m benchmarks.mls.record FILE.json.xz [--seed 7]

Our clients draw everything from a seeded generator, so a transcript holds no key: a test makes the same clients from
the same seeds, gives them what the foreign ones sent, and compares what they answer, byte for byte, and the exporter
after each epoch (tests/vectors/test_mls_transcripts.py).
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
from pathlib import Path
from typing import Any

from benchmarks.mls.peers import MlsRs, Ours, TsMls, TsMlsHost, now, ts_mls_folder

Event = dict[str, Any]


class Recorded(Ours):
    """A client of ours that keeps a log; its randomness comes from its name."""

    def __init__(self, name: str, time: int) -> None:
        self.time = time
        self.events: list[Event] = []
        super().__init__(name, random.Random(name).randbytes)

    def now(self) -> int:
        return self.time

    def note(self, do: str, given: Any, out: Any) -> None:
        exported = "" if do == "key_package" else super().export("transcript", b"", 32).hex()
        self.events.append({"do": do, "in": given, "out": out, "export": exported})

    def create(self, group_id: bytes) -> None:
        super().create(group_id)
        self.note("create", group_id.hex(), "")

    def key_package(self) -> bytes:
        made = super().key_package()
        self.note("key_package", "", made.hex())
        return made

    def join(self, welcome: bytes) -> None:
        super().join(welcome)
        self.note("join", welcome.hex(), "")

    def join_external(self, info: bytes, resync: int | None = None) -> bytes:
        made = super().join_external(info, resync)
        self.note("join_external", info.hex(), made.hex())
        return made

    def commit(
        self, adds: list[bytes] | None = None, removes: list[int] | None = None, **_: Any
    ) -> tuple[bytes, bytes]:
        made = super().commit(adds, removes)
        given = {"adds": [each.hex() for each in adds or []], "removes": removes or []}
        self.note("commit", given, [each.hex() for each in made])
        return made

    def process(self, message: bytes) -> bytes:
        data = super().process(message)
        self.note("process", message.hex(), data.hex())
        return data

    def protect(self, data: bytes) -> bytes:
        made = super().protect(data)
        self.note("protect", data.hex(), made.hex())
        return made


def replay(name: str, time: int, events: list[Event]) -> None:
    """Live a recorded life again; AssertionError at the first difference."""
    client = Recorded(name, time)
    for event in events:
        given = event["in"]
        if event["do"] == "commit":
            client.commit([bytes.fromhex(each) for each in given["adds"]], given["removes"])
        elif event["do"] == "key_package":
            client.key_package()
        else:
            getattr(client, event["do"])(bytes.fromhex(given))
        assert client.events[-1] == event, f"{name}: {event['do']}"


def record(seed: int, host: TsMlsHost, steps: int) -> dict[str, Any]:
    """One mixed group's life, as our clients saw it."""
    from tests.system.test_mls_interop import Room

    time = now() + 600_000  # the run takes a while, and the wheel's key packages count from when they are made
    clients: list[Recorded] = []

    def ours(name: str) -> Recorded:
        clients.append(Recorded(name, time))
        return clients[-1]

    room = Room(
        seed,
        {"cloister": ours, "mls-rs": MlsRs, "ts-mls": lambda name: TsMls(name, host)},
        f"transcript {seed}".encode(),
    )
    room.live(steps)
    return {"time": time, "clients": {each.name: each.events for each in clients}}


def main() -> None:
    """Record one transcript."""
    parser = argparse.ArgumentParser(prog="benchmarks.mls.record", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    chosen = parser.parse_args()
    folder = ts_mls_folder()
    if folder is None:
        parser.error("node and npm are needed to record")
    host = TsMlsHost(folder)
    transcript = record(chosen.seed, host, chosen.steps)
    host.close()
    chosen.file.write_bytes(lzma.compress(json.dumps(transcript).encode(), preset=9))


if __name__ == "__main__":
    main()
