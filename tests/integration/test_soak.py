# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""A short soak (tests/soak/soak.py; `make soak` is the long one): nothing grows with the rounds."""
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))
import soak  # noqa: E402


class Soak(unittest.TestCase):
    def test_thirty_rounds(self):
        r = soak.soak(30, early=10)
        self.assertEqual(soak.faults(r), [])
        self.assertEqual(r["durability"]["state"], "on")
        self.assertGreaterEqual(r["durability"]["writes"], 30)

    def test_what_grows_is_found(self):
        node = {"rss_kb": 1000, "fds": 30, "journal_bytes": 1000, "checkpoints": 2}
        for what, value in (("fds", 40), ("journal_bytes", soak.JOURNAL_BYTES_MAX + 1), ("checkpoints", 3)):
            r = {"models": 1, "first": {"node1": node}, "last": {"node1": {**node, what: value}}}
            self.assertEqual(len(soak.faults(r)), 1, what)
        self.assertEqual(len(soak.faults({"models": 2, "first": {}, "last": {}})), 1)


if __name__ == "__main__":
    unittest.main()
