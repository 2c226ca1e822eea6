# SPDX-License-Identifier: Apache-2.0
"""A federation under a CA of OpenSSL's command line: certificates with SPIFFE IDs, CRLs of any number and date, and bad ones."""
import datetime
import hashlib
import os
import subprocess
from pathlib import Path

from pki_kit import Ca, leaf_ext, make_key, openssl


def utc(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%SZ")


def pem(der, label="X509 CRL"):
    import base64
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


class Federation:
    """folder/ca and folder/<name> with the five files of each node; the SPIFFE ID is spiffe://p2pfl/coordinator/<name>."""

    def __init__(self, folder, names, ca_name="lab CA"):
        self.dir, self.ca = Path(folder), Ca(Path(folder) / "openssl-ca", ca_name)
        self.number = 0
        for name in names:
            self.add(name)

    def add(self, name):
        folder = self.dir / name
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_bytes(self.ca.crt.read_bytes())
        san = f"IP:127.0.0.1,IP:::1,DNS:localhost,URI:spiffe://p2pfl/coordinator/{name}"
        for purpose in ("server", "client"):
            key = folder / f"{purpose}.key"
            make_key(key)
            self.ca.sign(key, folder / f"{purpose}.crt", name, leaf_ext(purpose, san=san))
        return folder

    def revoke(self, name, reason="keyCompromise", purposes=("server", "client")):
        for purpose in purposes:
            openssl("ca", "-config", "ca.cnf", "-keyfile", self.ca.key, "-cert", self.ca.crt, "-revoke",
                    (self.dir / name / f"{purpose}.crt").resolve(), "-crl_reason", reason, cwd=self.ca.dir)

    def crl(self, number=None, start=-5, lasts=86400, out=None):
        """The path of a CRL (PEM) of all that is revoked by now."""
        self.number = number = self.number + 1 if number is None else number
        out = Path(out or self.dir / f"crl-{number}.pem")
        cnf = self.ca.dir / "crl.cnf"
        cnf.write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=1\n"
                       "crl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n")
        text = f"{number:X}"
        (self.ca.dir / "crlnumber").write_text("0" * (len(text) % 2) + text + "\n")
        openssl("ca", "-config", "crl.cnf", "-keyfile", self.ca.key, "-cert", self.ca.crt, "-gencrl", "-crl_lastupdate", utc(start),
                "-crl_nextupdate", utc(start + lasts), "-out", out.resolve(), cwd=self.ca.dir)
        return out

    def der(self, path):
        return openssl("crl", "-in", path, "-outform", "DER")
