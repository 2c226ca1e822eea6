# SPDX-License-Identifier: Apache-2.0
"""Good and bad certificates for the tests, all made by OpenSSL's command line and none by us.

    kit = Kit(folder)                 # makes the CAs; cases are made when they are first asked for
    case = kit.case("expired")        # a folder with ca.crt server.key server.crt client.key client.crt
    case.dir, case.server_reason      # the reason (a regular expression) a dialler gives for refusing server.crt ...
    case.client_reason                # ... and a server for refusing client.crt; None: accepted
    case.load_reason                  # the reason why a node does not even start with these files; None: it starts

Every case is for the host 127.0.0.1 and trusts kit.ca_crt, and fails for exactly one thing. `python3 pki_kit.py FOLDER [case...]`
makes them by hand. p2pfl_procedure() is the procedure of P2PFL's documentation.
"""
import base64
import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SAN = "IP:127.0.0.1,IP:::1,DNS:localhost"
FILES = ("ca.crt", "server.key", "server.crt", "client.key", "client.crt")


def openssl(*args, cwd=None, stdin=None):
    """Runs openssl; its output, or an AssertionError with what it said."""
    done = subprocess.run(("openssl",) + tuple(str(a) for a in args), cwd=cwd, input=stdin, capture_output=True)
    assert done.returncode == 0, f"openssl {args}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def utc(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


def make_key(path, kind="p256"):
    if kind.startswith("rsa"):
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind[3:]}", "-out", path)
    else:
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    os.chmod(path, 0o600)


class Ca:
    """A CA in a folder: ca.key (not encrypted), ca.crt, and what `openssl ca` wants."""

    def __init__(self, folder, name, issuer=None, pathlen=None, key="p256"):
        self.dir, self.name = Path(folder), name
        self.dir.mkdir(parents=True)
        self.key, self.crt = self.dir / "ca.key", self.dir / "ca.crt"
        make_key(self.key, key)
        (self.dir / "index.txt").write_text("")
        (self.dir / "ca.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\nunique_subject=no\npolicy=p\n"
            "default_md=sha256\n[p]\ncommonName=supplied\n"
            "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=x\n[dn]\ncommonName=" + name + "\n"
            "[x]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n")
        if issuer is None:
            openssl("req", "-x509", "-new", "-key", self.key, "-sha256", "-days", 1024, "-config", "ca.cnf",
                    "-out", self.crt, cwd=self.dir)
        else:
            limit = "" if pathlen is None else f",pathlen:{pathlen}"
            issuer.sign(self.key, self.crt, name, ext=f"basicConstraints=critical,CA:TRUE{limit}\n"
                        "keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")

    def sign(self, key, out, name, ext, start=-1, end=500, md="sha256"):
        """A certificate for the key's public half with exactly these extensions; start and end in days from now."""
        csr, cnf = Path(f"{out}.csr"), Path(f"{out}.cnf")
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", csr)
        cnf.write_text(ext)
        openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-keyfile", self.key, "-cert", self.crt, "-in", csr.resolve(),
                "-out", Path(out).resolve(), "-startdate", utc(start), "-enddate", utc(end), "-md", md,
                "-extfile", cnf.resolve(), cwd=self.dir)
        csr.unlink()
        cnf.unlink()


def leaf_ext(purpose, san=SAN, eku=None, is_ca="FALSE", usage="digitalSignature"):
    eku = eku or {"server": "serverAuth", "client": "clientAuth"}[purpose]
    lines = [f"basicConstraints=critical,CA:{is_ca}", f"keyUsage=critical,{usage}", f"extendedKeyUsage={eku}",
             "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
    if san:
        lines.append(f"subjectAltName={san}")
    return "\n".join(lines) + "\n"


class Case:
    def __init__(self, name, folder, server_reason, client_reason, load_reason=None):
        self.name, self.dir = name, Path(folder)
        self.server_reason, self.client_reason, self.load_reason = server_reason, client_reason, load_reason

    def __getattr__(self, name):
        """case.server_crt is the path of server.crt, and so on."""
        file = name.replace("_", ".")
        if file in FILES:
            return self.dir / file
        raise AttributeError(name)


def break_signature(path):
    """Flips one bit in the last byte of a PEM certificate: still a certificate, its signature is not."""
    der = bytearray(base64.b64decode("".join(path.read_text().split("-----")[2].split())))
    der[-1] ^= 1
    body = base64.encodebytes(bytes(der)).decode()
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")


class Kit:
    """The refusal matrix. reasons(name) -> (server_reason, client_reason, load_reason)."""
    OTHER = r"not signed by the federation's CA"
    CASES = {
        "good": (None, None, None),
        "good-no-eku": (None, None, None),
        "good-intermediate": (None, None, None),
        "no-cert": (r"certificate", r"certificate", r"(server|client)\.(crt|key)"),
        "self-signed": (r"self-signed", r"self-signed", None),
        "other-ca": (OTHER + r".*CN=Mallory CA", OTHER + r".*CN=Mallory CA", None),
        "no-intermediate": (OTHER + r": issued by '.*Middle CA'.*intermediate between them is missing from the chain",
                            OTHER + r": issued by '.*Middle CA'.*intermediate between them is missing from the chain", None),
        "other-ca-same-name": (OTHER + r".*same name", OTHER + r".*same name", None),
        "expired": (r"expired on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", r"expired on", None),
        "not-yet-valid": (r"not valid before \d{4}-\d\d-\d\d", r"not valid before", None),
        "clock-off": (r"not valid before .*clock", r"not valid before .*clock", None),
        # a server does not know whom it will be dialled as, so the client's wrong host is found at its handshake call
        "wrong-host": (r"covers DNS:elsewhere\.example, IP:10\.0\.0\.1, not '127\.0\.0\.1'", None, None),
        "no-san": (r"no subject alternative name", r"no subject alternative name", None),
        "wrong-eku": (r"extended key usage is clientAuth, serverAuth is needed",
                      r"extended key usage is serverAuth, clientAuth is needed", None),
        "ca-as-leaf": (r"is a CA certificate", r"is a CA certificate", None),
        "root-as-leaf": (r"is a CA certificate", r"is a CA certificate", None),
        "leaf-as-ca": (r"not a CA", r"not a CA", None),
        "tampered": (r"signature does not verify", r"signature does not verify", None),
        "sha1": (r"signed with SHA-1", r"signed with SHA-1", r"server\.crt: .*signed with SHA-1"),
        "rsa1024": (r"RSA key of 1024 bits, at least 2048 needed", r"RSA key of 1024 bits, at least 2048 needed",
                    r"RSA key of 1024 bits"),
        "too-long": (r"chain is too long|not signed by", r"chain is too long|not signed by", None),
        "two-spiffe": (r"more than one SPIFFE ID", r"more than one SPIFFE ID", r"server\.crt: more than one SPIFFE ID"),
        "key-mismatch": (None, None, r"key"),
        "readable-key": (None, None, r"chmod"),
    }

    def __init__(self, folder):
        self.dir = Path(folder).resolve()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.ca = Ca(self.dir / "cas" / "test", "Test CA")
        self.other = Ca(self.dir / "cas" / "mallory", "Mallory CA")
        self.twin = Ca(self.dir / "cas" / "twin", "Test CA")
        self.ca_crt = self.ca.crt
        self.made = {}

    def case(self, name):
        if name not in self.made:
            assert name in self.CASES, name
            folder = self.dir / name
            folder.mkdir()
            shutil.copy(self.ca_crt, folder / "ca.crt")
            getattr(self, "make_" + name.replace("-", "_"))(folder)
            self.made[name] = Case(name, folder, *self.CASES[name])
        return self.made[name]

    def pair(self, folder, ca=None, key="p256", chain=(), **options):
        """server.* and client.* by ca; options go to leaf_ext, those of sign() to sign()."""
        sign = {k: options.pop(k) for k in ("start", "end", "md") if k in options}
        for purpose in ("server", "client"):
            key_file, crt = folder / f"{purpose}.key", folder / f"{purpose}.crt"
            make_key(key_file, key)
            own = {k: v[purpose] if isinstance(v, dict) else v for k, v in options.items()}
            (ca or self.ca).sign(key_file, crt, folder.name, leaf_ext(purpose, **own), **sign)
            for more in chain:
                crt.write_text(crt.read_text() + Path(more).read_text())

    def make_good(self, folder):
        self.pair(folder)

    def make_good_no_eku(self, folder):
        for purpose in ("server", "client"):
            make_key(folder / f"{purpose}.key")
            self.ca.sign(folder / f"{purpose}.key", folder / f"{purpose}.crt", folder.name, f"subjectAltName={SAN}\n")

    def make_good_intermediate(self, folder):
        middle = Ca(folder / "middle", "Middle CA", issuer=self.ca, pathlen=0)
        self.pair(folder, ca=middle, chain=[middle.crt])

    def make_no_intermediate(self, folder):
        self.pair(folder, ca=Ca(folder / "middle", "Middle CA", issuer=self.ca, pathlen=0))

    def make_no_cert(self, folder):
        pass  # ca.crt alone

    def make_self_signed(self, folder):
        for purpose in ("server", "client"):
            make_key(folder / f"{purpose}.key")
            openssl("req", "-x509", "-new", "-key", folder / f"{purpose}.key", "-sha256", "-days", 500, "-subj", "/CN=loner",
                    "-addext", f"subjectAltName={SAN}", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-out", folder / f"{purpose}.crt", "-config", self.minimal_config())

    def minimal_config(self):
        path = self.dir / "minimal.cnf"
        path.write_text("[req]\ndistinguished_name=dn\n[dn]\n")
        return path

    def make_other_ca(self, folder):
        self.pair(folder, ca=self.other)

    def make_other_ca_same_name(self, folder):
        self.pair(folder, ca=self.twin)

    def make_expired(self, folder):
        self.pair(folder, start=-30, end=-1)

    def make_not_yet_valid(self, folder):
        self.pair(folder, start=10, end=100)

    def make_clock_off(self, folder):
        self.pair(folder, start=1 / 24, end=100)

    def make_wrong_host(self, folder):
        self.pair(folder, san="IP:10.0.0.1,DNS:elsewhere.example")

    def make_no_san(self, folder):
        self.pair(folder, san=None)

    def make_wrong_eku(self, folder):
        self.pair(folder, eku={"server": "clientAuth", "client": "serverAuth"})

    def make_ca_as_leaf(self, folder):
        self.pair(folder, is_ca="TRUE", usage="digitalSignature,keyCertSign")

    def make_root_as_leaf(self, folder):
        for purpose in ("server", "client"):
            shutil.copy(self.ca.key, folder / f"{purpose}.key")
            shutil.copy(self.ca.crt, folder / f"{purpose}.crt")

    def make_leaf_as_ca(self, folder):
        self.case("good")
        fake = Ca(folder / "fake", "good")
        shutil.copy(self.dir / "good" / "server.key", fake.key)
        shutil.copy(self.dir / "good" / "server.crt", fake.crt)
        self.pair(folder, ca=fake, chain=[fake.crt])

    def make_tampered(self, folder):
        self.pair(folder)
        for purpose in ("server", "client"):
            break_signature(folder / f"{purpose}.crt")

    def make_sha1(self, folder):
        self.pair(folder, md="sha1")

    def make_rsa1024(self, folder):
        self.pair(folder, key="rsa1024")

    def make_too_long(self, folder):
        ca, chain = self.ca, []
        for i in range(3):
            ca = Ca(folder / f"middle{i}", f"Middle CA {i}", issuer=ca)
            chain.insert(0, ca.crt)
        self.pair(folder, ca=ca, chain=chain)

    def make_two_spiffe(self, folder):
        self.pair(folder, san=SAN + ",URI:spiffe://p2pfl/node/a,URI:spiffe://p2pfl/node/b")

    def make_key_mismatch(self, folder):
        self.pair(folder)
        for purpose in ("server", "client"):
            make_key(folder / f"{purpose}.key")

    def make_readable_key(self, folder):
        self.pair(folder)
        for purpose in ("server", "client"):
            os.chmod(folder / f"{purpose}.key", 0o644)


def p2pfl_procedure(folder, nodes=("node1", "node2"), same_subject=True, key_ids=True, passphrase="p2pfl test passphrase"):
    """P2PFL's documented procedure: folder/ca.key ca.crt, and folder/<node>/ with the five files for each node. One RSA key and
    certificate for each node, used as server and as client. same_subject: the CA and all nodes carry one subject name, as with
    P2PFL's own openssl.cnf. key_ids False: without subject and authority key identifiers, as OpenSSL 1.1 made them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    none = "" if key_ids else "subjectKeyIdentifier = none\nauthorityKeyIdentifier = none\n"
    request = ("[ req ]\ndefault_bits = 2048\ndistinguished_name = name\nx509_extensions = root\nprompt = no\n"
               "[ name ]\ncountryName = ES\norganizationName = Test Federation\ncommonName = {cn}\n"
               "[ root ]\nbasicConstraints = CA:TRUE\nsubjectAltName = IP:127.0.0.1,IP:::1\n" + none)
    (folder / "openssl.cnf").write_text(request.format(cn="Federation CA"))
    (folder / "node.cnf").write_text("[ v3_req ]\nsubjectAltName = @names\n" + none + "[ names ]\nIP.1 = 127.0.0.1\nIP.2 = ::1\n")
    secret = f"pass:{passphrase}"
    openssl("genpkey", "-algorithm", "RSA", "-out", "ca.key", "-aes256", "-pass", secret, cwd=folder)
    openssl("req", "-x509", "-new", "-nodes", "-key", "ca.key", "-sha256", "-days", 1024, "-out", "ca.crt",
            "-config", "openssl.cnf", "-passin", secret, cwd=folder)
    for node in nodes:
        config = "openssl.cnf" if same_subject else f"{node}-req.cnf"
        if not same_subject:
            (folder / config).write_text(request.format(cn=node))
        openssl("genpkey", "-algorithm", "RSA", "-out", "node.key", cwd=folder)
        openssl("req", "-new", "-key", "node.key", "-out", "node.csr", "-config", config, cwd=folder)
        openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "node.crt",
                "-days", 500, "-sha256", "-extfile", "node.cnf", "-extensions", "v3_req", "-passin", secret, cwd=folder)
        (folder / node).mkdir()
        shutil.copy(folder / "ca.crt", folder / node / "ca.crt")
        for purpose in ("server", "client"):
            shutil.copy(folder / "node.key", folder / node / f"{purpose}.key")
            shutil.copy(folder / "node.crt", folder / node / f"{purpose}.crt")
            os.chmod(folder / node / f"{purpose}.key", 0o600)
        for file in ("node.key", "node.csr", "node.crt"):
            (folder / file).unlink()
    return folder


def matches(pattern, text):
    return re.search(pattern, text) is not None


if __name__ == "__main__":
    kit = Kit(sys.argv[1])
    for wanted in sys.argv[2:] or Kit.CASES:
        print(kit.case(wanted).dir)
