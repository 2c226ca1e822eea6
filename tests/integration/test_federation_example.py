# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""examples/federation/run.sh: from nothing to five nodes that learn, one of them revoked, and nothing left behind."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from node_kit import BIN, SRC, wait_until

SCRIPT = SRC / "examples" / "federation" / "run.sh"
NODES = [f"hospital-{c}" for c in "abcde"]


def processes_in(folder):
    """Ids of processes whose current folder is this one or was it before it was removed."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            cwd = os.readlink(proc / "cwd")
        except OSError:
            continue
        if cwd.removesuffix(" (deleted)").startswith(str(folder)):
            found.append(int(proc.name))
    return found


class Federation(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-")).resolve()
        self.addCleanup(shutil.rmtree, self.dir)
        self.env = {**os.environ, "P2PFL": BIN, "TMPDIR": str(self.dir)}

    def script(self, *argv, timeout=350, **env):
        return subprocess.run([str(SCRIPT), *map(str, argv)], capture_output=True, text=True, timeout=timeout, cwd=self.dir,
                              stdin=subprocess.DEVNULL, env={**self.env, **env})

    def test_wrong_usage__said(self):
        self.assertEqual(self.script("--what").returncode, 2)
        self.assertEqual(self.script(P2PFL="/nonexistent/p2pfl").returncode, 1)
        (self.dir / "full").mkdir()
        (self.dir / "full" / "x").write_text("")
        done = self.script("--dir", self.dir / "full")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is not empty", done.stderr)
        self.assertEqual(list(self.dir.iterdir()), [self.dir / "full"])

    def test_from_nothing_to_five_nodes_and_one_revoked(self):
        work = self.dir / "federation"
        done = self.script("--dir", work, "--rounds", "1")
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-6000:])
        for node in NODES:
            self.assertRegex(done.stdout, rf"(?m)^\$ p2pfl join \S+ --token \S+ --ca-hash sha256:[0-9a-f]{{64}} --dir {node} ")
            self.assertEqual((work / node / "certs" / "server.key").stat().st_mode & 0o777, 0o600)
        self.assertIn("the five models are the same, bit for bit", done.stdout)
        self.assertRegex(done.stdout, r"hospital-e: this node is out: .*revoked on .*keyCompromise")
        self.assertRegex(done.stderr, r"the peer says that our certificate is revoked")
        self.assertRegex(done.stdout, r"(?m)^untouched: ")
        # what each node says it did: the revoked one took part in the first learning only
        for node in NODES:
            events = [json.loads(line) for line in (work / node / "events.jsonl").read_text().splitlines()]
            finished = [e for e in events if e["event"] == "learning_finished"]
            self.assertEqual(len(finished), 1 if node == "hospital-e" else 2, node)
        self.assertEqual(processes_in(work), [])
        secret = (work / "passphrase").read_text().strip()
        self.assertEqual((work / "passphrase").stat().st_mode & 0o777, 0o600)
        self.assertNotIn(secret, done.stdout + done.stderr)
        for log in work.glob("*.log"):
            self.assertNotRegex(log.read_text(), r"Sanitizer|assertion failed", log.name)
        # a token that was used is no good to who reads this output
        line = re.search(r"(?m)^p2pfl (join \S+ --token \S+ --ca-hash \S+)$", done.stdout)[1]
        self.assertNotEqual(subprocess.run([BIN, *line.split(), "--dir", self.dir / "again", "--timeout", "1s"], capture_output=True,
                                           timeout=60).returncode, 0)
        self.assertFalse((self.dir / "again").exists())

    def test_ended_in_the_middle__nothing_stays(self):
        script = subprocess.Popen([str(SCRIPT), "--dummy"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.dir, env=self.env,
                                  stdin=subprocess.DEVNULL, text=True)
        self.addCleanup(script.stdout.close)
        for line in script.stdout:
            if line.startswith("== 5."):
                break
        work = next(self.dir.glob("p2pfl-federation.*"))
        self.assertGreaterEqual(len(processes_in(work)), 6)
        script.send_signal(signal.SIGTERM)
        script.stdout.read()
        self.assertEqual(script.wait(60), 143)
        wait_until("all processes are gone", lambda: not processes_in(work))
        self.assertFalse(work.exists())


if __name__ == "__main__":
    unittest.main()
