# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 180
"""P2PFL's payloads: what its nodes were seen to send is read to what it says; what we write is read by Python's own pickle and
NumPy; what would run something runs nothing."""
import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
from techniques import undo  # noqa: E402

TOOL = os.path.join(os.environ["P2PFL_BUILD"], "p2pfl_payload")
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "p2pfl-payloads"
NAMES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "BOOL": "?"}


def run(mode, data, *args):
    r = subprocess.run([TOOL, mode, *args], input=data, capture_output=True, check=False, timeout=60)
    if r.returncode:
        raise ValueError(r.stderr.decode().strip())
    return r.stdout


def from_safetensors(data):
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    arrays = {}
    for name, t in head.items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            arrays[name] = np.frombuffer(data[8 + n + a:8 + n + b], NAMES[t["dtype"]]).reshape(t["shape"])
    return [arrays[k] for k in sorted(arrays, key=lambda k: (len(k), k))]


def to_safetensors(arrays, names=None):
    head, body, back = {}, b"", {v: k for k, v in NAMES.items()}
    for i, a in zip(names or range(len(arrays)), arrays):
        raw = np.ascontiguousarray(a).tobytes()
        kind = "?" if a.dtype == bool else a.dtype.str.replace("|", "")
        head[str(i)] = {"dtype": back[kind], "shape": list(a.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def payload(params, info=None, compressor=None, protocol=4):
    inner = pickle.dumps({"params": params, "additional_info": info or {"applied_techniques": []}}, protocol=protocol)
    squeeze = {None: lambda b: b, "zlib": zlib.compress, "lzma": lzma.compress}[compressor]
    return pickle.dumps({"byte_compressor": compressor, "bytes": squeeze(inner)}, protocol=protocol)


class Vectors(unittest.TestCase):
    def test_every_vector(self):
        index = json.loads((FIXTURES / "index.json").read_text())
        self.assertGreater(len(index), 15)
        for name, want in index.items():
            if want["decoded"] is None:
                continue
            with self.subTest(name=name):
                got = from_safetensors(run("decode", (FIXTURES / (name + ".pkl")).read_bytes()))
                self.assertEqual(len(got), len(want["decoded"]))
                for a, w in zip(got, want["decoded"]):
                    self.assertEqual(a.dtype.str.replace("|", "<"), w["dtype"].replace("|", "<"))
                    self.assertEqual(list(a.shape), w["shape"])
                    if w["values"] is not None and name == "low_rank":
                        np.testing.assert_allclose(a.ravel(), w["values"], rtol=1e-6)
                    elif w["values"] is not None:
                        np.testing.assert_array_equal(a.ravel(), np.array(w["values"], w["dtype"]))

    def test_what_p2pfl_itself_cannot_undo(self):
        got = from_safetensors(run("decode", (FIXTURES / "ptq_int8_per_channel.pkl").read_bytes()))
        np.testing.assert_allclose(got[0], [[0, 0.1, 0.2], [0.3, 0.4, 0.5]], atol=0.004)
        np.testing.assert_allclose(got[1], [1.5, -2.0], atol=0.016)
        got = from_safetensors(run("decode", (FIXTURES / "plain_numpy2_names.pkl").read_bytes()))
        np.testing.assert_array_equal(got[0].ravel(), np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5], np.float32))

    def test_the_large_one_as_numpy_reads_it(self):
        data = (FIXTURES / "plain_big_mixed.pkl").read_bytes()
        want = pickle.loads(pickle.loads(data)["bytes"])["params"]
        for a, w in zip(from_safetensors(run("decode", data)), want):
            np.testing.assert_array_equal(a, w)


class RoundTrip(unittest.TestCase):
    ARRAYS = [np.arange(12, dtype="<f4").reshape(3, 4) / 7, np.array(5, "<i8"), np.zeros((0, 3), "<f4"), np.array([1.5, -2], "<f8"),
              np.array([True, False]), np.arange(-4, 4, dtype="i1"), np.arange(8, dtype="u1").reshape(2, 2, 2),
              np.array([65504, -1e-7], "<f2"), np.arange(3, dtype="<i2"), np.arange(70000, dtype="<i4")]

    def test_ours_loads_in_numpy(self):
        loaded = pickle.loads(run("encode", to_safetensors(self.ARRAYS)))
        self.assertIsNone(loaded["byte_compressor"])
        inner = pickle.loads(loaded["bytes"])
        self.assertEqual(inner["additional_info"], {"applied_techniques": []})
        for a, w in zip(inner["params"], self.ARRAYS):
            self.assertEqual(a.dtype, w.dtype)
            self.assertEqual(a.shape, w.shape)
            np.testing.assert_array_equal(a, w)
            a.ravel()[:1] = 0  # P2PFL's learners write into what they load

    def test_numpy_s_is_read(self):
        for protocol in (2, 3, 4, 5):
            for compressor in (None, "zlib", "lzma"):
                with self.subTest(protocol=protocol, compressor=compressor):
                    got = from_safetensors(run("decode", payload(self.ARRAYS, compressor=compressor, protocol=protocol)))
                    for a, w in zip(got, self.ARRAYS):
                        np.testing.assert_array_equal(a, w)

    def test_other_orders(self):
        x = np.arange(24, dtype="<f4").reshape(2, 3, 4)
        for a in (np.asfortranarray(x), x.astype(">f4"), np.asfortranarray(x.astype(">f4")), x.transpose(2, 0, 1), x[:, ::2]):
            for protocol in (2, 4, 5):
                got = from_safetensors(run("decode", payload([a], protocol=protocol)))
                np.testing.assert_array_equal(got[0], a)

    def test_into_a_layout(self):
        with tempfile.NamedTemporaryFile() as like:
            like.write(to_safetensors([np.zeros((2, 3), "<f4"), np.zeros(2, "<f4")]))
            like.flush()
            good = [np.ones((2, 3), "<f4"), np.ones(2, "<f4")]
            np.testing.assert_array_equal(from_safetensors(run("decode", payload(good), like.name))[0], good[0])
            for params, why in [(good[:1], "1 parameters, the model has 2"),
                                ([good[0].T, good[1]], r"parameter 0 has the shape \(3, 2\), '0' has \(2, 3\)"),
                                ([good[0], good[1].astype("<f8")], "parameter 1 has the type f8, '1' is F32"),
                                ([good[0], np.ones((2, 1), "<f4")], r"parameter 1 has the shape \(2, 1\), '1' has \(2\)")]:
                with self.assertRaisesRegex(ValueError, why):
                    run("decode", payload(params), like.name)
            for compressor in ("zlib", "lzma"):  # a bomb: a gigabyte of zeros in a megabyte
                with self.assertRaisesRegex(ValueError, "more than .* bytes after " + compressor):
                    run("decode", payload([np.zeros(1 << 26, "<f4")], compressor=compressor), like.name)
            bomb = {"applied_techniques": [["topk", {"topk_sparse_metadata": {0: {"indices": np.zeros(0, "<u4"), "shape": (1 << 40,)}}}]]}
            with self.assertRaisesRegex(ValueError, "more than the model has"):
                run("decode", payload([np.zeros(0, "<f4")], bomb), like.name)


class Compressed(unittest.TestCase):
    """interop_compression: what we send, undone by NumPy and by ourselves."""

    def setUp(self):
        rng = np.random.default_rng(5)
        self.w, self.b = rng.standard_normal((40, 30)).astype("<f4"), rng.standard_normal(40).astype("<f4")

    def encode(self, arrays, options, names=None):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write(json.dumps(options))
            f.flush()
            return run("encode", to_safetensors(arrays, names), f.name)

    def both(self, arrays, compression):
        """The arrays as NumPy and as we undo them; the payload's parts."""
        data = self.encode(arrays, {"compression": compression})
        outer = pickle.loads(data)
        squeezed = {None: lambda b: b, "zlib": zlib.decompress, "lzma": lzma.decompress}[outer["byte_compressor"]](outer["bytes"])
        inner = pickle.loads(squeezed)
        theirs = undo(inner["additional_info"]["applied_techniques"], inner["params"])
        ours = from_safetensors(run("decode", data))
        for t, o, a in zip(theirs, ours, arrays):
            self.assertEqual((t.shape, t.dtype), (a.shape, a.dtype))
            np.testing.assert_allclose(o, t, rtol=1e-5, atol=1e-6)
        return ours, inner, outer, len(data)

    def test_the_same_bytes_of_values_as_p2pfl_s(self):
        arrays = [np.array([[0, .1, .2], [.3, .4, .5]], "<f4"), np.array([1.5, -2], "<f4")]
        for name, ptq in [("ptq_int8", {"dtype": "int8"}), ("ptq_int8_asym", {"dtype": "int8", "scheme": "asymmetric"}),
                          ("ptq_uint8_asym", {"dtype": "uint8", "scheme": "asymmetric"}), ("ptq_int16", {"dtype": "int16"}),
                          ("ptq_float16", {"dtype": "float16"})]:
            with self.subTest(name=name):
                want = pickle.loads(pickle.loads((FIXTURES / (name + ".pkl")).read_bytes())["bytes"])
                _, got, _, _ = self.both(arrays, {"ptq": ptq})
                self.assertEqual(got["additional_info"], want["additional_info"])
                for g, w in zip(got["params"], want["params"]):
                    self.assertEqual(g.dtype, w.dtype)
                    np.testing.assert_array_equal(g, w)

    def test_ptq__error_within_half_a_step(self):
        for ptq, step in [({"dtype": "int8"}, 1 / 128), ({"dtype": "int8", "scheme": "asymmetric"}, 2 / 255),
                          ({"dtype": "uint8", "scheme": "asymmetric"}, 2 / 255), ({"dtype": "int16"}, 1 / 32768), ({"dtype": "float16"}, 1 / 1024)]:
            ours, _, _, size = self.both([self.w, self.b], {"ptq": ptq})
            for o, a in zip(ours, (self.w, self.b)):
                np.testing.assert_allclose(o, a, atol=step * np.abs(a).max() * 1.01)
            self.assertLess(size, self.w.nbytes)
        ours, inner, _, _ = self.both([self.w, self.w.T.copy()], {"ptq": {"dtype": "int8", "granularity": "per_channel", "channel_axis": 1}})
        self.assertEqual(inner["additional_info"]["applied_techniques"][0][1]["ptq_channel_axis"], 1)
        np.testing.assert_allclose(ours[0], self.w, atol=np.abs(self.w).max(0).max() / 128)
        _, inner, _, _ = self.both([self.w, self.b], {"ptq": {"dtype": "int8", "granularity": "per_channel"}})
        self.assertEqual(inner["additional_info"]["applied_techniques"][0][1]["ptq_granularity"], "per_tensor", "it could not be undone there")

    def test_edges(self):
        arrays = [np.zeros((3, 2), "<f4"), np.full(4, 7.0, "<f4"), np.full(4, -7.0, "<f4"), np.zeros((0, 3), "<f4"), np.array(2.5, "<f4"),
                  np.array([1e30, -1e30, 1e-30], "<f4"), np.array([65504, 1e-7, 6e-8, -0.0, 65519, 2 ** -14, 1 / 3], "<f4")]
        for c in ({"ptq": {"dtype": "int8"}}, {"ptq": {"dtype": "uint8", "scheme": "asymmetric"}}, {"ptq": {"dtype": "int16"}},
                  {"topk": {"k": 1.0}}, {"topk": {"k": 1e-6}}, {"low_rank": {}}, {"zlib": {}}, {"lzma": {"preset": 0}}):
            with self.subTest(c=c):
                self.both(arrays, c)
        _, inner, _, _ = self.both(arrays[:5] + arrays[6:], {"ptq": {}})
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(inner["params"][5], np.minimum(arrays[6], 65504).astype("<f2"))

    def test_topk__the_largest_magnitudes(self):
        ours, _, _, size = self.both([self.w, self.b], {"topk": {"k": 0.1}})
        kept = np.abs(self.w) >= np.sort(np.abs(self.w).ravel())[-120]
        np.testing.assert_array_equal(ours[0], np.where(kept, self.w, 0))
        self.assertLess(size, self.w.nbytes / 2)

    def test_low_rank__keeps_its_share_of_the_energy(self):
        rng = np.random.default_rng(6)
        flat = (rng.standard_normal((60, 3)) @ rng.standard_normal((3, 50))).astype("<f4")
        ours, inner, _, _ = self.both([self.b, flat, self.w], {"low_rank": {"threshold": 0.999}})
        self.assertEqual(list(inner["additional_info"]["applied_techniques"][0][1]["lowrank_compressed_state"]), [1], "smaller, or not at all")
        np.testing.assert_allclose(ours[1], flat, atol=0.05 * np.abs(flat).max())
        np.testing.assert_array_equal(ours[2], self.w)

    def test_all_together(self):
        ours, inner, outer, size = self.both([self.w, self.b], {"low_rank": {"threshold": 0.5}, "topk": {"k": 0.5}, "ptq": {"dtype": "int8"}, "zlib": {"level": 9}})
        self.assertEqual([t[0] for t in inner["additional_info"]["applied_techniques"]], ["low_rank", "topk", "ptq"])
        self.assertEqual(outer["byte_compressor"], "zlib")
        self.assertEqual(self.both([self.w], {"lzma": {}})[2]["byte_compressor"], "lzma")

    def test_what_does_not_go_together(self):
        ints = [self.w, np.array([1, 2])]
        for arrays, c, why in [([self.w], {"ptq": {}, "topk": {}}, "behind ptq"), ([self.w], {"ptq": {"dtype": "uint8"}}, "asymmetric"),
                               ([self.w], {"ptq": {"dtype": "int4"}}, "must be one of"), ([self.w], {"topk": {"k": 0}}, "not a number from"),
                               ([self.w], {"zip": {}}, "zip"), ([self.w], {"zlib": {}, "lzma": {}}, "one of zlib and lzma"),
                               ([self.w], {"zlib": {"level": 10}}, "0 to 9"), (ints, {"topk": {}}, "'1' is I64: P2PFL's techniques need all to be F32")]:
            with self.subTest(c=c), self.assertRaisesRegex(ValueError, why):
                self.encode(arrays, {"compression": c})
        self.encode(ints, {"compression": {"zlib": {}}})


class Carried(unittest.TestCase):
    """What SCAFFOLD and FedProx keep in additional_info."""
    NAMES = ["w", "b", "@delta_y.w", "@delta_y.b", "@delta_c.w", "@delta_c.b"]

    def into(self, data, names):
        shapes = {"w": (2, 3), "b": (2,)}
        with tempfile.NamedTemporaryFile() as like:
            like.write(to_safetensors([np.zeros(shapes[n.rpartition(".")[2]], "<f4") for n in names], names))
            like.flush()
            got = run("decode", data, like.name)
        n = struct.unpack("<Q", got[:8])[0]
        head = json.loads(got[8:8 + n])
        return {k: np.frombuffer(got[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]], "<f4").reshape(t["shape"])
                for k, t in head.items() if k != "__metadata__"}

    def test_scaffold__there_and_back(self):
        data = (FIXTURES / "scaffold.pkl").read_bytes()
        want = pickle.loads(pickle.loads(data)["bytes"])
        got = self.into(data, self.NAMES)
        for i, n in enumerate("wb"):
            np.testing.assert_array_equal(got[n], want["params"][i])
            for s in ("delta_y", "delta_c"):
                np.testing.assert_array_equal(got[f"@{s}.{n}"], want["additional_info"]["scaffold"][s + "_i"][i])
        back = pickle.loads(pickle.loads(run("encode", to_safetensors(list(got.values()), list(got))))["bytes"])
        self.assertEqual(len(back["params"]), 2)
        for s in ("delta_y_i", "delta_c_i"):
            for a, b in zip(back["additional_info"]["scaffold"][s], want["additional_info"]["scaffold"][s]):
                np.testing.assert_array_equal(a, b)

    def test_what_did_not_come_is_zero__what_does_not_fit_is_named(self):
        params = [np.ones((2, 3), "<f4"), np.ones(2, "<f4")]
        np.testing.assert_array_equal(self.into(payload(params), self.NAMES)["@delta_y.w"], np.zeros((2, 3)))
        np.testing.assert_array_equal(self.into(payload(params), ["w", "b", "@m.w"])["@m.w"], np.zeros((2, 3)))
        for lists, why in [([params[0]], "scaffold.delta_y_i has 1 arrays for 2 parameters"),
                           ([params[0], params[0]], r"scaffold.delta_y_i does not fit: .* the shape \(2, 3\)"),
                           ([params[0], params[1].astype("<f8")], "scaffold.delta_y_i does not fit: .* type f8"), ([params[0], 5], "no array")]:
            with self.subTest(why=why), self.assertRaisesRegex(ValueError, why):
                self.into(payload(params, {"applied_techniques": [], "scaffold": {"delta_y_i": lists}}), self.NAMES)

    def test_fedprox(self):
        done = subprocess.run([TOOL, "decode"], input=(FIXTURES / "fedprox.pkl").read_bytes(), capture_output=True, check=True, timeout=60)
        self.assertEqual(done.stderr.decode().strip(), "proximal_mu 0.01")
        inner = pickle.loads(pickle.loads(Compressed.encode(self, [np.ones(2, "<f4")], {"proximal_mu": 0.25}))["bytes"])
        self.assertEqual(inner["additional_info"], {"fedprox": {"proximal_mu": 0.25}, "applied_techniques": []})


class Marker:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class Hostile(unittest.TestCase):
    def refused(self, data, why):
        with self.assertRaisesRegex(ValueError, why):
            run("decode", data)

    def test_nothing_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ran")
            inner = {"params": [np.zeros(2, "<f4")], "additional_info": {"applied_techniques": [], "x": Marker(path)}}
            cases = [pickle.dumps(Marker(path)), pickle.dumps({"byte_compressor": None, "bytes": Marker(path)}),
                     payload([Marker(path)]), payload([np.zeros(2, "<f4")], {"applied_techniques": [Marker(path)]}),
                     pickle.dumps({"byte_compressor": "zlib", "bytes": zlib.compress(pickle.dumps(inner))}),
                     pickle.dumps({"byte_compressor": "lzma", "bytes": lzma.compress(pickle.dumps(inner, protocol=2))})]
            for i, data in enumerate(cases):
                with self.subTest(i=i):
                    self.refused(data, r"names '(_?io|builtins|__builtin__)\.open', which no model needs; nothing was run")
            self.assertFalse(os.path.exists(path))
            pickle.loads(cases[0]).close()
            self.assertTrue(os.path.exists(path), "the exploit itself works")

    def test_other_forms(self):
        x = np.zeros(2, "<f4")
        self.refused(payload([x.view(np.recarray)]), "names 'numpy")
        self.refused(payload([np.array([object()])]), "type 'O8'")
        self.refused(payload([np.zeros(2, "<c8")]), "type 'c8'")
        self.refused(payload([1.5]), "parameter 0: it is no array")
        self.refused(pickle.dumps([1]), "no 'byte_compressor' and 'bytes'")
        self.refused(pickle.dumps({"byte_compressor": "gzip", "bytes": b""}), "not zlib or lzma")
        self.refused(pickle.dumps({"byte_compressor": "zlib", "bytes": b"rubbish"}), "broken zlib")
        self.refused(pickle.dumps({"byte_compressor": "zlib", "bytes": zlib.compress(b"x" * 9999)[:-9]}), "broken zlib")
        self.refused(pickle.dumps({"byte_compressor": "lzma", "bytes": lzma.compress(b"x" * 9999)[:-9]}), "broken lzma")
        self.refused(pickle.dumps({"byte_compressor": None, "bytes": pickle.dumps({})}), "no list 'params'")
        self.refused(payload([x], {"applied_techniques": [["magic", {}]]}), "technique 'magic'")
        self.refused(payload([x], {"applied_techniques": [["ptq", {}]] * 9}), "more than 8 techniques")
        self.refused(payload([x], {"applied_techniques": [["ptq", {"ptq_original_dtype": x.dtype, "ptq_scales": [1.0, 2.0]}]]}), "2 scales")
        bad = {"topk_sparse_metadata": {0: {"indices": np.array([0, 9], "<u4"), "shape": (4,)}}}
        self.refused(payload([x], {"applied_techniques": [["topk", bad]]}), "index lies outside")
        bad = {"topk_sparse_metadata": {0: {"indices": np.array([0], "<u4"), "shape": (4,)}}}
        self.refused(payload([x], {"applied_techniques": [["topk", bad]]}), "as many indices as values")
        bad = {"lowrank_compressed_state": {5: (x, x, x)}}
        self.refused(payload([x], {"applied_techniques": [["low_rank", bad]]}), "leaves it out")
        bad = {"lowrank_compressed_state": {0: (x, x, x)}}
        self.refused(payload([x], {"applied_techniques": [["low_rank", bad]]}), "low_rank needs")
        u, v = np.zeros((2, 9), "<f4"), np.zeros((9, 3), "<f4")
        bad = {"lowrank_compressed_state": {0: (u, np.zeros(9, "<f4"), v)}}
        self.refused(payload([x], {"applied_techniques": [["low_rank", bad]]}), "more singular values")
        self.refused(b"", "ends early")
        self.refused(io.BytesIO(payload([x])).read()[:-1], "beyond the end")


if __name__ == "__main__":
    unittest.main()
