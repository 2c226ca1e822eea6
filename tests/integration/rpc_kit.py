# SPDX-License-Identifier: Apache-2.0
"""Runs tests/tools/rpc_echo (our gRPC over TLS) as a server or a client, for tests with peers of others."""
import os
import re
import subprocess
import threading
import time
from pathlib import Path

SRC = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("P2PFL_BUILD") or SRC / "build" / "dev")
ECHO = BUILD / "rpc_echo"


class Server:
    """A process that prints LISTEN first and ends when its standard input does; all its lines are kept."""

    def __init__(self, *argv):
        self.proc = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        self.address = self.wait_for(r"^LISTEN (\S+)").group(1)
        self.port = int(self.address.rpartition(":")[2]) if ":" in self.address and "unix" not in self.address else None

    def _read(self):
        for line in self.proc.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern, seconds=10, skip=0):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in list(self.lines)[skip:]:
                m = re.search(pattern, line)
                if m:
                    return m
            time.sleep(0.01)
        raise AssertionError(f"no line like {pattern!r} in {self.lines}")

    def close(self):
        """The exit code; sanitizers' complaints are in the lines and make it non-zero."""
        if self.proc.poll() is None:
            self.proc.stdin.close()
        code = self.proc.wait(20)
        self.thread.join(5)
        assert code == 0, f"exit code {code}: " + "\n".join(self.lines[-60:])


def serve(certs, address="127.0.0.1:0", limit=4 << 20):
    return Server(ECHO, "serve", certs, address, limit)


class Result:
    def __init__(self, done):
        self.text = done.stdout + done.stderr
        assert done.returncode == 0, self.text
        m = re.search(r"^STATUS (\d+) (\S+) (\d+) '(.*)' '(.*)'$", done.stdout, re.M)
        assert m, self.text
        self.code, self.name, self.len, self.response, self.message = int(m[1]), m[2], int(m[3]), m[4], m[5]


def call(certs, target, method, argument, timeout_ms=10000, response_limit=4 << 20):
    return Result(subprocess.run([str(ECHO), "call", str(certs), target, method, str(argument), str(timeout_ms), str(response_limit)],
                                 capture_output=True, text=True, timeout=60))
