# SPDX-License-Identifier: Apache-2.0
"""A CA with its service, for tests of enrolment.

    ca = CaService(folder, "--approve")     # ca init and ca serve; ca.port, ca.hash
    ca.token("a", "IP:127.0.0.1")           # the token; ca.join(token, dir) runs join
    ca.stop()                               # it must end well; ca.close() just ends it, also behind stop()
"""
import json
import os
import re
import subprocess
import time
from pathlib import Path

P2PFL = os.environ["P2PFL_BIN"]
PASSPHRASE = "a passphrase of the tests"


def run(*args, check=True, **kwargs):
    done = subprocess.run([P2PFL] + [str(a) for a in args], capture_output=True, text=True, timeout=60, **kwargs)
    assert not check or done.returncode == 0, f"p2pfl {args}: {done.stderr}"
    return done


def wait_for(condition, what, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


class CaService:
    def __init__(self, folder, *options, federation="hospitals", san="IP:127.0.0.1"):
        self.dir = Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.ca, self.pass_file, self.options, self.san = self.dir / "ca", self.dir / "pass", options, san
        if not self.ca.exists():
            self.pass_file.write_text(PASSPHRASE + "\n")
            self.pass_file.chmod(0o600)
            run("ca", "init", self.ca, "--federation", federation, "--passphrase-file", self.pass_file)
        self.start()

    def start(self):
        self.log = open(self.dir / "serve.err", "w+")
        self.process = subprocess.Popen([P2PFL, "ca", "serve", "--ca", self.ca, "--listen", "127.0.0.1:0", "--san", self.san,
                                         "--passphrase-file", self.pass_file, *self.options], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)
        first = self.process.stdout.readline()
        if " on " not in first:
            self.close()
            raise AssertionError(f"ca serve does not start: {self.errors()}")
        self.port = int(re.search(r":(\d+)", first).group(1))
        self.url = f"127.0.0.1:{self.port}"
        self.hash = re.search(r"sha256:[0-9a-f]{64}", self.process.stdout.readline()).group(0)

    def errors(self):  # what the service logged
        return (self.dir / "serve.err").read_text()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(30)
        self.close()
        assert code == 0, f"ca serve ended with {code}: {self.errors()}"

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def token(self, name="a", san="IP:127.0.0.1", *options):
        made = json.loads(run("ca", "token", "--ca", self.ca, "--name", name, "--san", san, "--json", *options).stdout)
        self.hash = made["ca_hash"]  # another one behind a roll-over
        return made["token"]

    def join(self, token, folder, *options, check=True, ca_hash=None, url=None):
        return run("join", url or self.url, "--token", token, "--ca-hash", ca_hash or self.hash, "--dir", folder, "--timeout", "20s",
                   *options, check=check)

    def register(self):
        return [json.loads(line) for line in run("ca", "list", "--ca", self.ca, "--json").stdout.splitlines()]

    def audit(self):
        return run("ca", "audit", "--ca", self.ca).stdout
