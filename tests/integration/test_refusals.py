# SPDX-License-Identifier: Apache-2.0
"""Who is refused by a node that runs, and why, in its own words: in its log and in its "refused" event.

One good node, linked with one good neighbour, meets every bad certificate of pki_kit as a server (from a node of ours that has it and from
Python's ssl) and as a client (dialling the same two), then peers that speak something else, then peers whose certificates are good but
which claim an address of others. After each case it answers its operator and a good peer, and at the end it has not lost its neighbour
for a moment. What a node does not even start with is in the last class."""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node_kit import Node, node_file, run, wait_until  # noqa: E402
from pki_kit import FILES, SAN, Kit, make_key, openssl  # noqa: E402

# An alert that tells the refused side nothing more than that the certificate was not taken.
REFUSED_US = r"the peer refused our certificate"
SPIFFE = "spiffe://p2pfl/coordinator/"
# What each certificate of the kit is refused for is in the kit. wrong-host as a client and the good ones are below.
BAD_CLIENTS = [name for name, (_, client, _) in Kit.CASES.items() if client and name != "no-cert"]
BAD_SERVERS = [name for name, (server, _, _) in Kit.CASES.items() if server and name != "no-cert"]
STARTS = {name for name, (_, _, load) in Kit.CASES.items() if load is None}


def host_port(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def tls(server, folder=None, alpn=("h2",), lowest=ssl.TLSVersion.TLSv1_3, highest=ssl.TLSVersion.TLSv1_3):
    """A context that checks nothing and takes any key: what is refused is refused by the other side."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an old version is what some cases are about
        ctx.minimum_version, ctx.maximum_version = lowest, highest
    if alpn:
        ctx.set_alpn_protocols(alpn)
    if folder:
        purpose = "server" if server else "client"
        ctx.load_cert_chain(folder / f"{purpose}.crt", folder / f"{purpose}.key")
    return ctx


def dial(address, ctx):
    """Connects, and stays until the other side has ended the connection: what it said, an exception's text or bytes."""
    with socket.create_connection(host_port(address), 20) as raw:
        raw.settimeout(20)
        try:
            with ctx.wrap_socket(raw, server_hostname="127.0.0.1") as s:
                return read_to_end(s)
        except (ssl.SSLError, ConnectionError) as e:
            return str(e)


def read_to_end(s):
    data = b""
    while True:
        chunk = s.recv(65536)
        if not chunk:
            return data
        data += chunk


def say(address, words):
    """Sends bytes without TLS; all that came back."""
    with socket.create_connection(host_port(address), 20) as s:
        s.settimeout(20)
        s.sendall(words)
        s.shutdown(socket.SHUT_WR)
        try:
            return read_to_end(s)
        except ConnectionError:
            return b""


class Impostor:
    """A server that speaks TLS with ctx, or without ctx answers the first bytes with its words; for as many as dial."""

    def __init__(self, ctx=None, words=b"", port=0):
        self.ctx, self.words, self.heard = ctx, words, []
        self.sock = socket.create_server(("127.0.0.1", port))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(conn,), daemon=True).start()

    def _answer(self, conn):
        conn.settimeout(20)
        with conn:
            try:
                if not self.ctx:
                    conn.recv(4096)
                    conn.sendall(self.words)
                    read_to_end(conn)
                    return
                with self.ctx.wrap_socket(conn, server_side=True) as s:
                    self.heard.append(read_to_end(s))
            except OSError as e:  # ssl.SSLError is one
                self.heard.append(str(e))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def field(number, value):
    value = value.encode() if isinstance(value, str) else value
    assert number < 16 and len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def handshake(address):
    """HandShakeRequest: addr, and hello (field 100) with version 1 and codec safetensors."""
    hello = b"\x08\x01" + field(2, "safetensors")
    return field(1, address) + b"\xa2\x06" + bytes([len(hello)]) + hello


def beat(source):
    """RootMessage: a direct message; its source is the caller's claim, as that of gossip is not."""
    return field(1, source) + field(3, "beat") + field(5, field(3, "1.0"))


def channel(address, folder):
    pem = [(folder / file).read_bytes() for file in ("ca.crt", "client.key", "client.crt")]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem), options=[("grpc.use_local_subchannel_pool", 1)])


def call(address, folder, method, request):
    """(code, details) of one call."""
    with channel(address, folder) as ch:
        try:
            ch.unary_unary(method)(request, timeout=20)
        except grpc.RpcError as e:
            return e.code(), e.details()
        return grpc.StatusCode.OK, ""


class Federation:
    """The nodes that the tests share: starting one for each case would take minutes under the sanitizers."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.nodes = []
        try:
            self.kit = Kit(self.dir / "kit")
            self.good = self.start(self.identity("good"))
            self.neighbour = self.start(self.identity("neighbour"))
            self.stranger = self.identity("stranger")  # a third member of the federation: good certificates, no node
            self.neighbour.do("connect", self.good.address)
            wait_until("the two are linked", lambda: self.good.peer(self.neighbour) and self.neighbour.peer(self.good))
        except BaseException:
            self.close()
            raise

    def identity(self, name):
        folder = self.dir / name
        folder.mkdir()
        shutil.copy(self.kit.ca_crt, folder / "ca.crt")
        self.kit.pair(folder, san=f"{SAN},URI:{SPIFFE}{name}")
        return folder

    def start(self, folder, **options):
        node_file(folder, **options)
        self.nodes.append(Node(folder))
        return self.nodes[-1]

    def close(self):
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.dir)


FED = None


def setUpModule():
    global FED
    FED = Federation()


def tearDownModule():
    FED.close()


class Live(unittest.TestCase):
    def setUp(self):
        self.good = FED.good

    def case(self, what, reason, act, peer=None):
        """act() makes the good node refuse somebody: for this reason, told in its event and its log, and it works on."""
        with self.subTest(what):
            before, log_before = len(self.good.events("refused")), len(self.good.log())
            act()
            wait_until(f"{what}: a refusal", lambda: self.good.events("refused")[before:], 20)
            for e in self.good.events("refused")[before:]:
                self.assertRegex(e["reason"], reason)
                self.assertRegex(e["remote"], r"^127\.0\.0\.1:\d+$")
                if peer:
                    self.assertRegex(e["peer"], peer)
                line = f"refused {e['peer']} ({e['remote']}): {e['reason']}"
                wait_until(f"the log says {line}", lambda line=line: line in self.good.log()[log_before:])
            print(f"  {what}: {self.good.events('refused')[-1]['reason']}", file=sys.stderr)
            self.works_on()

    def works_on(self):
        self.assertIsNone(self.good.proc.poll(), self.good.log()[-4000:])
        status = self.good.status()
        self.assertEqual([p["address"] for p in status["peers"]], [FED.neighbour.address])
        self.assertEqual(call(self.good.address, FED.stranger, "/grpc.health.v1.Health/Check", b""), (grpc.StatusCode.OK, ""))

    def cannot_connect(self, node, address, reason):
        done = node.ask("connect", address)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, reason)


class BadCertificates(Live):
    def test_client__of_pythons_ssl(self):
        for name in BAD_CLIENTS:
            case = FED.kit.case(name)
            heard = []
            self.case(f"client {name}", case.client_reason, lambda: heard.append(dial(self.good.address, tls(False, case.dir))))
            self.assertRegex(str(heard[0]), r"alert", name)  # it was told, not just cut off

    def test_server__of_pythons_ssl(self):
        for name in BAD_SERVERS:
            case = FED.kit.case(name)
            with Impostor(tls(True, case.dir)) as impostor:
                self.case(f"server {name}", case.server_reason,
                          lambda: self.cannot_connect(self.good, impostor.address, case.server_reason), peer=impostor.address)
                wait_until("the impostor was told", lambda: impostor.heard)
                self.assertRegex(str(impostor.heard[0]), r"alert", name)  # and no call reached it

    def test_node__both_directions(self):
        for name in sorted(STARTS.intersection(BAD_CLIENTS)):
            case = FED.kit.case(name)
            bad = FED.start(case.dir)
            bad.wait_log(r"peers will refuse this node's certificate: .*" + case.server_reason)
            self.case(f"node {name} dials", case.client_reason, lambda: self.cannot_connect(bad, self.good.address, REFUSED_US))
            self.case(f"node {name} is dialled", case.server_reason,
                      lambda: self.cannot_connect(self.good, bad.address, case.server_reason), peer=bad.address)
            self.assertEqual(bad.status()["peers"], [], name)
            self.assertEqual(bad.stop(), 0, bad.log()[-4000:])

    def test_node__wrong_host(self):
        """As a client its certificate is good for itself; it is the address it gives as its own that it does not cover."""
        case = FED.kit.case("wrong-host")
        bad = FED.start(case.dir)
        claim = rf"does not cover the address '{bad.address}'"
        self.case("node wrong-host dials", claim, lambda: self.cannot_connect(bad, self.good.address, claim))
        self.case("node wrong-host is dialled", case.server_reason,
                  lambda: self.cannot_connect(self.good, bad.address, case.server_reason), peer=bad.address)
        self.assertEqual(bad.status()["peers"], [])
        self.assertEqual(bad.stop(), 0, bad.log()[-4000:])

    def test_none(self):
        self.case("client without certificate", r"no client certificate", lambda: dial(self.good.address, tls(False)))
        reason = r"speaks no TLS version that is allowed here \(1\.3\)|handshake failure"  # TLS 1.3 knows no server without one
        with Impostor(tls(True)) as impostor:
            self.case("server without certificate", reason, lambda: self.cannot_connect(self.good, impostor.address, reason))


class OtherTongues(Live):
    V11, V12, V13 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

    def test_client__not_tls(self):
        for what, words, reason, answer in (
                ("plain TCP", b"hello, who is there?\r\n", r"not TLS: the first bytes are 'hello", rb"^$|^\x15\x03"),
                ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", r"not TLS: the first bytes look like plain HTTP/1", rb"^HTTP/1\.1 400 .*TLS only"),
                ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", r"not TLS: .* plain HTTP/2", rb"^$|^\x15\x03")):
            heard = []
            self.case(f"client speaks {what}", reason, lambda: heard.append(say(self.good.address, words)))
            self.assertRegex(heard[0].replace(b"\n", b" ").replace(b"\r", b" "), answer, what)

    def test_server__not_tls(self):
        for what, words, reason in (
                ("plain TCP", b"220 mail.example ESMTP\r\n", r"not TLS: the first bytes are '220"),
                ("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", r"not TLS: the first bytes look like plain HTTP/1"),
                ("HTTP/2", b"\0\0\0\4\0\0\0\0\0", r"not TLS: the first bytes look like plain HTTP/2")):
            with Impostor(words=words) as impostor:
                self.case(f"server speaks {what}", reason, lambda: self.cannot_connect(self.good, impostor.address, reason))

    def test_client__old_tls(self):
        for what, version in (("TLS 1.1", self.V11), ("TLS 1.2", self.V12)):
            ctx = tls(False, FED.stranger, lowest=version, highest=version)
            reason = rf"TLS version too old: the peer offers {what}, TLS 1\.3 is needed"
            self.case(f"client offers {what}", reason, lambda: dial(self.good.address, ctx))

    def test_server__old_tls(self):
        reason = r"the peer speaks no TLS version that is allowed here \(1\.3\)"
        for what, version in (("TLS 1.1", self.V11), ("TLS 1.2", self.V12)):
            with Impostor(tls(True, FED.stranger, lowest=version, highest=version)) as impostor:
                self.case(f"server has {what}", reason, lambda: self.cannot_connect(self.good, impostor.address, reason))

    def test_no_h2(self):
        old = tls(False, FED.stranger, alpn=["http/1.1"])
        self.case("client offers http/1.1 by ALPN", r"offers 'http/1\.1' by ALPN, HTTP/2", lambda: dial(self.good.address, old))
        reason = r"did not agree on HTTP/2 \('h2'\) by ALPN"
        with Impostor(tls(True, FED.stranger, alpn=None)) as impostor:
            self.case("server knows no ALPN", reason, lambda: self.cannot_connect(self.good, impostor.address, reason))


class Renegotiation(unittest.TestCase):
    """A handshake within a connection is how one peer makes another compute, and how identities change under way. TLS 1.3 has none; TLS
    1.2, where a node allows it, refuses it, and the connection ends or goes on as it was."""

    def test_tls_1_2__refused_and_others_are_served(self):
        folder = FED.identity("twelve")
        path = node_file(folder)
        path.write_text(path.read_text().replace("use_ssl: true", 'use_ssl: true\n    tls_min: "1.2"'))
        node = Node(folder)
        self.addCleanup(node.kill)
        said = self.s_client(node.address, "-tls1_2")
        self.assertIn("RENEGOTIATING", said)
        self.assertRegex(said, "no renegotiation|no_renegotiation")
        self.assertEqual(call(node.address, FED.stranger, "/grpc.health.v1.Health/Check", b""), (grpc.StatusCode.OK, ""))
        self.assertEqual(node.stop(), 0, node.log()[-4000:])

    def test_tls_1_3__there_is_none(self):
        said = self.s_client(FED.good.address, "-tls1_3")
        self.assertIn("RENEGOTIATING", said)
        self.assertRegex(said, "wrong ssl version")  # what the client's own library says of it

    def s_client(self, address, version):
        """What OpenSSL's client says when it is told to renegotiate ("R" at the begin of a line)."""
        argv = ["openssl", "s_client", "-connect", address, version, "-alpn", "h2", "-CAfile", FED.stranger / "ca.crt", "-cert",
                FED.stranger / "client.crt", "-key", FED.stranger / "client.key"]
        client = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with client:
            self.addCleanup(client.kill)
            said = b""
            # Up to where it is connected and has the node's SETTINGS: it bears no data in a handshake of its own.
            while not re.search(rb"Verify return code.*?---\n.{9}", said, re.DOTALL):
                some = os.read(client.stdout.fileno(), 65536)
                if not some:
                    break
                said += some
            client.stdin.write(b"R\n")
            client.stdin.flush()
            return (said + client.communicate(timeout=60)[0]).decode(errors="replace")


class HalfOpen(unittest.TestCase):
    def test_one_address_takes_what_it_may__another_is_served(self):
        folder = FED.identity("besieged")  # a node of its own: so many refusals are told by their number
        node_file(folder)
        node, held = Node(folder), []
        self.addCleanup(node.kill)
        try:
            for _ in range(300):  # more than one address may have, and more than would fit were they all handshakes that others wait for
                held.append(socket.create_connection(host_port(node.address), 20))
            wait_until("the last ones are refused", lambda: len(node.events("refused")) >= 40)
            self.assertIn("too many connections from this address", {e["reason"] for e in node.events("refused")})
            with socket.create_connection(host_port(node.address), 20, source_address=("127.0.0.2", 0)) as raw:
                raw.settimeout(20)
                with tls(False, FED.stranger).wrap_socket(raw, server_hostname="127.0.0.1") as s:
                    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                    self.assertEqual(s.recv(9)[3], 4)  # its SETTINGS
        finally:
            for s in held:
                s.close()
        wait_until("they are forgotten", lambda: call(node.address, FED.stranger, "/grpc.health.v1.Health/Check", b"")[0] == grpc.StatusCode.OK)
        self.assertEqual(node.stop(), 0, node.log()[-4000:])


class FalseClaims(Live):
    """Good certificates, claims that they do not carry."""

    def denied(self, what, method, request, reason, peer):
        def act():
            code, details = call(self.good.address, FED.stranger, f"/node.NodeServices/{method}", request)
            self.assertEqual(code, grpc.StatusCode.PERMISSION_DENIED)
            self.assertRegex(details, reason)
        self.case(f"{method}: {what}", reason, act, peer=peer)

    def test_address_that_the_certificate_does_not_cover(self):
        reason = r"does not cover the address '10\.1\.2\.3:4567' that it claims"
        a = "10.1.2.3:4567"
        for method, request in (("handshake", handshake(a)), ("disconnect", handshake(a)), ("send", beat(a))):
            self.denied("address of another host", method, request, reason, SPIFFE + "stranger")

    def test_address_of_a_neighbour(self):
        a = FED.neighbour.address
        reason = rf"the address '{a}' is held by {SPIFFE}neighbour, this is {SPIFFE}stranger"
        for method, request in (("handshake", handshake(a)), ("disconnect", handshake(a)), ("send", beat(a))):
            self.denied("address of a neighbour", method, request, reason, SPIFFE + "stranger")

    def test_own_words_are_heard(self):
        """The same bytes from whom they are true of: what was denied above was denied for the claim alone."""
        code, _ = call(self.good.address, FED.neighbour.folder, "/node.NodeServices/send", beat(FED.neighbour.address))
        self.assertEqual(code, grpc.StatusCode.OK)  # it gets as far as the node's core (which wants beats by gossip)
        # a server of the stranger's at the address that its handshake claims: the node dials it back
        with Impostor(tls(True, FED.stranger)) as stranger:
            code, details = call(self.good.address, FED.stranger, "/node.NodeServices/handshake", handshake(stranger.address))
            self.assertNotEqual(code, grpc.StatusCode.PERMISSION_DENIED, details)

    def test_port_of_a_neighbour_that_was_killed(self):
        """Another member's certificate, good for the host, at the address of a node that the good one still knows."""
        victim = FED.start(FED.identity("victim"))
        victim.do("connect", self.good.address)
        wait_until("linked", lambda: self.good.peer(victim) and victim.peer(self.good))
        reason = rf"{victim.address} is held by {SPIFFE}victim, but the certificate there is {SPIFFE}stranger's"
        port = host_port(victim.address)[1]
        ctx = tls(True, FED.stranger)
        before = len(self.good.events("refused"))
        victim.kill()
        with wait_until("the port is free", lambda: self.take(ctx, port), 3):
            wait_until("a refusal", lambda: self.good.events("refused")[before:], 20)
            for e in self.good.events("refused")[before:]:
                self.assertRegex(e["reason"], reason)
            print(f"  port of a killed neighbour: {self.good.events('refused')[-1]['reason']}", file=sys.stderr)
            # the neighbour misses its heartbeats later; learning that began in between would wait for the dead one
            wait_until("the dead one is forgotten", lambda: not self.good.peer(victim) and not FED.neighbour.peer(victim))
            self.works_on()

    def take(self, ctx, port):
        try:
            return Impostor(ctx, port=port)
        except OSError:
            return None


class Zz_Afterwards(Live):
    """Last by its name: all of the above went past the good node's neighbour unnoticed."""

    def test_neighbour_was_never_lost(self):
        for node, other in ((self.good, FED.neighbour), (FED.neighbour, self.good)):
            self.assertEqual([e for e in node.events("neighbour_lost") if e.get("address") == other.address], [])
        self.assertEqual(FED.neighbour.events("refused"), [])
        self.works_on()
        self.good.do("learn", "--rounds", "1", "--trainset-size", "2")
        try:
            digests = {n.wait_event("learning_finished", 15)["digest"] for n in (self.good, FED.neighbour)}
        except AssertionError as e:
            raise AssertionError(f"{e}\n{FED.neighbour.log()[-4000:]}{self.good.status()}{FED.neighbour.status()}") from None
        self.assertEqual(len(digests), 1)
        for node in (self.good, FED.neighbour):
            self.assertEqual(node.stop(signal.SIGTERM), 0, node.log()[-4000:])


class RefusesToStart(unittest.TestCase):
    """The address in node.yaml is taken by the test: a node that got as far as listening would complain of that instead."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.taken.close)
        self.address = f"127.0.0.1:{self.taken.getsockname()[1]}"

    def folder(self, name, source=None):
        folder = self.dir / name
        shutil.copytree(source or FED.kit.case("good").dir, folder, ignore=shutil.ignore_patterns("state", "node.yaml", "log"))
        node_file(folder, address=self.address)
        return folder

    def refuses(self, what, folder, reason):
        with self.subTest(what):
            done = run("node", "start", "-c", folder / "node.yaml")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, reason)
            self.assertNotIn("port is taken", done.stderr)
            self.assertFalse((folder / "state" / "control.sock").exists())
            print(f"  {what}: {done.stderr.strip().splitlines()[-1].replace(str(self.dir), '')}", file=sys.stderr)

    def edit(self, folder, old, new):
        path = folder / "node.yaml"
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new))

    def test_good__gets_as_far_as_listening(self):
        done = run("node", "start", "-c", self.folder("good") / "node.yaml")
        self.assertEqual(done.returncode, 1)
        self.assertIn("port is taken", done.stderr)

    def test_missing_file(self):
        for file in FILES:
            folder = self.folder(f"without-{file}")
            (folder / file).unlink()
            self.refuses(f"without {file}", folder, rf"{file}: .*No such file")

    def test_missing_setting(self):
        for file in FILES:
            key = file.replace(".", "_")
            folder = self.folder(f"unnamed-{file}")
            self.edit(folder, f"    {key}: {file}\n", "")
            self.refuses(f"{key} not set", folder, rf"settings\.ssl\.{key} is missing; there is no fall-back to plaintext")

    def test_bad_file(self):
        for name in ("no-cert", "rsa1024", "sha1", "two-spiffe", "key-mismatch", "readable-key"):
            case = FED.kit.case(name)
            self.refuses(name, self.folder(name, case.dir), case.load_reason)

    def test_key_readable_by_others__each_of_both(self):
        for file in ("server.key", "client.key"):
            for mode in (0o640, 0o604):
                folder = self.folder(f"{file}-{mode:o}")
                (folder / file).chmod(mode)
                self.refuses(f"{file} mode {mode:o}", folder, rf"{file}.*chmod")

    def test_key_of_the_other_pair(self):
        for file, other in (("server.key", "client.key"), ("client.key", "server.key")):
            folder = self.folder(f"swapped-{file}")
            shutil.copy(folder / other, folder / file)
            self.refuses(f"{file} of the other pair", folder, rf"{file}: the key does not belong to the certificate in .*{file[:6]}\.crt")

    def test_encrypted_key_without_passphrase(self):
        folder = self.folder("encrypted")
        key = folder / "server.key"
        openssl("pkey", "-in", key, "-aes256", "-passout", "pass:correct horse battery", "-out", folder / "new.key")
        os.replace(folder / "new.key", key)
        key.chmod(0o600)
        self.refuses("encrypted key", folder, r"server\.key: .*passphrase")

    def test_not_a_certificate(self):
        for file in ("ca.crt", "server.crt", "client.crt"):
            folder = self.folder(f"rubbish-{file}")
            (folder / file).write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
            self.refuses(f"rubbish in {file}", folder, rf"{file}: ")

    def test_root_that_is_no_ca(self):
        folder = self.folder("leaf-as-root")
        shutil.copy(folder / "server.crt", folder / "ca.crt")
        self.refuses("a leaf as ca.crt", folder, r"ca\.crt: .*not a CA")

    def test_plaintext_off_this_machine(self):
        for i, address in enumerate(("0.0.0.0:0", "192.0.2.1:7777", "[::]:0", "example.org:7777")):
            folder = self.folder(f"plain-{i}")
            self.edit(folder, "use_ssl: true", "use_ssl: false")
            self.edit(folder, f"address: {self.address}", f'address: "{address}"')
            self.refuses(f"use_ssl false at {address}", folder, r"use_ssl is false, and '.*' in address is not on this machine")
        folder = self.folder("plain-dials")
        self.edit(folder, "use_ssl: true", "use_ssl: false")
        self.edit(folder, "settings:\n", "connect: [192.0.2.1:7777]\nsettings:\n")
        self.refuses("use_ssl false, dials another host", folder, r"use_ssl is false, and '192\.0\.2\.1:7777' in connect is not on this machine")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    unittest.main(verbosity=2)
