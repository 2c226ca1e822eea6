#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that behaves as P2PFL's Python nodes do, written from the protocol's description (docs/PROTOCOL.md): grpcio, NumPy, real pickle,
threads that poll, two server threads, calls made inside handlers, and the habits that make other nodes wait. A model that does not
fit stops it, as it stops P2PFL's.

usage: p2pfl_peer.py --address HOST:PORT --certs DIR --shapes 2x3,3 [--connect ADDR]... [--out FILE.npz]
Commands on standard input: "learn ROUNDS EPOCHS TRAINSET", "connect ADDR", "who", "quit". JSON lines on standard output."""
import argparse
import collections
import importlib
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np

from techniques import undo

POLL = 0.1
GRACE = 1.5  # seconds in which a sender may not have heard yet what this node counts
LOCK = threading.Lock()


def wire():
    folder = tempfile.mkdtemp(prefix="p2pfl-wire-")
    here = Path(__file__).resolve().parent
    subprocess.run(["protoc", f"-I{here}", "-I/usr/include", f"--python_out={folder}", str(here / "p2pfl_wire.proto")], check=True)
    sys.path.insert(0, folder)
    return importlib.import_module("p2pfl_wire_pb2")


pb = wire()
Empty = importlib.import_module("google.protobuf.empty_pb2").Empty


def say(event, **fields):
    with LOCK:
        print(json.dumps({"event": event, "t": round(time.time(), 3), **fields}), flush=True)


class Stopped(Exception):
    """What P2PFL does on a model that does not fit: the node stops."""


class Link:
    def __init__(self, peer, addr, direct):
        self.addr, self.direct, self.heard = addr, direct, time.time()
        read = lambda name: (peer.certs / name).read_bytes()  # noqa: E731
        options = [("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", 1 << 30)]
        target = addr[7:] if addr.startswith("unix://") else addr
        credentials = grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt"))
        self.channel = grpc.secure_channel(("unix:" + target) if addr.startswith("unix") else target, credentials, options)
        call = lambda name, req, res: self.channel.unary_unary(  # noqa: E731
            f"/node.NodeServices/{name}", request_serializer=req.SerializeToString, response_deserializer=res.FromString)
        self.handshake = call("handshake", pb.HandShakeRequest, pb.ResponseMessage)
        self.disconnect = call("disconnect", pb.HandShakeRequest, Empty)
        self.send = call("send", pb.RootMessage, pb.ResponseMessage)


class Peer:
    def __init__(self, args):
        self.addr, self.certs, self.timeout, self.args = args.address, Path(args.certs), 10.0, args
        self.links, self.links_lock = {}, threading.RLock()
        self.seen, self.outbox = collections.deque(maxlen=100), collections.deque()
        self.presend = {}  # what was announced to us, for 60 s
        self.running = True
        shapes = [tuple(int(n) for n in s.split("x")) for s in args.shapes.split(",")]
        rng = np.random.default_rng(args.seed)
        self.params = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        self.reset()

    def reset(self):
        self.round, self.rounds, self.experiment, self.learning = None, 0, None, False
        self.model_ready = threading.Event()
        self.initialized, self.votes, self.train_set = set(), {}, []
        self.aggregated = {}  # address -> contributors it holds
        self.ready_round = {}  # address -> round of its last models_ready
        self.models, self.models_lock = [], threading.RLock()  # [(params, contributors, samples)] in order of arrival
        self.round_model = threading.Event()
        self.counted = {}  # contributor -> when it was counted, this round

    # ---- links ----

    def link(self, addr, direct=False):
        with self.links_lock:
            if addr not in self.links or (direct and not self.links[addr].direct):
                self.links[addr] = Link(self, addr, direct)
            return self.links[addr]

    def connect(self, addr):
        link = Link(self, addr, True)
        answer = link.handshake(pb.HandShakeRequest(addr=self.addr), timeout=self.timeout)
        if answer.error:
            say("refused", addr=addr, why=answer.error)
            return
        with self.links_lock:
            self.links[addr] = link
        say("connected", addr=addr)

    def drop(self, addr, why):
        with self.links_lock:
            link = self.links.pop(addr, None)
        if link and link.direct:
            say("lost", addr=addr, why=str(why)[:200])
            link.channel.close()

    def known(self, direct=False):
        with self.links_lock:
            return [a for a, l in self.links.items() if l.direct or not direct]

    # ---- the service ----

    def handshake(self, request, context):
        with self.links_lock:
            if request.addr in self.links and self.links[request.addr].direct or request.addr == self.addr:
                return pb.ResponseMessage(error="Cannot add the node (duplicated or wrong direction)")
        self.link(request.addr, direct=True)
        say("connected", addr=request.addr)
        return pb.ResponseMessage()

    def disconnect(self, request, context):
        self.drop(request.addr, "it said goodbye")
        return Empty()

    def send(self, message, context):
        kind = message.WhichOneof("payload")
        if kind == "gossip_message":
            if message.source == self.addr or message.gossip_message.hash in self.seen:
                return pb.ResponseMessage()
            self.seen.append(message.gossip_message.hash)
        try:
            answer = self.command(message, kind)
        except Stopped as e:
            say("stopped", why=str(e))
            os._exit(3)
        if kind == "gossip_message" and message.gossip_message.ttl > 0:
            forward = pb.RootMessage()
            forward.CopyFrom(message)  # unknown fields too
            forward.gossip_message.ttl -= 1
            self.outbox.append((forward, message.source))
        return answer

    def command(self, m, kind):
        args = list(getattr(m, kind).args) if kind in ("gossip_message", "direct_message") else []
        handler = {"beat": self.on_beat, "start_learning": self.on_start, "stop_learning": self.on_stop,
                   "model_initialized": self.on_initialized, "vote_train_set": self.on_votes, "metrics": self.on_metrics,
                   "models_aggregated": self.on_aggregated, "models_ready": self.on_ready, "PRE_SEND_MODEL": self.on_presend,
                   "init_model": self.on_init_model, "partial_model": self.on_partial, "add_model": self.on_add}.get(m.cmd)
        if not handler:
            say("unknown", cmd=m.cmd, source=m.source)
            return pb.ResponseMessage(error=f"Unknown command: {m.cmd}")
        text = handler(m, args)
        return pb.ResponseMessage(response=text) if text else pb.ResponseMessage()

    # ---- gossip ----

    def message(self, cmd, args=(), round_=None):
        m = pb.RootMessage(source=self.addr, round=-1 if round_ is None else round_, cmd=cmd)
        m.gossip_message.ttl, m.gossip_message.hash = 10, random.getrandbits(64) - (1 << 63)
        m.gossip_message.args.extend(str(a) for a in args)
        return m

    def broadcast(self, cmd, args=(), round_=None):
        m = self.message(cmd, args, round_)
        self.seen.append(m.gossip_message.hash)
        for addr in self.known(direct=True):
            self.call(addr, m)

    def call(self, addr, m):
        try:
            answer = self.link(addr).send(m, timeout=self.timeout)
        except grpc.RpcError as e:
            self.drop(addr, f"{e.code()}: {e.details()}")
            return None
        if answer.error:
            say("error", addr=addr, cmd=m.cmd, why=answer.error)
            self.drop(addr, answer.error)
            return None
        return answer

    def gossip_loop(self):
        while self.running:
            for _ in range(100):
                if not self.outbox:
                    break
                m, source = self.outbox.popleft()
                for addr in self.known(direct=True):
                    if addr != source:
                        self.call(addr, m)
            time.sleep(POLL)

    def heartbeat_loop(self):
        while self.running:
            self.broadcast("beat", [time.time()])
            for addr in self.known():
                with self.links_lock:
                    heard = self.links[addr].heard if addr in self.links else time.time()
                if time.time() - heard > self.args.heartbeat_timeout:
                    self.drop(addr, "no heartbeat")
            time.sleep(self.args.heartbeat_period)

    def on_beat(self, m, args):
        (sent,) = args
        if abs(time.time() - float(sent)) > self.args.heartbeat_timeout:
            return  # clocks apart: it counts as not heard
        self.link(m.source).heard = time.time()

    # ---- learning: commands ----

    def on_start(self, m, args):
        rounds, epochs, trainset, name = args
        if self.learning:
            return
        self.learning = True
        threading.Thread(target=self.guarded, args=(int(rounds), int(epochs), int(trainset), name, False), daemon=True).start()

    def on_stop(self, m, args):
        assert not args
        self.learning = False

    def on_initialized(self, m, args):
        assert not args
        self.initialized.add(m.source)

    def on_votes(self, m, args):
        if self.round is not None and m.round in (self.round, self.round + 1):
            self.votes.setdefault(m.round, {})[m.source] = {args[i]: int(args[i + 1]) for i in range(0, len(args), 2)}
        elif self.round is None and m.round == 0:
            self.votes.setdefault(0, {})[m.source] = {args[i]: int(args[i + 1]) for i in range(0, len(args), 2)}

    def on_metrics(self, m, args):
        say("metrics", addr=m.source, round=m.round, values=dict(zip(args[::2], args[1::2])))

    def on_aggregated(self, m, args):
        if m.round == self.round:
            self.aggregated[m.source] = args

    def on_ready(self, m, args):
        assert not args
        if self.round is not None and m.round in (self.round - 1, self.round):
            self.ready_round[m.source] = m.round

    def on_presend(self, m, args):
        what = (args[0], tuple(sorted(args[1:])), m.round)
        now = time.time()
        self.presend = {k: t for k, t in self.presend.items() if now - t < 60}
        if args[0] == "init_model" and self.model_ready.is_set():
            return "false"
        if args[0] == "add_model" and (self.round is None or m.round < self.round or self.round_model.is_set()):
            return "false"
        with self.models_lock:
            held = {c for _, cs, _ in self.models for c in cs}
        if args[0] == "partial_model" and held & set(args[1:]):
            return "false"
        if what in self.presend:
            return "false"
        self.presend[what] = now
        return "true"

    # ---- learning: models ----

    def loads(self, m):
        outer = pickle.loads(m.weights.weights)
        if outer["byte_compressor"]:
            data = importlib.import_module(outer["byte_compressor"]).decompress(outer["bytes"])
        else:
            data = outer["bytes"]
        inner = pickle.loads(data)
        params = undo(inner["additional_info"]["applied_techniques"], inner["params"])
        if [p.shape for p in params] != [p.shape for p in self.params] or any(p.dtype != np.float32 for p in params):
            raise Stopped(f"{m.cmd} of {m.source} does not fit: {[(p.shape, str(p.dtype)) for p in params]}")
        return params

    def dumps(self, params):
        inner = pickle.dumps({"params": params, "additional_info": {"applied_techniques": []}}, protocol=4)
        squeezed = importlib.import_module(self.args.compressor).compress(inner) if self.args.compressor else inner
        return pickle.dumps({"byte_compressor": self.args.compressor, "bytes": squeezed}, protocol=4)

    def weights(self, cmd, params, contributors=(), samples=1, round_=0):
        m = pb.RootMessage(source=self.addr, round=round_, cmd=cmd)
        m.weights.weights, m.weights.num_samples = self.dumps(params), samples
        m.weights.contributors.extend(contributors)
        return m

    def presended(self, addr, cmd, args, round_):
        m = pb.RootMessage(source=self.addr, round=round_, cmd="PRE_SEND_MODEL")
        m.direct_message.args.extend([cmd, *[str(a) for a in args]])
        answer = self.call(addr, m)
        return answer is not None and answer.response == "true"

    def on_init_model(self, m, args):
        if self.model_ready.is_set():
            return
        self.params = self.loads(m)
        self.model_ready.set()
        say("init_model", addr=m.source)

    def on_partial(self, m, args):
        if not self.train_set or m.round != self.round:
            say("dropped", addr=m.source, round=m.round, why="early")
            return  # and its PRE_SEND_MODEL stays remembered
        contributors, samples = list(m.weights.contributors), m.weights.num_samples
        params = self.loads(m)
        if not contributors or samples <= 0:
            raise Stopped(f"partial_model of {m.source} without contributors or samples")
        self.add(params, contributors, samples)

    def add(self, params, contributors, samples):
        with self.models_lock:
            held = {c for _, cs, _ in self.models for c in cs}
            if not set(contributors) <= set(self.train_set):
                raise Stopped(f"contributors {contributors} are not in the train set")
            twice = held & set(contributors)
            if twice and min(time.time() - self.counted[c] for c in twice) > GRACE:
                raise Stopped(f"contributors {sorted(twice)} are counted already, and models_aggregated said so")
            if twice:  # two senders at the same moment
                say("dropped", contributors=contributors, round=self.round, why="counted meanwhile")
                return
            self.models.append((params, contributors, samples))
            held |= set(contributors)
            self.counted.update({c: time.time() for c in contributors})
        self.broadcast("models_aggregated", sorted(held), self.round)

    def on_add(self, m, args):
        if self.round is None or m.round != self.round or self.round_model.is_set():
            return
        self.params = self.loads(m)
        self.round_model.set()

    # ---- the workflow ----

    def until(self, what, done, seconds):
        end = time.time() + seconds
        while self.learning and time.time() < end:
            if done():
                return True
            time.sleep(POLL)
        say("timeout", what=what, round=self.round)
        return False

    def guarded(self, *args):
        try:
            self.workflow(*args)
        except Stopped as e:
            say("stopped", why=str(e))
            os._exit(3)

    def workflow(self, rounds, epochs, trainset, name, initiator):
        self.rounds, self.experiment, self.round = rounds, name, 0
        say("learning", experiment=name, rounds=rounds)
        if initiator:
            self.model_ready.set()
        elif not self.until("the initial model", self.model_ready.is_set, 60):
            return
        self.broadcast("model_initialized")
        self.spread("init_model", lambda: [a for a in self.known(direct=True) if a not in self.initialized], [0])
        time.sleep(self.args.wait_convergence)
        while self.learning and self.round < rounds:
            self.one_round(trainset, epochs)
        if self.learning:
            self.evaluate()
            np.savez(self.args.out, *self.params) if self.args.out else None
            say("finished", rounds=self.round)
        self.learning = False

    def one_round(self, trainset, epochs):
        self.vote(trainset)
        if self.addr in self.train_set:
            self.evaluate()
            self.fit(epochs)
            self.add(self.params, [self.addr], self.args.samples)
            self.exchange()
            self.aggregate()
        else:
            self.until("the round's model", self.round_model.is_set, self.args.aggregation_timeout)
        self.round_model.set()
        self.broadcast("models_ready", [], self.round)
        self.spread("add_model", lambda: [a for a in self.known(direct=True) if self.ready_round.get(a, -1) < self.round], [self.round])
        say("round", round=self.round)
        self.models, self.train_set, self.aggregated, self.counted = [], [], {}, {}
        self.round_model.clear()
        self.round += 1

    def spread(self, cmd, missing, args):
        """Pushes the model to neighbours that lack it; gives up when ten looks in a row found the same ones."""
        last, equal = None, 0
        while self.learning and equal < 10:
            todo = missing()
            if not todo:
                return
            equal = equal + 1 if todo == last else 0
            last = todo
            for addr in random.sample(todo, min(2, len(todo))):
                if self.presended(addr, cmd, args, self.round):
                    self.call(addr, self.weights(cmd, self.params, round_=self.round))
            time.sleep(1.0)

    def vote(self, trainset):
        candidates = sorted({*self.known(), self.addr})
        chosen = random.sample(candidates, min(trainset, len(candidates)))
        mine = {a: int(random.randint(0, 1000) / (i + 1)) for i, a in enumerate(chosen)}
        self.votes.setdefault(self.round, {})[self.addr] = mine
        self.broadcast("vote_train_set", [x for kv in mine.items() for x in kv], self.round)
        self.until("votes", lambda: set(self.votes[self.round]) >= {*self.known(), self.addr}, self.args.vote_timeout)
        total = collections.Counter()
        for votes in self.votes.pop(self.round).values():
            for a, n in votes.items():
                total[a] += n
        ordered = sorted(total.items(), key=lambda kv: (kv[1], kv[0]), reverse=True)
        self.train_set = [a for a, _ in ordered[:trainset]]
        alive = {*self.known(), self.addr}
        self.train_set = [a for a in self.train_set if a in alive]
        say("train_set", round=self.round, members=sorted(self.train_set))

    def evaluate(self):
        self.broadcast("metrics", ["test_loss", float(np.mean([np.abs(p).mean() for p in self.params])), "test_metric", 0.5], self.round)

    def fit(self, epochs):
        """Towards a point of this node's own: what the federation's mean is can be told beforehand."""
        time.sleep(self.args.fit_time)
        self.params = [(p * np.float32(0.5) + np.float32(self.args.target * 0.5)).astype(np.float32) for p in self.params]

    def exchange(self):
        """Sends each member what its models_aggregated says it lacks, polling once a second."""
        end = time.time() + self.args.aggregation_timeout
        while self.learning and time.time() < end and not self.complete():
            for addr in [a for a in self.train_set if a != self.addr]:
                has = set(self.aggregated.get(addr, []))
                with self.models_lock:
                    send = [m for m in self.models if not set(m[1]) & has]
                if not send or has >= set(self.train_set):
                    continue
                contributors = sorted(c for _, cs, _ in send for c in cs)
                if self.presended(addr, "partial_model", contributors, self.round):
                    params, samples = self.mean(send)
                    self.call(addr, self.weights("partial_model", params, contributors, samples, self.round))
            for _ in range(10):
                if self.complete():
                    break
                time.sleep(POLL)
        self.help_others()

    def help_others(self):
        """Members that lack something still get it for a while after this one is complete."""
        end = time.time() + 3
        while self.learning and time.time() < end:
            lack = [a for a in self.train_set if a != self.addr and not set(self.aggregated.get(a, [])) >= set(self.train_set) and a in self.known()]
            if not lack:
                return
            for addr in lack:
                has = set(self.aggregated.get(addr, []))
                send = [m for m in self.models if not set(m[1]) & has]
                contributors = sorted(c for _, cs, _ in send for c in cs)
                if send and self.presended(addr, "partial_model", contributors, self.round):
                    params, samples = self.mean(send)
                    self.call(addr, self.weights("partial_model", params, contributors, samples, self.round))
            time.sleep(0.5)

    def complete(self):
        with self.models_lock:
            return {c for _, cs, _ in self.models for c in cs} >= set(self.train_set)

    @staticmethod
    def mean(models):
        total = sum(s for _, _, s in models)
        acc = [np.zeros_like(p) for p in models[0][0]]
        for params, _, samples in models:
            for a, p in zip(acc, params):
                a += p * np.float32(samples)
        return [a / np.float32(total) for a in acc], total

    def aggregate(self):
        with self.models_lock:
            self.params, _ = self.mean(self.models)
        say("aggregated", round=self.round, contributors=sorted(c for _, cs, _ in self.models for c in cs))

    # ---- the program ----

    def serve(self):
        read = lambda name: (self.certs / name).read_bytes()  # noqa: E731
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=2),
                             options=[("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", 1 << 30)])
        handler = lambda fn, req, res: grpc.unary_unary_rpc_method_handler(  # noqa: E731
            fn, request_deserializer=req.FromString, response_serializer=res.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("node.NodeServices", {
            "handshake": handler(self.handshake, pb.HandShakeRequest, pb.ResponseMessage),
            "disconnect": handler(self.disconnect, pb.HandShakeRequest, Empty),
            "send": handler(self.send, pb.RootMessage, pb.ResponseMessage)}),))
        credentials = grpc.ssl_server_credentials([(read("server.key"), read("server.crt"))], read("ca.crt"), require_client_auth=True)
        if server.add_secure_port(self.addr, credentials) == 0:
            sys.exit("cannot listen on " + self.addr)
        server.start()
        return server

    def run(self):
        server = self.serve()
        for loop in (self.gossip_loop, self.heartbeat_loop):
            threading.Thread(target=loop, daemon=True).start()
        say("listening", addr=self.addr)
        for addr in self.args.connect:
            self.connect(addr)
        for line in sys.stdin:
            words = line.split()
            if words[:1] == ["connect"]:
                self.connect(words[1])
            elif words[:1] == ["learn"]:
                rounds, epochs, trainset = (int(w) for w in words[1:4])
                name = f"experiment-{time.time()}"
                self.learning = True
                self.broadcast("start_learning", [rounds, epochs, trainset, name])
                threading.Thread(target=self.guarded, args=(rounds, epochs, trainset, name, True), daemon=True).start()
            elif words[:1] == ["who"]:
                say("known", known=self.known())
            elif words[:1] == ["quit"]:
                break
        self.running = False
        for addr in self.known(direct=True):
            try:
                self.link(addr).disconnect(pb.HandShakeRequest(addr=self.addr))  # without a deadline
            except grpc.RpcError:
                pass
        server.stop(0.2).wait()
        os._exit(0)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--address", required=True)
    p.add_argument("--certs", required=True)
    p.add_argument("--shapes", default="2x3,3")
    p.add_argument("--connect", action="append", default=[])
    p.add_argument("--out")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--target", type=float, default=1.0)
    p.add_argument("--samples", type=int, default=10)
    p.add_argument("--fit-time", type=float, default=0.2)
    p.add_argument("--compressor", choices=["zlib", "lzma"])
    p.add_argument("--heartbeat-period", type=float, default=2.0)
    p.add_argument("--heartbeat-timeout", type=float, default=5.0)
    p.add_argument("--wait-convergence", type=float, default=2.0)
    p.add_argument("--vote-timeout", type=float, default=60.0)
    p.add_argument("--aggregation-timeout", type=float, default=300.0)
    Peer(p.parse_args()).run()


if __name__ == "__main__":
    main()
