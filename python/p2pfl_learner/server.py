# SPDX-License-Identifier: Apache-2.0
"""The service of proto/learner.proto. gRPC's threads answer calls; all that is the learner's own (building it, its parameters,
training) runs on the thread that called serve(), one thing at a time, because many libraries want it so."""
import os
import queue
import sys
import threading
import traceback
from concurrent import futures

import grpc
import numpy as np

from . import wire
from .learner import Config, Interrupted, Steer

VERSION = 1
SERVICE = "p2pfl.learner.v1.Learner"


def _travels_as(array):
    return np.dtype("<f4") if array.dtype.kind == "f" else np.dtype("<i8")


class _Job:
    """The running Fit or Evaluate: its beats, and whether it is to end."""

    def __init__(self, number):
        self.number, self.beat, self.done, self.interrupted = number, 0, 0.0, False


class _Service:
    def __init__(self, build):
        self._build, self._learner, self._folder = build, None, None
        self._specs = []  # (name, own dtype, dtype on the way, shape)
        self._work = queue.Queue()
        self._changed = threading.Condition()
        self._job = None

    # ---- on the main thread

    def run(self):
        while True:
            task, done = self._work.get()
            if task is None:
                return
            try:
                done.set_result(task())
            except BaseException as e:  # noqa: BLE001 - whoever asked gets it
                done.set_exception(e)

    def stop(self):
        self._work.put((None, None))

    def _describe(self, m):
        if m["version"] != VERSION:
            raise ValueError(f"the node speaks version {m['version']} of the service, this package version {VERSION}")
        values = {k: v for k, v in m.items() if k not in ("version", "folder")}
        for name in ("params", "partition_params"):
            values[name] = {p["key"]: p["value"] for p in m[name]}
        config = Config(**values)
        self._learner, self._folder = self._build(config), m["folder"]
        self._specs = [(k, a.dtype, _travels_as(a), a.shape) for k, a in self._arrays().items()]
        dtypes = {"f": "F32", "i": "I64"}
        return {"name": self._learner.name, "steerable": int(self._learner.steerable),
                "tensors": [{"name": k, "dtype": dtypes[t.kind], "shape": list(shape)} for k, _, t, shape in self._specs]}

    def _arrays(self):
        return {k: np.asarray(a) for k, a in self._learner.parameters().items()}

    def _path(self, m):
        if not m["file"] or "/" in m["file"] or m["file"].startswith("."):
            raise ValueError(f"{m['file']!r} is no name of a file in the folder")
        return os.path.join(self._folder, m["file"])

    def _get_parameters(self, m):
        arrays = self._arrays()
        if [(k, a.shape) for k, a in arrays.items()] != [(k, shape) for k, _, _, shape in self._specs]:
            raise ValueError("the learner's parameters have other names or shapes than when it was made")
        with open(self._path(m), "r+b") as f:
            for (_, _, travels, _), a in zip(self._specs, arrays.values()):
                f.write(np.ascontiguousarray(a, travels).data.cast("B") if a.size else b"")
            if f.tell() != m["bytes"]:
                raise ValueError(f"the parameters are {f.tell()} bytes, the node expects {m['bytes']}")
        return {}

    def _read_parameters(self, m):
        data = np.fromfile(self._path(m), np.uint8)
        if data.size != m["bytes"] or data.size != sum(t.itemsize * int(np.prod(s)) for _, _, t, s in self._specs):
            raise ValueError(f"{data.size} bytes of parameters, the node says {m['bytes']}")
        arrays, at = {}, 0
        for name, own, travels, shape in self._specs:
            size = travels.itemsize * int(np.prod(shape))
            arrays[name] = data[at:at + size].copy().view(travels).reshape(shape).astype(own, copy=False)
            at += size
        return arrays

    def _set_parameters(self, m):
        self._learner.set_parameters(self._read_parameters(m))
        return {}

    def _progress(self, done):
        with self._changed:
            job = self._job
            job.beat += 1
            job.done = float(done)
            self._changed.notify_all()
            if job.interrupted:
                raise Interrupted

    def _run_job(self, m, what):
        with self._changed:
            self._job = _Job(m["id"])
        try:
            if what == "fit":
                correction = self._read_parameters(m["correction"][-1]) if m["correction"] else None
                if (m["proximal_mu"] or correction) and not self._learner.steerable:
                    raise ValueError("this learner cannot be steered")
                self._learner.steer = Steer(m["proximal_mu"], correction)
                r = self._learner.fit(m["epochs"], m["seed"], self._progress)
                return {"loss": float(r.loss), "n_samples": int(r.n_samples), "n_steps": int(r.n_steps),
                        "learning_rate": float(r.learning_rate), "normaliser": float(r.normaliser)}
            r = self._learner.evaluate(self._progress)
            return {"loss": float(r.loss), "accuracy": float(r.accuracy), "n_samples": int(r.n_samples)}
        finally:
            with self._changed:
                self._job = None
                self._changed.notify_all()

    # ---- on gRPC's threads

    def _on_main(self, task, context):
        done = futures.Future()
        self._work.put((task, done))
        try:
            return done.result()
        except Interrupted:
            context.abort(grpc.StatusCode.CANCELLED, "interrupted")
        except Exception as e:  # noqa: BLE001 - it is told to the node, and the program's own log has all of it
            traceback.print_exception(type(e), e, e.__traceback__)
            context.abort(grpc.StatusCode.INTERNAL, f"{type(e).__name__}: {e}"[:200])

    def _wait_progress(self, m, _context):
        def news():
            job = self._job
            return job is None or job.number != m["job"] or job.beat > m["seen"]

        with self._changed:
            self._changed.wait_for(news, m["wait_ms"] / 1000)
            job = self._job
            if job is None or job.number != m["job"]:
                return {"beat": m["seen"]}
            return {"beat": job.beat, "done": job.done}

    def _interrupt(self, m, _context):
        with self._changed:
            if self._job and self._job.number == m["id"]:
                self._job.interrupted = True
        return {}

    def handler(self):
        def main(fn):
            return lambda m, context: self._on_main(lambda: fn(m), context)

        methods = {
            "Describe": (main(self._describe), wire.DESCRIBE_REQUEST, wire.DESCRIPTION),
            "GetParameters": (main(self._get_parameters), wire.PARAMETERS, wire.NOTHING),
            "SetParameters": (main(self._set_parameters), wire.PARAMETERS, wire.NOTHING),
            "Fit": (main(lambda m: self._run_job(m, "fit")), wire.JOB, wire.RESULT),
            "Evaluate": (main(lambda m: self._run_job(m, "evaluate")), wire.JOB, wire.RESULT),
            "WaitProgress": (self._wait_progress, wire.PROGRESS_REQUEST, wire.PROGRESS),
            "Interrupt": (self._interrupt, wire.JOB, wire.NOTHING),
        }
        return grpc.method_handlers_generic_handler(SERVICE, {
            name: grpc.unary_unary_rpc_method_handler(fn, lambda data, spec=request: wire.decode(spec, data),
                                                      lambda m, spec=response: wire.encode(spec, m))
            for name, (fn, request, response) in methods.items()})


def _end_with_node():
    """The node holds the other end of standard input: when that ends, nobody wants this process any more."""
    try:
        while os.read(0, 4096):
            pass
    finally:
        os._exit(0)


def serve(build, socket=None):
    """Serves the learner that build(config) returns. Does not return before the process is ended.

    build is called once for each connection of a node, with what the node's configuration says. socket: where to listen, for a node
    whose configuration says `socket:`; by default where the node that has started this program wants it.
    """
    path = socket or os.environ.get("P2PFL_LEARNER_SOCKET")
    if not path:
        sys.exit("this program is a learner: a p2pfl node starts it (learner.command), or it needs a socket to listen on")
    service = _Service(build)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=[service.handler()], options=[("grpc.so_reuseport", 0)])
    os.umask(0o077)
    if socket and os.path.exists(socket):
        os.unlink(socket)
    server.add_insecure_port("unix:" + os.path.abspath(path))
    server.start()
    if not socket:
        threading.Thread(target=_end_with_node, daemon=True).start()
    try:
        service.run()
    except KeyboardInterrupt:
        server.stop(0)
