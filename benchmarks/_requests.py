# SPDX-License-Identifier: Apache-2.0
"""Many short connections from one host: each sends one request and waits for its answer; times on the monotonic clock.

    python _requests.py ADDRESS PORT TEXT COUNT AT_ONCE

Prints one JSON line a connection: local port, and when it was connected, had sent, and had the answer's first byte.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time


async def ask(address: str, port: int, text: str) -> dict[str, float]:
    """Return one connection's times."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(address, port)
    connected = time.monotonic()
    local = writer.get_extra_info("sockname")[1]
    writer.write(f"{text}\n".encode())
    sent = time.monotonic()
    first = await reader.read(65_536)
    answered = time.monotonic()
    writer.close()
    await writer.wait_closed()
    if not first:
        raise ConnectionError("closed without an answer")
    return {"port": local, "began": began, "connected": connected, "sent": sent, "answered": answered}


async def main(address: str, port: int, text: str, count: int, at_once: int) -> None:
    """Keep so many connections going until all are done."""
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            print(json.dumps(await ask(address, port, text)), flush=True)
            if at_once == 1:
                await asyncio.sleep(0.01)  # a handoff is measured alone: let the last one's farewells pass

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


if __name__ == "__main__":
    where, number, words, times, together = sys.argv[1:]
    asyncio.run(main(where, int(number), words, int(times), int(together)))
