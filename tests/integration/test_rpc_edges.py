# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""HTTP/2 and gRPC written byte by byte, to see what our server does with bad ones and our client with bad answers. Plaintext on loopback: the
layer under it has its own tests."""
import socket
import struct
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import rpc_kit  # noqa: E402

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = range(10)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """HPACK: a literal field without indexing, no Huffman."""
    def text(s):
        s = s.encode("latin-1") if isinstance(s, str) else s
        n = len(s)
        if n < 127:
            return bytes([n]) + s
        n -= 127
        out = b"\x7f"
        while n >= 128:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n]) + s
    return b"\x00" + text(name) + text(value)


def block(*pairs):
    return b"".join(literal(n, v) for n, v in pairs)


def request(path="/node.NodeServices/handshake", *more, method="POST", ct="application/grpc"):
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    return block(*fields, *([("content-type", ct)] if ct else []), *more)


def message(data, flag=0, length=None):
    return bytes([flag]) + struct.pack(">I", len(data) if length is None else length) + data


HELLO = b"\x0a\x05hello"


class Peer:
    def __init__(self, address, settings=b""):
        host, _, port = address.rpartition(":")
        self.s = socket.create_connection((host, int(port)), timeout=10)
        self.buf = b""
        self.s.sendall(PREFACE + frame(SETTINGS, payload=settings))

    def send(self, *frames):
        try:
            self.s.sendall(b"".join(frames))
        except OSError:
            pass

    def frames(self):
        """Until the connection is over."""
        while True:
            while len(self.buf) >= 9:
                n = int.from_bytes(self.buf[:3], "big")
                if len(self.buf) < 9 + n:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.buf[3:9])
                payload, self.buf = self.buf[9:9 + n], self.buf[9 + n:]
                yield kind, flags, stream, payload
            try:
                more = self.s.recv(65536)
            except ConnectionResetError:
                return
            if not more:
                return
            self.buf += more

    def answer(self, stream=1):
        """(all bytes of its header blocks, its data, reset code or None); GOAWAY gives ("goaway", code)."""
        head, data = b"", b""
        for kind, flags, sid, payload in self.frames():
            if kind == GOAWAY:
                return "goaway", struct.unpack(">II", payload[:8])[1], payload[8:]
            if sid != stream:
                continue
            if kind == HEADERS:
                head += payload
            if kind == DATA:
                data += payload
            if kind == RST:
                return head, data, struct.unpack(">I", payload)[0]
            if flags & 1 and kind in (DATA, HEADERS):
                return head, data, None
        return "closed", b"", None

    def close(self):
        self.s.close()


class Server(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = rpc_kit.serve("-", limit=1000)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def tearDown(self):
        self.assertEqual(self.call([frame(HEADERS, 4, 1, request()), frame(DATA, 1, 1, message(HELLO))])[1], message(HELLO))

    def call(self, frames, stream=1):
        p = Peer(self.server.address)
        p.send(*frames)
        a = p.answer(stream)
        p.close()
        return a

    def status(self, frames, status, text=b""):
        """An answer without data: its grpc-status and a part of its grpc-message."""
        p = Peer(self.server.address)
        p.send(*frames)
        head, data, reset = p.answer()
        p.close()
        self.assertIsInstance(head, bytes, (head, data, reset))
        fields = dict(hpack(head))
        self.assertEqual(fields.get("grpc-status"), str(status), fields)
        self.assertIn(text, fields.get("grpc-message", "").encode())
        self.assertEqual(data, b"")
        self.assertIn(reset, (None, 0))

    def test_message_in_pieces(self):
        m = message(HELLO)
        pieces = [frame(DATA, 0, 1, bytes([b])) for b in m] + [frame(DATA, 1, 1)]
        self.assertEqual(self.call([frame(HEADERS, 4, 1, request())] + pieces)[1], m)

    def test_framing_errors_of_grpc(self):
        h = frame(HEADERS, 4, 1, request())
        self.status([h, frame(DATA, 1, 1, message(HELLO, flag=1))], 13, b"compressed flag")
        self.status([h, frame(DATA, 1, 1, message(HELLO)[:-2])], 13, b"inside a message")
        self.status([h, frame(DATA, 1, 1, b"\0\0\0")], 13, b"inside a message")
        self.status([h, frame(DATA, 1, 1, message(HELLO) + message(HELLO))], 12, b"more than one")
        self.status([h, frame(DATA, 1, 1)], 12, b"no request message")
        self.status([frame(HEADERS, 5, 1, request())], 12, b"no request message")
        self.status([h, frame(DATA, 0, 1, message(b"", length=1001))], 8, b"1001 bytes, the limit is 1000")
        self.status([h, frame(DATA, 0, 1, message(b"", length=0xffffffff))], 8, b"4294967295 bytes")

    def test_request_headers(self):
        for timeout in ("", "5", "S", "5s", "123456789S", "-1S", "1 S", "99999999999H"):
            self.status([frame(HEADERS, 5, 1, request("/node.NodeServices/handshake", ("grpc-timeout", timeout)))], 13, b"grpc-timeout")
        self.status([frame(HEADERS, 5, 1, request("/node.NodeServices/handshake", ("grpc-encoding", "snappy")))], 12, b"'snappy'")
        self.status([frame(HEADERS, 5, 1, request("/" + "x" * 5000))], 12, b"unknown method")
        long = request("/x", *[("k%d" % i, "v" * 500) for i in range(40)])
        self.status([frame(HEADERS, 1, 1, long[:16384]), frame(CONT, 4, 1, long[16384:])], 8, b"header fields")
        self.status([frame(HEADERS, 4, 1, request("/node.NodeServices/handshake", ("grpc-timeout", "0S"))), frame(DATA, 0, 1, b"\0")], 4)
        self.status([frame(HEADERS, 4, 1, request("/node.NodeServices/handshake", ("grpc-timeout", "100m"))), frame(DATA, 0, 1, b"\0")], 4)

    def test_not_grpc(self):
        for method, ct, want in (("GET", None, "405"), ("PUT", "application/grpc", "405"), ("POST", None, "415"), ("POST", "text/html", "415"),
                                 ("POST", "application/grpc-web", "415")):
            head, _, _ = self.call([frame(HEADERS, 5, 1, request(method=method, ct=ct))])
            self.assertEqual(dict(hpack(head))[":status"], want)

    def test_protocol_errors_cost_the_connection(self):
        for bad in (frame(DATA, 1, 1, b"x"), frame(SETTINGS, 0, 1), frame(PING, 0, 0, b"short"), frame(WINDOW, 0, 0, b"\0\0\0\0"),
                    frame(HEADERS, 5, 2, request()), frame(CONT, 4, 1, b""), b"\xff\xff\xff" + frame(DATA, 0, 1)[3:], frame(PUSH, 4, 1, b"\0\0\0\2"),
                    frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff"), frame(SETTINGS, payload=b"\0\5\0\0\0\1")):
            a = self.call([bad])
            self.assertEqual(a[0], "goaway", (bad, a))
            self.assertNotEqual(a[1], 0)

    def test_stream_errors_cost_the_stream(self):
        p = Peer(self.server.address)
        p.send(frame(HEADERS, 5, 1, block((":method", "POST"), (":path", "/x"))))  # no scheme
        self.assertEqual(p.answer(1)[2], 1)
        p.send(frame(HEADERS, 5, 3, request("/x", ("Upper", "x"))))
        self.assertEqual(p.answer(3)[2], 1)
        p.send(frame(HEADERS, 4, 5, request("/node.NodeServices/handshake", ("content-length", "3"))), frame(DATA, 1, 5, message(HELLO)))
        self.assertEqual(p.answer(5)[2], 1)
        p.send(frame(HEADERS, 4, 7, request()), frame(DATA, 1, 7, message(HELLO)))
        self.assertEqual(p.answer(7)[1], message(HELLO))
        p.close()

    def flood(self, what, n=60000):
        p = Peer(self.server.address)
        ended = threading.Event()
        out = []

        def read():
            for kind, _, _, payload in p.frames():
                if kind == GOAWAY:
                    out.append(struct.unpack(">II", payload[:8])[1])
            ended.set()
        threading.Thread(target=read, daemon=True).start()
        for i in range(0, n, 500):
            if ended.is_set():
                break
            p.send(*[what(j) for j in range(i, i + 500)])
        self.assertTrue(ended.wait(10), "the flood is endured")
        p.close()
        self.assertTrue(not out or out[0] != 0, out)

    def test_floods_cost_the_connection(self):
        self.flood(lambda i: frame(PING, 0, 0, b"12345678"))
        self.flood(lambda i: frame(SETTINGS))
        self.flood(lambda i: frame(PRIORITY, 0, 1, b"\0\0\0\0\0"))
        self.flood(lambda i: frame(WINDOW, 0, 0, b"\0\0\0\1"))
        self.flood(lambda i: frame(HEADERS, 4, 2 * i + 1, request()) + frame(RST, 0, 2 * i + 1, b"\0\0\0\x08"), 5000)
        self.flood(lambda i: frame(HEADERS, 4, 1, request()) if i == 0 else frame(DATA, 0, 1))
        self.flood(lambda i: frame(HEADERS, 0, 1, request()) if i == 0 else frame(CONT, 0, 1, b""))
        self.flood(lambda i: frame(SETTINGS, payload=b"\0\4\0\0\xff\xff" * 100), 500)

    def test_ping_without_reading_costs_the_connection(self):
        p = Peer(self.server.address)
        p.s.settimeout(0.5)
        sent = 0
        try:
            while sent < 200000:
                p.s.sendall(frame(PING, 0, 0, b"12345678") * 100)
                sent += 100
        except OSError:
            pass
        p.close()
        self.assertLess(sent, 200000)

    def test_too_many_streams_are_refused(self):
        p = Peer(self.server.address)
        p.send(*[frame(HEADERS, 4, 2 * i + 1, request("/node.NodeServices/send")) for i in range(140)])
        refused = [sid for kind, _, sid, payload in self.some(p, 12) if kind == RST and payload == b"\0\0\0\7"]
        p.close()
        self.assertEqual(len(refused), 12)

    def some(self, p, n):
        got = []
        for f in p.frames():
            if f[0] == RST:
                got.append(f)
            if f[0] == GOAWAY or len(got) == n:
                return got
        return got

    def test_memory_is_not_held_for_what_was_not_sent(self):
        server = rpc_kit.serve("-", limit=1 << 30)
        try:
            p = Peer(server.address)
            p.send(*[frame(HEADERS, 4, 2 * i + 1, request("/node.NodeServices/send")) + frame(DATA, 0, 2 * i + 1, message(b"x", length=1 << 30))
                     for i in range(20)])
            head, _, _ = p.answer(5)  # two may be announced, the third is too many
            self.assertEqual(dict(hpack(head))["grpc-status"], "8")
            rss = int(next(line.split()[1] for line in open(f"/proc/{server.proc.pid}/status") if line.startswith("VmRSS")))
            self.assertLess(rss, 120_000)
            p.close()
        finally:
            server.close()

    def test_pause_in_a_response_window(self):
        """A client that gives no window gets nothing more than it allows, and the rest when it allows it."""
        p = Peer(self.server.address, settings=b"\0\4\0\0\0\3")
        p.send(frame(HEADERS, 4, 1, request()), frame(DATA, 1, 1, message(HELLO)))
        data, ended = b"", False
        for kind, flags, sid, payload in p.frames():
            if kind == DATA:
                self.assertLessEqual(len(payload), 3)
                data += payload
                p.send(frame(WINDOW, 0, 1, struct.pack(">I", len(payload))))
            ended = kind == HEADERS and bool(flags & 1)
            if ended:
                break
        p.close()
        self.assertTrue(ended)
        self.assertEqual(data, message(HELLO))


def hpack(data):
    """The header fields of a connection's first blocks, by libnghttp2's inflater."""
    import ctypes
    lib = ctypes.CDLL("libnghttp2.so.14")

    class NV(ctypes.Structure):
        _fields_ = [("name", ctypes.POINTER(ctypes.c_uint8)), ("value", ctypes.POINTER(ctypes.c_uint8)), ("namelen", ctypes.c_size_t),
                    ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]
    inflater = ctypes.c_void_p()
    assert lib.nghttp2_hd_inflate_new(ctypes.byref(inflater)) == 0
    lib.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
    lib.nghttp2_hd_inflate_hd2.argtypes = [ctypes.c_void_p, ctypes.POINTER(NV), ctypes.POINTER(ctypes.c_int), ctypes.c_char_p, ctypes.c_size_t,
                                           ctypes.c_int]
    fields = []
    while True:
        nv, flags = NV(), ctypes.c_int(0)
        n = lib.nghttp2_hd_inflate_hd2(inflater, ctypes.byref(nv), ctypes.byref(flags), data, len(data), 1)
        assert n >= 0, n
        data = data[n:]
        if flags.value & 2:
            fields.append((bytes(nv.name[:nv.namelen]).decode(), bytes(nv.value[:nv.valuelen]).decode("latin-1")))
        if flags.value & 1 or (n == 0 and not flags.value & 2):
            break
    lib.nghttp2_hd_inflate_del(inflater)
    return fields


class Client(unittest.TestCase):
    """Our client against a server that says what the test wants."""

    def answer(self, *frames, method="handshake", argument="x", close=False, timeout_ms=3000):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)

        def run():
            conn, _ = listener.accept()
            conn.settimeout(10)
            buf = b""
            conn.sendall(frame(SETTINGS) + frame(SETTINGS, 1))
            try:
                while b"\x01\x04\x00\x00\x00\x01" not in buf:  # HEADERS of stream 1
                    more = conn.recv(65536)
                    if not more:
                        return
                    buf += more
                conn.sendall(b"".join(frames))
                if close:
                    conn.close()
                    return
                while conn.recv(65536):
                    pass
            except OSError:
                pass
            finally:
                conn.close()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        r = rpc_kit.call("-", "127.0.0.1:%d" % listener.getsockname()[1], method, argument, timeout_ms=timeout_ms)
        listener.close()
        return r

    def check(self, code, text, *frames, **kwargs):
        r = self.answer(*frames, **kwargs)
        self.assertEqual(r.name, code, r.text)
        self.assertIn(text, r.message)
        return r

    HEAD = [(":status", "200"), ("content-type", "application/grpc")]

    def head(self, *more, end=False):
        return frame(HEADERS, 5 if end else 4, 1, block(*self.HEAD, *more))

    def trailers(self, *fields):
        return frame(HEADERS, 5, 1, block(*fields))

    def test_good(self):
        r = self.check("OK", "", self.head(), frame(DATA, 0, 1, message(HELLO)), self.trailers(("grpc-status", "0")))
        self.assertEqual(r.response, "hello")

    def test_statuses(self):
        self.check("NOT_FOUND", "nobody: %", self.head(("grpc-status", "5"), ("grpc-message", "nobody: %25"), end=True))
        self.check("UNKNOWN", "", self.head(("grpc-status", "99"), end=True))
        self.check("UNKNOWN", "no number", self.head(("grpc-status", "x"), end=True))
        self.check("UNKNOWN", "without a grpc-status", self.head(), frame(DATA, 1, 1, message(HELLO)))
        self.check("UNKNOWN", "without a grpc-status", self.head(), frame(DATA, 0, 1, message(HELLO)), self.trailers(("x", "y")))
        self.check("UNIMPLEMENTED", "no response message", self.head(("grpc-status", "0"), end=True))
        self.check("INTERNAL", "inside a message", self.head(), frame(DATA, 0, 1, message(HELLO)[:-1]), self.trailers(("grpc-status", "0")))
        self.check("UNIMPLEMENTED", "more than one", self.head(), frame(DATA, 0, 1, message(HELLO) * 2), self.trailers(("grpc-status", "0")))
        self.check("INTERNAL", "compressed", self.head(), frame(DATA, 0, 1, message(HELLO, flag=1)), self.trailers(("grpc-status", "0")))
        self.check("RESOURCE_EXHAUSTED", "the limit is", self.head(), frame(DATA, 0, 1, message(b"", length=0xfffffff0)))

    def test_http_statuses(self):
        for status, code in ((400, "INTERNAL"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "UNIMPLEMENTED"), (429, "UNAVAILABLE"),
                             (502, "UNAVAILABLE"), (503, "UNAVAILABLE"), (504, "UNAVAILABLE"), (500, "UNKNOWN")):
            self.check(code, "HTTP status %d" % status, frame(HEADERS, 4, 1, block((":status", str(status)), ("content-type", "text/html"))),
                       frame(DATA, 1, 1, b"<html>"))
        self.check("UNKNOWN", "not gRPC: its content-type is 'text/html'", frame(HEADERS, 4, 1, block((":status", "200"), ("content-type", "text/html"))),
                   frame(DATA, 1, 1, b"<html>"))
        self.check("PERMISSION_DENIED", "no", frame(HEADERS, 5, 1, block((":status", "403"), ("content-type", "application/grpc"), ("grpc-status", "7"),
                                                                         ("grpc-message", "no"))))

    def test_resets(self):
        for h2, code in ((0, "UNKNOWN"), (1, "INTERNAL"), (2, "INTERNAL"), (3, "INTERNAL"), (8, "CANCELLED"), (11, "RESOURCE_EXHAUSTED"),
                         (12, "PERMISSION_DENIED")):
            self.check(code, "", frame(RST, 0, 1, struct.pack(">I", h2)))

    def test_connection_ends(self):
        self.check("UNAVAILABLE", "closed the connection", close=True)
        self.check("UNAVAILABLE", "closed the connection", self.head(), frame(DATA, 0, 1, message(HELLO)), close=True)
        self.check("UNAVAILABLE", "HTTP/2", frame(DATA, 0, 7, b"x"))
        self.check("DEADLINE_EXCEEDED", "", timeout_ms=300)

    def test_large_response_headers(self):
        self.check("RESOURCE_EXHAUSTED", "header fields", frame(HEADERS, 0, 1, block(*self.HEAD, ("x", "y" * 16000))),
                   frame(CONT, 4, 1, block(("x", "y" * 16000))))

    def test_refused_stream_is_tried_once_more(self):
        """On the same connection: the server has not looked at the first."""
        good = frame(HEADERS, 4, 3, block(*self.HEAD)) + frame(DATA, 0, 3, message(HELLO)) + frame(HEADERS, 5, 3, block(("grpc-status", "0")))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def run():
            conn, _ = listener.accept()
            conn.sendall(frame(SETTINGS) + frame(SETTINGS, 1))
            refused = False
            buf = b""
            while True:
                more = conn.recv(65536)
                if not more:
                    return
                buf += more
                if not refused and b"\x01\x04\x00\x00\x00\x01" in buf:
                    conn.sendall(frame(RST, 0, 1, b"\0\0\0\7"))
                    refused = True
                if refused and b"\x01\x04\x00\x00\x00\x03" in buf:
                    conn.sendall(good)
                    buf = b""
        threading.Thread(target=run, daemon=True).start()
        r = rpc_kit.call("-", "127.0.0.1:%d" % listener.getsockname()[1], "handshake", "x")
        self.assertEqual((r.name, r.response), ("OK", "hello"), r.text)

    def test_frame_sizes_of_a_large_request(self):
        """The peer's MAX_FRAME_SIZE (16 KiB, never raised here) and windows hold."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sizes = []

        def run():
            conn, _ = listener.accept()
            conn.sendall(frame(SETTINGS) + frame(SETTINGS, 1))
            buf, got, credit = b"", 0, 65535
            while True:
                more = conn.recv(65536)
                if not more:
                    return
                buf += more
                if buf.startswith(PREFACE):
                    buf = buf[len(PREFACE):]
                while len(buf) >= 9:
                    n = int.from_bytes(buf[:3], "big")
                    if len(buf) < 9 + n:
                        break
                    kind, flags = buf[3], buf[4]
                    buf = buf[9 + n:]
                    if kind == DATA:
                        sizes.append(n)
                        got += n
                        credit -= n
                        assert credit >= 0
                        if n:
                            conn.sendall(frame(WINDOW, 0, 0, struct.pack(">I", n)) + frame(WINDOW, 0, 1, struct.pack(">I", n)))
                            credit += n
                        if flags & 1:
                            conn.sendall(frame(HEADERS, 4, 1, block(*self.HEAD)) + frame(DATA, 0, 1, message(HELLO)) +
                                         frame(HEADERS, 5, 1, block(("grpc-status", "0"))))
        threading.Thread(target=run, daemon=True).start()
        r = rpc_kit.call("-", "127.0.0.1:%d" % listener.getsockname()[1], "send", 1_000_000)
        self.assertEqual(r.response, "hello", r.text)
        self.assertLessEqual(max(sizes), 16384)
        self.assertGreater(sum(sizes), 1_000_000)


if __name__ == "__main__":
    unittest.main()
