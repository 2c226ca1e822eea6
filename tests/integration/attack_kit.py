# SPDX-License-Identifier: Apache-2.0
"""A member that does not play by the rules: its own gRPC client (grpcio), its own messages, byte by byte, and its own signatures,
made with OpenSSL's command line over the bytes that docs/PROTOCOL.md describes. Nothing of the project's code is in here."""
import hashlib
import random
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import grpc


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def lv(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(value)) + value


def lvs(values):
    return struct.pack(">I", len(values)) + b"".join(lv(v) for v in values)


class Message:
    """One RootMessage. kind 1: gossip with args; 3: weights with contributors, samples, payload."""

    def __init__(self, source, cmd, round=-1, args=(), kind=1, experiment="", contributors=(), samples=0, payload=b"", at_ms=None, ttl=10, announces=None, model=b"", codec="safetensors", computed=False, evidence=b""):
        self.source, self.cmd, self.round, self.args, self.kind, self.experiment = source, cmd, round, list(args), kind, experiment
        self.contributors, self.samples, self.payload, self.ttl = list(contributors), samples, payload, ttl
        self.at_ms = int(time.time() * 1000) if at_ms is None else at_ms
        self.hash = random.getrandbits(63)
        self.origin = b""
        self.model = model  # model_digest
        self.codec = codec
        self.evidence = evidence  # gossip: what pack() makes of two signed messages
        self.computed = computed  # gossip: says that its author made the model of that digest itself
        self.announces = announces  # gossip: (SHA-256 of a contribution, samples)

    def text(self):
        head = lv("p2pfl-origin-v1") + lv(self.source) + lv(self.cmd) + lv(self.experiment) + struct.pack(">iqB", self.round, self.at_ms, self.kind)
        if self.kind == 1:
            head += struct.pack(">q", self.hash) + lvs(self.args)
            head += lv(self.model) if self.model else b""
            head += lv(self.announces[0] + struct.pack(">i", self.announces[1])) if self.announces else b""
            head += lv(b"\1") if self.computed else b""
            return head + (lv(self.evidence) if self.evidence else b"")
        head += lv(self.codec) + lv(hashlib.sha256(self.payload).digest()) + struct.pack(">i", self.samples) + lvs(self.contributors)
        return head + (lv(self.model) if self.model else b"")

    def sign(self, folder, certificate=None):
        """By the client key in this folder; with another's certificate if that is named."""
        with tempfile.NamedTemporaryFile() as f:
            f.write(self.text())
            f.flush()
            signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", folder / "client.key", f.name], capture_output=True, check=True).stdout
        der = subprocess.run(["openssl", "x509", "-in", (certificate or folder) / "client.crt", "-outform", "DER"], capture_output=True, check=True).stdout
        self.der, self.signature = der, signature
        self.origin = field(1, der) + field(2, signature) + field(3, self.at_ms) + (field(4, self.experiment) if self.experiment else b"")
        return self

    def bytes(self):
        out = field(1, self.source) + field(2, self.round) + field(3, self.cmd)
        if self.kind == 1:
            out += field(4, field(1, self.ttl) + field(2, self.hash) + b"".join(field(3, a) for a in self.args))
        else:
            out += field(6, field(1, self.payload) + b"".join(field(2, c) for c in self.contributors) + field(3, self.samples) +
                         field(100, self.codec) + field(101, hashlib.sha256(self.payload).digest()))
        out += field(101, self.model) if self.model else b""
        out += field(102, field(1, self.announces[0]) + field(2, self.announces[1])) if self.announces else b""
        out += field(103, 1) if self.computed else b""
        out += field(104, self.evidence) if self.evidence else b""
        return out + (field(100, self.origin) if self.origin else b"")


def pack(one, two):
    """Two signed messages as evidence."""
    return b"".join(lv(m.text()) + struct.pack(">I", 1) + lv(m.der) + lv(m.signature) for m in (one, two))


class Member:
    """Calls nodes with the client certificate of a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def call(self, node, method, request):
        """(status code, its text, the answer's bytes)"""
        read = lambda name: (self.folder / name).read_bytes()  # noqa: E731
        credentials = grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt"))
        with grpc.secure_channel(node.address, credentials) as channel:
            try:
                answer = channel.unary_unary(f"/node.NodeServices/{method}")(request, timeout=20)
            except grpc.RpcError as e:
                return e.code(), e.details(), b""
        return grpc.StatusCode.OK, "", answer

    def send(self, node, message):
        return self.call(node, "send", message.bytes())
