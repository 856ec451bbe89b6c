"""Load for a real relay: senders that remember what was acknowledged, and send again what was not."""

from __future__ import annotations

from dataclasses import dataclass, field

import aiohttp
from benchmarks.relay.raw_client import ROOM_TOKEN, Client, Member, connect

from cloister.primitives.kdf import sha256
from cloister.wire import frames

ROOM = sha256(b"the room of the senders")[:16]
LOST = (ConnectionError, aiohttp.ClientError, OSError, RuntimeError)


@dataclass(eq=False)
class Sender:
    """Posts without pause, a few at a time; after a loss it sends again what was not acknowledged."""

    member: Member
    number: int
    acked: dict[bytes, int] = field(default_factory=dict)
    open: dict[bytes, bytes] = field(default_factory=dict)
    posted: int = 0

    async def run(self, port: int) -> None:
        """Until the connection ends."""
        try:
            async with connect("127.0.0.1", port, self.member) as client:
                after = 0
                while (page := await client.present_page(ROOM, ROOM_TOKEN, after)).more:
                    after = page.entries[-1].seq
                await self._load(client)
        except LOST:
            return

    async def _load(self, client: Client) -> None:
        rids: dict[int, bytes] = {}
        for entry_id in list(self.open):
            await self._post(client, rids, entry_id)
        while True:
            while len(rids) < 8:
                self.posted += 1
                entry_id = sha256(b"%d %d" % (self.number, self.posted))[:16]
                self.open[entry_id] = b"message %d of %d" % (self.posted, self.number)
                await self._post(client, rids, entry_id)
            answer = await client.receive()
            if isinstance(answer, frames.Ack):
                entry_id = rids.pop(answer.rid)
                self.open.pop(entry_id)
                assert self.acked.setdefault(entry_id, answer.seq) == answer.seq

    async def _post(self, client: Client, rids: dict[int, bytes], entry_id: bytes) -> None:
        rid = client.next()
        rids[rid] = entry_id
        await client.send(
            frames.Post(
                rid=rid, log=ROOM, kind="application", token_hash=sha256(ROOM_TOKEN), entry_id=entry_id,
                payload=self.open[entry_id],
            )
        )  # fmt: skip
