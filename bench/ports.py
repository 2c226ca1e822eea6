# SPDX-License-Identifier: Apache-2.0
"""A port that nobody listens on now, below the range that the system hands out by itself."""
import random
import socket


def free_port():
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise SystemExit("bench: no free port between 20000 and 32000")
