# SPDX-License-Identifier: Apache-2.0
"""Aggregation and codecs beside NumPy, and the machine's own limits. Each is one thread's work and counted in processor time."""
import os

from kit import PYTHON, SRC, Parties, alternate

NUMPY = [PYTHON, SRC / "bench" / "peers" / "numpy_bench.py"]


def numpy_env():
    """NumPy as a user has it: without a choice of OpenBLAS's kernels that this machine's environment may have made."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}


def sizes(ctx, *wanted):
    return [(2, 1000)] if ctx.quick else wanted


def name_of(n, d):
    return f"{n}x{d // 1_000_000}M" if d >= 1_000_000 else f"{n}x{d}"


def fedavg(ctx):
    """The weighted mean of 8 and 32 models of 1 and 25 million floats, against P2PFL's way in NumPy and the time to read them once."""
    for n, d in sizes(ctx, (8, 1_000_000), (32, 1_000_000), (8, 25_000_000), (32, 25_000_000)):
        with Parties() as parties:
            ours, numpy = parties.add([ctx.program("bench_compute")]), parties.add(NUMPY, env=numpy_env())
            found = alternate(ctx.repeats, {
                "p2pfl": lambda: ours.ask("aggregate", "fedavg", n, d)["seconds"] * 1e3,
                "read": lambda: ours.ask("read", n, d)["seconds"] * 1e3,
                "numpy": lambda: numpy.ask("aggregate", "fedavg", n, d)["seconds"] * 1e3})
        counts = (n, d) == (8, 25_000_000)
        title = f"FedAvg of {name_of(n, d)} floats"
        ctx.add(f"fedavg/{name_of(n, d)}", title, found["p2pfl"], "ms", "NumPy", found["numpy"], 3.0 if counts else None, "lower")
        ctx.add(f"fedavg/{name_of(n, d)}/read", title, found["p2pfl"], "ms", "reading them once", found["read"], 0.8 if counts else None, "lower")


def aggregators(ctx):
    """FedMedian and Krum as P2PFL does them. --full adds models of 25 million floats."""
    wanted = [(8, 1_000_000), (32, 1_000_000)] + ([(8, 25_000_000), (32, 25_000_000)] if ctx.full else [])
    for n, d in sizes(ctx, *wanted):
        for rule in ("fedmedian", "krum_p2pfl"):
            with Parties() as parties:
                ours, numpy = parties.add([ctx.program("bench_compute")]), parties.add(NUMPY, env=numpy_env())
                found = alternate(ctx.repeats, {"p2pfl": lambda: ours.ask("aggregate", rule, n, d)["seconds"] * 1e3,
                                                "numpy": lambda: numpy.ask("aggregate", rule, n, d)["seconds"] * 1e3})
            ctx.add(f"aggregators/{rule}/{name_of(n, d)}", f"{rule} of {name_of(n, d)} floats", found["p2pfl"], "ms", "NumPy", found["numpy"], None, "lower")


def codecs(ctx):
    """safetensors with its SHA-256 and all checks, against a pickle of NumPy arrays, which has neither."""
    for d in [1000] if ctx.quick else [250_000, 25_000_000]:
        with Parties() as parties:
            ours, numpy = parties.add([ctx.program("bench_compute")]), parties.add(NUMPY, env=numpy_env())
            for what in ("encode", "decode"):
                found = alternate(ctx.repeats, {"p2pfl": lambda: ours.ask(what, d)["seconds"] * 1e3, "pickle": lambda: numpy.ask(what, d)["seconds"] * 1e3})
                ctx.add(f"codecs/safetensors/{what}/{4 * d // 1000}kB", f"safetensors {what} with SHA-256, {4 * d / 1e6:g} MB", found["p2pfl"], "ms",
                        "pickle", found["pickle"], None, "lower", note="the digest is what takes the time; pickle has none")


def compression(ctx):
    """Each technique on a contribution of a million floats, against NumPy's way. zstd has no peer in Debian's Python."""
    d = 1000 if ctx.quick else 1_000_000
    for name in ("float16", "int8", "topk", "low_rank", "zlib", "lzma", "zstd"):
        with Parties() as parties:
            ours, numpy = parties.add([ctx.program("bench_compute")]), parties.add(NUMPY, env=numpy_env())
            for what in ("compress", "decompress"):
                size = []

                def work(what=what, size=size):
                    got = ours.ask(what, name, d)
                    size.append(got["bytes"])
                    return got["seconds"] * 1e3
                turns = {"p2pfl": work}
                if name != "zstd":
                    turns["numpy"] = lambda what=what: numpy.ask(what, name, d)["seconds"] * 1e3
                found = alternate(ctx.repeats, turns)
                ctx.add(f"compression/{name}/{what}", f"{what} {name}, {4 * d / 1e6:g} MB to {size[0] / (4 * d):.0%}", found["p2pfl"], "ms",
                        "NumPy" if "numpy" in found else None, found.get("numpy"), None, "lower", note="compressing includes what the peers will decode")


def machine(ctx):
    """What the machine can do: memory and AES, one thread."""
    size = 1_000_000 if ctx.quick else 200_000_000
    with Parties() as parties:
        ours = parties.add([ctx.program("bench_compute")])
        n, d = (2, 1000) if ctx.quick else (8, 25_000_000)
        found = alternate(ctx.repeats, {"copy": lambda: ours.ask("copy", size)["gb_per_s"], "read": lambda: ours.ask("read", n, d)["gb_per_s"]})
    ctx.add("machine/memcpy", "memcpy, one thread", found["copy"], "GB/s")
    ctx.add("machine/read", "reading memory, one thread", found["read"], "GB/s")
