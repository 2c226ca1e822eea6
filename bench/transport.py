# SPDX-License-Identifier: Apache-2.0
"""The transport beside grpc++, grpcio and raw TLS: mutual TLS 1.3 over loopback, client and server of the same make."""
import re
import subprocess
import time

from kit import PYTHON, SRC, Parties

PEERS = SRC / "bench" / "peers"


class Pair:
    """A client and a server (or several) of one make."""

    def __init__(self, parties, argv, n_servers=1):
        self.client = parties.add(argv, listens=True)
        self.servers = [parties.add(argv, listens=True) for _ in range(n_servers)]
        self.server = self.servers[0]
        self.targets = [s.target for s in self.servers]


def makes(ctx, *names):
    certs = ctx.certs()
    argv = {"p2pfl": [ctx.program("bench_rpc"), certs], "grpc++": [ctx.program("grpcpp_bench"), certs],
            "grpcio": [PYTHON, PEERS / "grpcio_bench.py", certs], "raw TLS": [ctx.program("raw_tls"), certs]}
    return {name: argv[name] for name in names}


def alternate_pairs(ctx, argvs, measure, n_servers=1):
    """measure(pair) gives a dict; what each make gave, in order. The first turn warms up."""
    found = {name: [] for name in argvs}
    with Parties() as parties:
        pairs = {name: Pair(parties, argv, n_servers) for name, argv in argvs.items()}
        for i in range(ctx.repeats + 1):
            for name, pair in pairs.items():
                got = measure(pair)
                if i > 0:
                    found[name].append(got)
    return found


def rows(ctx, bench, title, found, key, unit, better="higher", targets=None, note=""):
    ours = [g[key] for g in found["p2pfl"]]
    for peer in [p for p in found if p != "p2pfl"]:
        ctx.add(bench, title, ours, unit, peer, [g[key] for g in found[peer]], (targets or {}).get(peer), better, note=note)


def calls(ctx):
    """Small unary calls: rate and latency, 1 and 32 in flight, 1 and 50 connections."""
    ms = 50 if ctx.quick else 500
    for n_links, n_each, names in ((1, 1, ("p2pfl", "grpc++", "grpcio", "raw TLS")), (1, 32, ("p2pfl", "grpc++", "grpcio")),
                                   (50, 1, ("p2pfl", "grpc++", "grpcio"))):
        found = alternate_pairs(ctx, makes(ctx, *names), lambda p, a=n_links, b=n_each: p.client.ask("calls", p.targets[0], a, b, ms))
        what = {(1, 1): "one in flight", (1, 32): "32 in flight", (50, 1): "50 connections, one in flight on each"}[n_links, n_each]
        rows(ctx, f"calls/{n_links}x{n_each}", f"small calls, {what}", found, "per_s", "calls/s",
             targets={"grpc++": 4.0} if (n_links, n_each) == (1, 1) else None)
        for key, name in (("p50_us", "p50"), ("p99_us", "p99")):
            rows(ctx, f"calls/{n_links}x{n_each}/{name}", f"the same, latency {name}", {k: v for k, v in found.items() if k in ("p2pfl", "grpc++")},
                 key, "us", "lower")


SIZES = ((1_000_000, 20), (10_000_000, 6), (100_000_000, 2), (400_000_000, 1))


def message(ctx):
    """One message of 1, 10, 100, 400 MB, one way."""
    for size, count in SIZES[:1] if ctx.quick else SIZES:
        found = alternate_pairs(ctx, makes(ctx, "p2pfl", "grpc++", "grpcio", "raw TLS"), lambda p: p.client.ask("send", size, count, p.targets[0]))
        rows(ctx, f"message/{size // 1_000_000}MB", f"{size // 1_000_000} MB in one message", found, "mb_per_s", "MB/s",
             targets={"grpc++": 1.6, "raw TLS": 0.8} if size == 100_000_000 else None)


def both_ways(ctx):
    """Two nodes send each other 100 MB at the same time; both directions together."""
    size, count = (1_000_000, 1) if ctx.quick else (100_000_000, 2)

    def measure(pair):
        begun = time.monotonic()
        pair.client.start("send", size, count, pair.server.target)
        pair.server.start("send", size, count, pair.client.target)
        pair.client.answer()
        pair.server.answer()
        return {"mb_per_s": 2 * size * count / (time.monotonic() - begun) / 1e6}
    rows(ctx, "both_ways", f"{size // 1_000_000} MB each way at once, sum", alternate_pairs(ctx, makes(ctx, "p2pfl", "grpc++"), measure), "mb_per_s", "MB/s")


def neighbours(ctx):
    """100 MB to each of four neighbours at once."""
    size = 1_000_000 if ctx.quick else 100_000_000
    found = alternate_pairs(ctx, makes(ctx, "p2pfl", "grpc++"), lambda p: p.client.ask("send", size, 1, *p.targets), n_servers=4)
    rows(ctx, "neighbours", f"{size // 1_000_000} MB to 4 neighbours at once, sum", found, "mb_per_s", "MB/s")


def heartbeat(ctx):
    """Small calls every 5 ms on the connection over which 400 MB flow."""
    size = 2_000_000 if ctx.quick else 400_000_000
    found = alternate_pairs(ctx, makes(ctx, "p2pfl", "grpc++"), lambda p: p.client.ask("beats", p.targets[0], size, 1, 5))
    theirs = [g["p99_us"] / 1e3 for g in found["grpc++"]]
    ctx.add("heartbeat", f"heartbeat p99 while {size // 1_000_000} MB flow on its connection", [g["p99_us"] / 1e3 for g in found["p2pfl"]], "ms", "grpc++",
            theirs, 50.0, "lower", limit=True)


def memory(ctx):
    """Peak of sender and receiver over idle, as a multiple of the message. Fresh processes each time."""
    argvs = makes(ctx, "p2pfl", "grpc++")
    for size, _ in SIZES[:1] if ctx.quick else SIZES:
        found = {name: {"receiver": [], "sender": []} for name in argvs}
        for _ in range(ctx.repeats):
            for name, argv in argvs.items():
                with Parties() as parties:
                    pair = Pair(parties, argv)
                    pair.client.ask("calls", pair.targets[0], 1, 1, 20)
                    before = {"receiver": pair.server.memory_kb("VmRSS"), "sender": pair.client.memory_kb("VmRSS")}
                    pair.client.ask("send", size, 1, pair.targets[0])
                    for who, party in (("receiver", pair.server), ("sender", pair.client)):
                        found[name][who].append((party.memory_kb("VmHWM") - before[who]) * 1024 / size)
        for who in ("receiver", "sender"):
            ctx.add(f"memory/{who}/{size // 1_000_000}MB", f"peak of the {who} of {size // 1_000_000} MB, over idle", found["p2pfl"][who], "x message",
                    "grpc++", found["grpc++"][who], 1.3 if (who, size) == ("receiver", 400_000_000) else None, "lower", limit=True)


def openssl_costs(kind, seconds):
    """Seconds of one signature and of one verification, by `openssl speed`."""
    name = {"p256": "ecdsap256", "rsa:3072": "rsa3072"}[kind]
    out = subprocess.run(["openssl", "speed", "-seconds", str(seconds), name], capture_output=True, text=True, check=True).stdout
    m = re.search(r"(\d+\.\d+)\s+(\d+\.\d+)\s*$", out.strip())
    return 1 / float(m[1]), 1 / float(m[2])


def openssl_s_time(ctx, certs, port, seconds):
    """Full handshakes per second of `openssl s_time` with `openssl s_server`, both with certificates."""
    server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", certs / "server.crt", "-key", certs / "server.key",
                               "-CAfile", certs / "ca.crt", "-Verify", "3", "-verify_return_error", "-tls1_3", "-num_tickets", "0", "-no_cache", "-quiet"],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            argv = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-cert", certs / "client.crt", "-key", certs / "client.key", "-CAfile",
                    certs / "ca.crt", "-verify", "3", "-new", "-tls1_3", "-time", str(seconds)]
            begun = time.monotonic()
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            m = re.search(r"(\d+) connections in ", done.stdout)
            if m and int(m[1]) > 0:
                return int(m[1]) / (time.monotonic() - begun)
            time.sleep(0.02)
        raise SystemExit(f"bench: openssl s_time: {done.stderr}")
    finally:
        server.kill()
        server.wait()


def handshakes(ctx):
    """Full mutual handshakes: connections made, HTTP/2 settings exchanged, closed. Each costs two signatures and four verifications."""
    from ports import free_port
    count = 5 if ctx.quick else 300
    for kind in ("p256", "rsa:3072"):
        certs = ctx.certs(kind)
        per_s, per_cpu_s, limit, s_time = [], [], [], []
        with Parties() as parties:
            pair = Pair(parties, [ctx.program("bench_rpc"), certs])
            for i in range(ctx.repeats + (not ctx.quick)):
                cpu = pair.client.cpu_s() + pair.server.cpu_s()
                got = pair.client.ask("handshakes", pair.server.target, count)
                cpu = pair.client.cpu_s() + pair.server.cpu_s() - cpu
                sign, verify = openssl_costs(kind, 1)
                timed = openssl_s_time(ctx, certs, free_port(), 1)
                if i > 0 or ctx.quick:
                    per_s.append(got["per_s"])
                    per_cpu_s.append(count / cpu)
                    limit.append(1 / (2 * sign + 4 * verify))
                    s_time.append(timed)
        name = kind.replace(":", "-").upper()
        ctx.add(f"handshakes/{name}", f"mutual handshakes, {name}", per_s, "1/s", "openssl s_time", s_time)
        ctx.add(f"handshakes/{name}/cpu", f"mutual handshakes per s of processor time (both sides), {name}", per_cpu_s, "1/s", "2 signatures + 4 verifications",
                limit, 0.6, note="openssl speed")
