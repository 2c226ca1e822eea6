# SPDX-License-Identifier: Apache-2.0
"""Tokens of SoftHSM2 in a folder of their own, for tests of keys in hardware. Every program that is started afterwards finds them by
SOFTHSM2_CONF.

    tokens = Tokens(folder)
    tokens.make("hsm")                        # a token with the user PIN tokens.pin, which is also in tokens.pin_file (0600)
    tokens.uri("hsm", object="server")        # pkcs11:token=hsm;object=server?module-path=...&pin-source=...
    tokens.tool("hsm", "--list-objects")      # OpenSC's pkcs11-tool, logged in; its output
"""
import os
import subprocess
from pathlib import Path

MODULE = "/usr/lib/softhsm/libsofthsm2.so"


class Tokens:
    def __init__(self, folder, pin="90317462"):
        self.dir, self.pin = Path(folder), pin
        (self.dir / "tokens").mkdir(parents=True)
        conf = self.dir / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {self.dir / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(conf)
        self.pin_file = self.write_pin("pin", pin)

    def write_pin(self, name, pin, mode=0o600):
        path = self.dir / name
        path.write_text(pin)  # no line end: OpenSSL's engine takes one for a part of the PIN
        path.chmod(mode)
        return path

    def make(self, label):
        done = subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", self.pin, "--so-pin", "0000111122"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def uri(self, token, pin_file=True, **path):
        attributes = ";".join(f"{k}={v}" for k, v in {"token": token, **path}.items())
        source = self.pin_file if pin_file is True else pin_file
        return f"pkcs11:{attributes}?module-path={MODULE}" + (f"&pin-source=file:{source}" if source else "")

    def tool(self, token, *argv):
        """The PIN goes by the environment: pkcs11-tool's way of keeping it out of its command line."""
        done = subprocess.run(["pkcs11-tool", "--module", MODULE, "--token-label", token, "--login", "--pin", "env:TOKEN_PIN", *argv],
                              capture_output=True, text=True, env={**os.environ, "TOKEN_PIN": self.pin})
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout
