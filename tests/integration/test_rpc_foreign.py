# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Our gRPC against that of others: Debian's grpcio and grpc++ as clients of our server and as servers of our client; openssl, curl and
nghttp at the edges of TLS and HTTP/2."""
import concurrent.futures
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import rpc_kit  # noqa: E402
from pki_kit import Kit  # noqa: E402

import grpc  # noqa: E402

TMP = Path(tempfile.mkdtemp(prefix="pfl-rpc-"))
GENERATED = TMP / "py"
GENERATED.mkdir()
subprocess.run(["/usr/bin/protoc", f"-I{rpc_kit.SRC}/proto", "-I/usr/include", f"--python_out={GENERATED}", "node.proto", "health.proto",
                "reflection.proto", "reflection_v1alpha.proto"], check=True)
sys.path.insert(0, str(GENERATED))
import health_pb2  # noqa: E402
import node_pb2  # noqa: E402
import reflection_pb2  # noqa: E402
import reflection_v1alpha_pb2  # noqa: E402
from google.protobuf import descriptor_pb2, empty_pb2  # noqa: E402

CERTS = None


def setUpModule():
    global CERTS
    CERTS = Kit(TMP / "certs")


def tearDownModule():
    shutil.rmtree(TMP)


def good():
    return CERTS.case("good").dir


def read(path):
    return Path(path).read_bytes()


OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


def credentials(certs):
    return grpc.ssl_channel_credentials(read(certs / "ca.crt"), read(certs / "client.key"), read(certs / "client.crt"))


class Stub:
    def __init__(self, channel):
        self.channel = channel
        node = "/node.NodeServices/"
        unary = channel.unary_unary
        self.handshake = unary(node + "handshake", node_pb2.HandShakeRequest.SerializeToString, node_pb2.ResponseMessage.FromString)
        self.send = unary(node + "send", node_pb2.RootMessage.SerializeToString, node_pb2.ResponseMessage.FromString)
        self.disconnect = unary(node + "disconnect", node_pb2.HandShakeRequest.SerializeToString, empty_pb2.Empty.FromString)


def shake(addr):
    return node_pb2.HandShakeRequest(addr=addr)


def weights(n):
    return node_pb2.RootMessage(source="127.0.0.1:1", round=-1, cmd="add_model", weights=node_pb2.Weights(weights=b"w" * n, num_samples=1))


class GrpcioCallsUs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = rpc_kit.serve(good())
        cls.channel = grpc.secure_channel(cls.server.address, credentials(good()), OPTIONS)
        cls.stub = Stub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.close()

    def fails(self, code, function, *args, **kwargs):
        with self.assertRaises(grpc.RpcError) as caught:
            function(*args, **kwargs)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception.details()

    def test_handshake_send_disconnect(self):
        self.assertEqual(self.stub.handshake(shake("127.0.0.1:6666"), timeout=5).response, "127.0.0.1:6666")
        self.assertEqual(self.stub.disconnect(shake("127.0.0.1:6666")), empty_pb2.Empty())
        for n in (0, 1, 16384, 100_000, 4_000_000):
            m = weights(n)
            self.assertEqual(self.stub.send(m, timeout=20).response, f"{m.ByteSize()} bytes")

    def test_status_and_message_of_a_handler(self):
        self.assertEqual(self.fails(grpc.StatusCode.ABORTED, self.stub.handshake, shake("fail")), "as you wish: 100 % ü")

    def test_deadline(self):
        self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, self.stub.handshake, shake("slow"), timeout=0.3)
        self.assertEqual(self.stub.handshake(shake("after"), timeout=5).response, "after")

    def test_oversize(self):
        for _ in range(3):
            m = weights(20 << 20)
            self.assertEqual(self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, self.stub.send, m),
                             f"the message is {m.ByteSize()} bytes, the limit is {4 << 20}")
        self.assertEqual(self.stub.handshake(shake("after"), timeout=5).response, "after")

    def test_unimplemented(self):
        for path in ("/node.NodeServices/nothing", "/other.Service/handshake"):
            call = self.channel.unary_unary(path)
            self.assertEqual(self.fails(grpc.StatusCode.UNIMPLEMENTED, call, b""), f"unknown method '{path}'")

    def test_compression_is_refused(self):
        details = self.fails(grpc.StatusCode.UNIMPLEMENTED, self.stub.send, weights(10000), compression=grpc.Compression.Gzip)
        self.assertIn("grpc-encoding 'gzip'", details)

    def test_stream_to_unary_method(self):
        call = self.channel.stream_unary("/node.NodeServices/handshake")
        self.fails(grpc.StatusCode.UNIMPLEMENTED, call, iter([b"", b""]))
        self.fails(grpc.StatusCode.UNIMPLEMENTED, call, iter([]))

    def test_many_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            results = pool.map(lambda i: self.stub.handshake(shake(f"n{i}"), timeout=20).response, range(400))
            self.assertEqual(list(results), [f"n{i}" for i in range(400)])

    def test_cancel(self):
        future = self.stub.handshake.future(shake("slow"))
        future.cancel()
        self.assertTrue(future.cancelled())
        self.assertEqual(self.stub.handshake(shake("after"), timeout=5).response, "after")

    def test_metadata_is_ignored_up_to_the_limit(self):
        self.assertEqual(self.stub.handshake(shake("x"), metadata=[("k", "v" * 1000)]).response, "x")
        self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, self.stub.handshake, shake("x"), metadata=[("k%d" % i, "v" * 1000) for i in range(20)])

    def test_health(self):
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest.SerializeToString,
                                         health_pb2.HealthCheckResponse.FromString)
        for service in ("", "node.NodeServices", "grpc.health.v1.Health"):
            self.assertEqual(check(health_pb2.HealthCheckRequest(service=service)).status, health_pb2.HealthCheckResponse.SERVING)
        self.fails(grpc.StatusCode.NOT_FOUND, check, health_pb2.HealthCheckRequest(service="node.Other"))

    def reflect(self, version, pb, *requests):
        call = self.channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                                          pb.ServerReflectionRequest.SerializeToString, pb.ServerReflectionResponse.FromString)
        return list(call(iter(pb.ServerReflectionRequest(**r) for r in requests), timeout=10))

    def test_reflection(self):
        for version, pb in (("v1", reflection_pb2), ("v1alpha", reflection_v1alpha_pb2)):
            answers = self.reflect(version, pb, {"list_services": ""}, {"file_by_filename": "node.proto"},
                                   {"file_containing_symbol": "node.NodeServices.send"}, {"file_containing_symbol": "node.Weights"},
                                   {"file_containing_symbol": "google.protobuf.Empty"}, {"file_containing_symbol": "node.Nothing"},
                                   {"host": "h"}, {"file_containing_symbol": "grpc.health.v1.HealthCheckResponse.ServingStatus"})
            self.assertEqual(len(answers), 8)
            names = [s.name for s in answers[0].list_services_response.service]
            self.assertEqual(sorted(names), ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                             "grpc.reflection.v1alpha.ServerReflection", "node.NodeServices"])
            for a in answers[1:4]:
                files = [descriptor_pb2.FileDescriptorProto.FromString(f) for f in a.file_descriptor_response.file_descriptor_proto]
                self.assertEqual([f.name for f in files], ["node.proto", "google/protobuf/empty.proto"])
                self.assertEqual([m.name for m in files[0].service[0].method], ["handshake", "disconnect", "send"])
            self.assertEqual(answers[2].original_request.file_containing_symbol, "node.NodeServices.send")
            self.assertEqual(len(answers[4].file_descriptor_response.file_descriptor_proto), 1)
            self.assertEqual(answers[5].error_response.error_code, grpc.StatusCode.NOT_FOUND.value[0])
            self.assertEqual(answers[6].error_response.error_code, grpc.StatusCode.INVALID_ARGUMENT.value[0])
            self.assertEqual(answers[7].file_descriptor_response.file_descriptor_proto[0][:15], b"\x0a\x0chealth.proto\x12")

    def refused(self, creds, reason):
        seen = len(self.server.lines)
        with grpc.secure_channel(self.server.address, creds, OPTIONS) as channel:
            self.fails(grpc.StatusCode.UNAVAILABLE, Stub(channel).handshake, shake("x"), timeout=5)
        self.server.wait_for(reason, skip=seen)

    def test_bad_certificates(self):
        self.refused(grpc.ssl_channel_credentials(read(good() / "ca.crt")), "REFUSED .*: no client certificate")
        other = CERTS.case("other-ca").dir
        creds = grpc.ssl_channel_credentials(read(good() / "ca.crt"), read(other / "client.key"), read(other / "client.crt"))
        self.refused(creds, "REFUSED .*certificate refused: not signed by the federation's CA")
        self.assertEqual(self.stub.handshake(shake("after"), timeout=5).response, "after")

    def test_their_check_of_us_reaches_our_log(self):
        other = CERTS.case("other-ca").dir
        creds = grpc.ssl_channel_credentials(read(CERTS.other.crt), read(other / "client.key"), read(other / "client.crt"))
        # this gRPC closes without sending its alert; s_client sends it
        self.refused(creds, "REFUSED .*the peer closed the connection during the TLS handshake")
        seen = len(self.server.lines)
        subprocess.run(["openssl", "s_client", "-connect", self.server.address, "-CAfile", str(CERTS.other.crt), "-verify_return_error",
                        "-alpn", "h2"], input=b"", capture_output=True, timeout=20)
        self.server.wait_for("REFUSED .*the peer refused our certificate: unknown CA", skip=seen)


class Servicer(grpc.GenericRpcHandler):
    def service(self, details):
        method = {"handshake": self.handshake, "send": self.send, "disconnect": self.disconnect}.get(details.method.rpartition("/")[2])
        return method and grpc.unary_unary_rpc_method_handler(method)

    def handshake(self, request, context):
        addr = node_pb2.HandShakeRequest.FromString(request).addr
        if addr == "fail":
            context.abort(grpc.StatusCode.ABORTED, "as you wish: 100 % ü\n")
        if addr == "slow":
            self.cancelled.clear()
            context.add_callback(self.cancelled.set)
            self.cancelled.wait(5)
        return node_pb2.ResponseMessage(response="r" * (10 << 20) if addr == "big" else addr).SerializeToString()

    def send(self, request, context):
        return node_pb2.ResponseMessage(response=f"{len(request)} bytes").SerializeToString()

    def disconnect(self, request, context):
        return b""


class WeCallGrpcio(unittest.TestCase):
    def setUp(self):
        import threading
        servicer = Servicer()
        servicer.cancelled = threading.Event()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), [servicer], options=OPTIONS)
        creds = grpc.ssl_server_credentials([(read(good() / "server.key"), read(good() / "server.crt"))], read(good() / "ca.crt"), True)
        self.target = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', creds)}"
        self.server.start()
        self.addCleanup(lambda: self.server.stop(None).wait())

    def check(self, method, argument, code, response="", message=None, certs=None, **kwargs):
        r = rpc_kit.call(certs or good(), self.target, method, argument, **kwargs)
        self.assertEqual((r.name, r.response), (code, response), r.text)
        if message is not None:
            self.assertIn(message, r.message)
        return r

    def test_all(self):
        self.check("handshake", "127.0.0.1:1", "OK", "127.0.0.1:1")
        self.check("disconnect", "127.0.0.1:1", "OK")
        self.check("send", 0, "OK", "30 bytes")
        self.check("send", 30_000_000, "OK", f"{30_000_000 + 36} bytes")
        self.check("handshake", "fail", "ABORTED", message="as you wish: 100 % ü\\x0a")
        self.check("handshake", "slow", "DEADLINE_EXCEEDED", timeout_ms=300)
        self.check("nothing", "x", "UNIMPLEMENTED")
        self.check("send", 70 << 20, "RESOURCE_EXHAUSTED", message="Received message larger than max")
        self.check("handshake", "big", "RESOURCE_EXHAUSTED", message="the limit is 4194304")
        self.assertEqual(rpc_kit.call(good(), self.target, "handshake", "big", response_limit=11 << 20).len, (10 << 20) + 5)

    def test_refused_by_it(self):
        # this gRPC closes without sending its alert
        self.check("handshake", "x", "UNAVAILABLE", certs=CERTS.case("other-ca").dir, message="it may have refused our certificate")

    def test_refused_by_us(self):
        creds = grpc.ssl_server_credentials([(read(CERTS.case("other-ca").dir / "server.key"), read(CERTS.case("other-ca").dir / "server.crt"))])
        self.target = self.other_server(creds)
        self.check("handshake", "x", "UNAUTHENTICATED", message="certificate refused: not signed by the federation's CA")

    def other_server(self, creds):
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        port = server.add_secure_port("127.0.0.1:0", creds)
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        return f"127.0.0.1:{port}"

    def test_plaintext_server(self):
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        self.check("handshake", "x", "UNAVAILABLE", message="not TLS: the first bytes look like plain HTTP/2")


class GrpcPlusPlus(unittest.TestCase):
    PEER = rpc_kit.BUILD / "grpcpp_peer"

    def test_as_client(self):
        server = rpc_kit.serve(good())
        self.addCleanup(server.close)
        done = subprocess.run([str(self.PEER), "call", str(good()), server.address], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("OK "), 8, done.stdout)

    def test_as_server(self):
        server = rpc_kit.Server(self.PEER, "serve", good(), "127.0.0.1:0")
        self.addCleanup(server.close)

        def check(method, argument, code, response="", message="", **kwargs):
            r = rpc_kit.call(good(), server.address, method, argument, **kwargs)
            self.assertEqual((r.name, r.response), (code, response), r.text)
            self.assertIn(message, r.message)

        check("handshake", "127.0.0.1:1", "OK", "127.0.0.1:1")
        check("disconnect", "127.0.0.1:1", "OK")
        check("send", 30_000_000, "OK", f"{30_000_000 + 36} bytes")
        check("handshake", "fail", "ABORTED", message="as you wish: 100 % ü")
        check("handshake", "slow", "DEADLINE_EXCEEDED", timeout_ms=300)
        check("nothing", "x", "UNIMPLEMENTED")
        check("send", 70 << 20, "RESOURCE_EXHAUSTED")
        check("handshake", "big", "RESOURCE_EXHAUSTED", message="the limit is 4194304")


class Edges(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = rpc_kit.serve(good())
        cls.plain = rpc_kit.serve("-")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.plain.close()

    def still_serves(self):
        r = rpc_kit.call(good(), self.server.address, "handshake", "after")
        self.assertEqual(r.response, "after", r.text)

    def s_client(self, *more):
        done = subprocess.run(["openssl", "s_client", "-connect", self.server.address, "-CAfile", str(good() / "ca.crt"), "-verify_return_error",
                               "-ign_eof", *more], input=b"", capture_output=True, timeout=20)
        return (done.stdout + done.stderr).decode(errors="replace")

    def client_cert(self):
        return ["-cert", str(good() / "client.crt"), "-key", str(good() / "client.key")]

    def test_s_client(self):
        seen = len(self.server.lines)
        self.assertIn("alert certificate required", self.s_client("-alpn", "h2"))
        self.server.wait_for("no client certificate", skip=seen)
        text = self.s_client("-alpn", "h2", "-no_ign_eof", *self.client_cert())
        for part in ("Verify return code: 0 (ok)", "ALPN protocol: h2", "TLSv1.3", "Acceptable client certificate CA names"):
            self.assertIn(part, text)
        self.assertNotIn("New Session Ticket", text)
        self.assertIn("no application protocol", self.s_client(*self.client_cert()))
        self.assertIn("no application protocol", self.s_client("-alpn", "http/1.1", *self.client_cert()))
        seen = len(self.server.lines)
        self.assertIn("protocol version", self.s_client("-tls1_2", "-alpn", "h2", *self.client_cert()))
        self.server.wait_for("TLS version too old: the peer offers TLS 1.2", skip=seen)
        self.assertIn("protocol version", self.s_client("-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2", *self.client_cert()))
        self.server.wait_for("TLS version too old: the peer offers TLS 1.1", skip=seen)
        self.still_serves()

    def curl(self, *args):
        done = subprocess.run(["curl", "-sS", "-o", "-", "-w", "%{http_code} %{http_version}", *args], capture_output=True, text=True, timeout=20)
        return done.stdout + done.stderr

    def mtls(self):
        return ["--cacert", str(good() / "ca.crt"), "--cert", str(good() / "client.crt"), "--key", str(good() / "client.key")]

    def test_curl(self):
        url = f"https://{self.server.address}/node.NodeServices/handshake"
        plain = f"http://{self.plain.address}/node.NodeServices/handshake"
        for base, more in ((url, ["--http2", *self.mtls()]), (plain, ["--http2-prior-knowledge"])):
            self.assertIn("405 2", self.curl(*more, base))
            self.assertIn("415 2", self.curl(*more, "-d", "x", base))
            self.assertIn("415 2", self.curl(*more, "-H", "content-type: application/grpcx", "-d", "x", base))
            head = self.curl(*more, "-D", "-", "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "12345", base)
            self.assertRegex(head, r"(?s)200 2.*|grpc-status: 13")
        self.assertRegex(self.curl("--http1.1", *self.mtls(), url), "alert|no application protocol")
        self.assertIn("400 1.1", self.curl("--http1.1", f"http://{self.server.address}/"))
        self.assertIn("400 1.1", self.curl("--http1.1", plain))
        self.assertIn("400 1.1", self.curl("--http2", plain))  # an upgrade from HTTP/1.1 is not offered
        self.server.wait_for("not TLS: the first bytes look like plain HTTP/1")
        self.curl("--http2-prior-knowledge", f"http://{self.server.address}/")
        self.server.wait_for("not TLS: the first bytes look like plain HTTP/2")
        self.still_serves()

    def test_nghttp(self):
        body = TMP / "body"
        body.write_bytes(b"\0\0\0\0\x03\x0a\x01x")
        done = subprocess.run(["nghttp", "-v", "-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers",
                               f"http://{self.plain.address}/node.NodeServices/handshake"], capture_output=True, timeout=20)
        text = done.stdout.decode(errors="replace")
        for part in (":status: 200", "grpc-status: 0", "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):128", "SETTINGS_MAX_HEADER_LIST_SIZE(0x06):16384"):
            self.assertIn(part, text)

    def test_plain_text_and_garbage_on_the_tls_port(self):
        for data, reason in ((b"hello world, this is text\n", "not TLS: the first bytes are 'hello world"),
                             (b"\x16\x03\x01\x00\x05nonsense", "TLS failed"),
                             (b"\x15\x03\x03\x00\x02\x02\x30", "TLS failed")):
            seen = len(self.server.lines)
            with socket.create_connection(("127.0.0.1", self.server.port)) as s:
                s.sendall(data)
                s.settimeout(5)
                while s.recv(1000):
                    pass
            self.server.wait_for(reason, skip=seen)
        self.still_serves()


if __name__ == "__main__":
    unittest.main()
