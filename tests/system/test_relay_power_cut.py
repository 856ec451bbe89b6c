"""Power cut: the relay is frozen, and what lies under its file system is copied and opened.

The relay's directory stands on an ext4 image behind a loop device. What was not synced is in the page cache above
it and not in the image, as it would not be on the disk. FULL loses nothing that was acknowledged; the controls
NORMAL and OFF lose, every time: so the test bites.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from benchmarks.relay.raw_client import connect

from cloister.relay.store.sqlite import SqliteStore, Synchronous
from cloister.wire import frames
from support.need import lacking
from support.processes import RelayProcess
from support.senders import ROOM, Sender

pytestmark = pytest.mark.system

CUTS = 5
SIZE = 64 * 1024 * 1024
ACKED = 100
"""Entries that are acknowledged before the cut."""


def run(*command: str | Path) -> None:
    """A tool of the system; the test is skipped where it does not work."""
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        lacking("loop", f"{command[0]}: {type(error).__name__}")


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """The file system of an image."""
    place.mkdir()
    run("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        run("umount", place)
        place.rmdir()


async def load(relay: RelayProcess, senders: list[Sender], cut: Callable[[], None]) -> None:
    """Send a little, freeze the relay, take what it had said before, cut the power.

    A little: after a thousand pages of log SQLite syncs for its checkpoint, also with NORMAL.
    """
    async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
        assert isinstance(await client.create(ROOM), frames.Ack)
    os.sync()  # the base stands
    work = asyncio.gather(*(sender.run(relay.port) for sender in senders))
    while sum(len(sender.acked) for sender in senders) < ACKED:  # noqa: ASYNC110 - senders know no event
        await asyncio.sleep(0.005)
    relay.signal(signal.SIGSTOP)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(cut)
    relay.kill()
    await work


def copy_under(image: Path, copy: Path) -> None:
    """What lies on the disk now, and not what the file system still holds in memory."""
    shutil.copyfile(image, copy)


def lost_in(copy: Path, place: Path, senders: list[Sender]) -> int:
    """How many acknowledged entries are not where they were acknowledged, after the cut."""
    with mounted(copy, place):
        with closing(SqliteStore(place / "relay" / "relay.db", "OFF")) as store:
            kept = {row.entry_id: row.seq for row in store.entries(ROOM, 0, 2**30)}
    return sum(kept.get(entry_id) != seq for sender in senders for entry_id, seq in sender.acked.items())


def cut(folder: Path, mode: Synchronous) -> tuple[int, int]:
    """(acknowledged, lost) of one power cut."""
    image, copy = folder / "image", folder / "copy"
    with image.open("wb") as file:
        file.truncate(SIZE)
    run("mkfs.ext4", "-q", "-F", image)
    with mounted(image, folder / "disk") as disk:
        relay = RelayProcess.make(disk / "relay", 3)
        relay.log = folder / "relay.log"
        relay.start(mode)
        senders = [Sender(member, number) for number, member in enumerate(relay.members)]
        try:
            asyncio.run(load(relay, senders, lambda: copy_under(image, copy)))
        finally:
            relay.kill()
    acked = sum(len(sender.acked) for sender in senders)
    lost = lost_in(copy, folder / "after", senders)
    image.unlink()
    copy.unlink()
    return acked, lost


def cuts(tmp_path: Path, mode: Synchronous) -> list[tuple[int, int]]:
    """Five of them."""
    if os.geteuid() != 0:
        lacking("loop", "mounting an image needs root")
    results = []
    for number in range(CUTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        results.append(cut(folder, mode))
    assert all(acked >= ACKED for acked, _ in results), results
    return results


def test_full_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert [lost for _, lost in cuts(tmp_path, "FULL")] == [0] * CUTS


@pytest.mark.parametrize("mode", ["NORMAL", "OFF"])
def test_the_controls_lose_every_time(tmp_path: Path, mode: Synchronous) -> None:
    results = cuts(tmp_path, mode)
    assert all(lost > 0 for _, lost in results), results
