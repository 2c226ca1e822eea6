# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# once: dev
"""Every benchmark runs, once and small, and says what it should. Nothing is timed here."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SRC = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("P2PFL_BUILD") or SRC / "build" / "dev").resolve()
RUN = ["/usr/bin/python3", str(SRC / "bench" / "run.py"), str(BUILD)]


class BenchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_bench(self, *argv):
        return subprocess.run([*RUN, *map(str, argv)], capture_output=True, text=True, timeout=280, check=False)

    def test_all__quick__one_line_for_each_row_and_a_table(self):
        kept, page = self.folder / "bench.jsonl", self.folder / "page.md"
        kept.write_text(json.dumps({"bench": "calls/of-another-day", "title": "old"}) + "\n")
        page.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
        done = self.run_bench("--quick", "--jsonl", kept, "--markdown", page)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        lines = [json.loads(line) for line in kept.read_text().splitlines()]
        for line in lines:
            self.assertLessEqual({"bench", "value", "unit", "peer", "peer_value", "ratio", "target"}, line.keys())
            self.assertGreaterEqual(line["value"], 0, line)
            if line["peer"]:
                self.assertGreater(line["peer_value"], 0, line)
        self.assertNotIn("calls/of-another-day", [line["bench"] for line in lines], "lines of a benchmark that ran are replaced")
        self.assertEqual({line["bench"].split("/")[0] for line in lines},
                         {"machine", "calls", "message", "both_ways", "neighbours", "heartbeat", "memory", "handshakes", "fedavg", "aggregators", "codecs",
                          "compression", "idle", "overhead", "bytes", "startup"})
        text = page.read_text()
        self.assertTrue(text.startswith("before\n") and text.endswith("after\n") and "old" not in text, text)
        self.assertEqual(sum(1 for line in text.splitlines() if line.startswith("| ")), len(lines) + 1)

    def test_name__unknown__the_names_that_there_are(self):
        done = self.run_bench("--only", "nonsense")
        self.assertEqual(done.returncode, 2)
        self.assertIn("handshakes", done.stderr)


if __name__ == "__main__":
    unittest.main()
