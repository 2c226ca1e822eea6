# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Short floods against one node (tests/soak/flood.py; `make flood` is the long one): every honest call is answered, memory stays bounded, the log
does too, and the node ends in order."""
import sys
import unittest
from pathlib import Path

import node_kit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))
import flood  # noqa: E402


class Flood(unittest.TestCase):
    def test_each_for_two_seconds(self):
        r = flood.flood(2)
        sanitized = bool(node_kit.cache("PFL_SANITIZE"))  # its own memory is no measure
        self.assertEqual(flood.faults(r, None if sanitized else flood.RSS_BOUND_KB), [], r)
        self.assertEqual(set(r["floods"]), set(flood.FLOODS))
        self.assertLess(r["log_bytes"], 4 << 20)

    def test_what_is_wrong_is_found(self):
        f = {"calls": 5, "failed": 0, "rss_before_kb": 1000, "rss_most_kb": 2000}
        self.assertEqual(flood.faults({"exit": 0, "floods": {"x": f}}), [])
        for wrong in ({"failed": 1}, {"calls": 0}, {"rss_most_kb": 1001 + flood.RSS_BOUND_KB}):
            self.assertEqual(len(flood.faults({"exit": 0, "floods": {"x": {**f, **wrong}}})), 1, wrong)
        self.assertEqual(len(flood.faults({"exit": -6, "floods": {}})), 1)


if __name__ == "__main__":
    unittest.main()
