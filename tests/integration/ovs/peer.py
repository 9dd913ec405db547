# SPDX-License-Identifier: Apache-2.0
"""Two ends of a TCP connection that check every byte.

    peer.py serve ADDRESS PORT
    peer.py connect ADDRESS PORT UP DOWN

The client sends UP bytes, which depend on their position, then waits for the server's count and DOWN bytes; each side
ends with a line of JSON: {"received": bytes, "good": whether each was the right one}.
"""

import json
import random
import socket
import sys

BLOCK = random.Random(1).randbytes((1 << 20) + 7)  # a length that no segment size divides


def pattern(start, size):
    """Return `size` bytes of the endless repetition of BLOCK, from position `start`."""
    start %= len(BLOCK)
    piece = BLOCK[start : start + size]
    return piece + pattern(0, size - len(piece)) if len(piece) < size else piece


def send(connection, size):
    """Send `size` bytes of the pattern."""
    done = 0
    while done < size:
        piece = pattern(done, min(size - done, 1 << 18))
        connection.sendall(piece)
        done += len(piece)


def receive(connection, size):
    """Receive up to `size` bytes, fewer at the end of the stream; return how many, and whether they were right."""
    done, good = 0, True
    while done < size and (data := connection.recv(min(size - done, 1 << 18))):
        good = good and data == pattern(done, len(data))
        done += len(data)
    return {"received": done, "good": good}


def main(mode, address, port, up=0, down=0):
    """Play one side and print the result."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if mode == "serve":
        with socket.create_server((address, int(port)), family=family) as listener:
            print("ready", flush=True)
            connection, _ = listener.accept()
        with connection:
            up, down = (int(word) for word in connection.recv(100, socket.MSG_WAITALL).split())
            result = receive(connection, up)
            send(connection, down)
    else:
        with socket.create_connection((address, int(port)), timeout=60) as connection:
            connection.sendall(f"{up} {down}".ljust(100).encode())
            send(connection, int(up))
            result = receive(connection, int(down))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
