#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Python's grpcio as a benchmark's party, the transport of P2PFL: the commands `calls` and `send` of bench/tools/bench_rpc.c. Messages are
bytes as they are: encoding them with protobuf's Python would come on top. usage: grpcio_bench.py CERTS"""
import json
import queue
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

LIMIT = [("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)]
SMALL = b"\x0a\x0f127.0.0.1:12345"


def serve(certs):
    def handler(answer):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(request), None, None)

    service = grpc.method_handlers_generic_handler("node.NodeServices", {
        "handshake": handler(lambda request: request), "send": handler(lambda request: str(len(request)).encode())})
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=[service], options=LIMIT)
    credentials = grpc.ssl_server_credentials([((certs / "server.key").read_bytes(), (certs / "server.crt").read_bytes())],
                                              root_certificates=(certs / "ca.crt").read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print("LISTEN 127.0.0.1:%d" % port, flush=True)
    return server


class Client:
    def __init__(self, certs):
        self.certs, self.channels = certs, {}

    def channel(self, target, i=0):
        if (target, i) not in self.channels:
            c = self.certs
            credentials = grpc.ssl_channel_credentials((c / "ca.crt").read_bytes(), (c / "client.key").read_bytes(), (c / "client.crt").read_bytes())
            self.channels[target, i] = grpc.secure_channel(target, credentials, LIMIT + [("grpc.use_local_subchannel_pool", 1)])
        return self.channels[target, i]

    def calls(self, target, n_links, n_each, ms):
        methods = [self.channel(target, i).unary_unary("/node.NodeServices/handshake") for i in range(int(n_links))]
        took, begun = [], time.perf_counter()
        end = begun + int(ms) / 1000
        if len(methods) * int(n_each) == 1:
            while (at := time.perf_counter()) < end:
                methods[0](SMALL, timeout=60)
                took.append(time.perf_counter() - at)
        else:
            done = queue.SimpleQueue()

            def start(method):
                at = time.perf_counter()
                method.future(SMALL, timeout=60).add_done_callback(lambda f: done.put((method, at, f)))

            for _ in range(int(n_each)):
                for method in methods:
                    start(method)
            left = len(methods) * int(n_each)
            while left:
                method, at, future = done.get()
                future.result()
                now = time.perf_counter()
                took.append(now - at)
                if now < end:
                    start(method)
                else:
                    left -= 1
        seconds = time.perf_counter() - begun
        took.sort()
        return {"per_s": len(took) / seconds, "p50_us": took[len(took) // 2] * 1e6, "p99_us": took[len(took) * 99 // 100] * 1e6}

    def send(self, size, count, *targets):
        message = b"w" * int(size)
        methods = [self.channel(t).unary_unary("/node.NodeServices/send") for t in targets]
        begun = time.perf_counter()

        def to(method):
            for _ in range(int(count)):
                method(message)
        threads = [threading.Thread(target=to, args=(m,)) for m in methods]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "mb_per_s": int(size) * int(count) * len(targets) / seconds / 1e6}


def main():
    certs = Path(sys.argv[1])
    server, client = serve(certs), Client(certs)
    for line in sys.stdin:
        what, *args = line.split()
        print(json.dumps({"calls": client.calls, "send": client.send}[what](*args)), flush=True)
    server.stop(0)


if __name__ == "__main__":
    main()
