#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks every #include of src/ against the table of layers. usage: check_layers.py [SRC]"""
import os
import re
import sys

from check_style import strip

# layer: (layers it may include, foreign headers allowed in it)
LAYERS = {
    "base": ("", ""),
    "tensor": ("base", "cblas"),
    "pki": ("base", "openssl sqlite3 pkcs11"),
    "wire": ("base tensor", "nanopb jansson"),
    "mesh": ("base wire", ""),
    "learning": ("base tensor wire", "cblas lapacke zlib lzma zstd jansson"),
    "node": ("base wire mesh learning tensor", ""),
    "config": ("base node pki", "yaml"),
    "tls": ("base pki", "openssl"),
    "rpc": ("base tls pki", "nghttp2 uv openssl nanopb"),
    "runtime": ("base tensor pki wire mesh learning node config tls rpc", "uv sqlite3 jansson"),
    "sim": ("base wire mesh learning node tensor", ""),
    "web": ("base node", "microhttpd"),
    "api": ("base tensor learning node tls rpc runtime", "uv jansson"),
    "cli": ("base pki config runtime sim", "jansson"),
}
FOREIGN = {
    "openssl": r"openssl/", "pkcs11": r"p11-kit/pkcs11\.h", "sqlite3": r"sqlite3\.h", "cblas": r"(cblas|openblas_config|f77blas)\.h", "lapacke": r"lapacke\.h",
    "zlib": r"zlib\.h", "lzma": r"lzma\.h", "zstd": r"zstd\.h", "nanopb": r"(pb(_encode|_decode|_common)?|.*\.pb|.*_descriptor)\.h",
    "jansson": r"jansson\.h", "yaml": r"(yaml|cyaml/cyaml)\.h", "nghttp2": r"nghttp2/", "uv": r"uv\.h", "microhttpd": r"microhttpd\.h",
}
# The core reads no clock, opens nothing, starts no thread and does not log.
SANS_IO = ("mesh", "node")
NO_IO = re.compile(r"^(time|unistd|fcntl|pthread|threads|poll|sys/(socket|time|stat|types|epoll)|netinet/.*|base/(log|fs))\.h$")
NO_IO_CALL = re.compile(r"(?<![\w.>])(pfl_clock_(?:mono|wall)|pfl_rng_entropy|time|clock_gettime|gettimeofday|getenv|getrandom|f?printf|puts|"
                        r"fopen|open|socket|getpid)\s*\(")
STANDARD = re.compile(r"^(assert|complex|ctype|dlfcn|errno|fenv|float|getopt|inttypes|iso646|limits|locale|malloc|math|netdb|poll|pthread|sched|setjmp|"
                      r"signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|tgmath|"
                      r"termios|threads|time|unistd|wchar|dirent|fcntl|ftw|glob|ifaddrs|libgen|pwd|grp|arpa/inet|net/if|netinet/.*|sys/.*|"
                      r"linux/.*)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include(?:_next)?\b\s*(.*)')
HEADER = re.compile(r'[<"]([^>"]+)[>"]')


def check_line(layer, name):
    """The reason why `layer` may not include `name`, or None."""
    layers, foreign = LAYERS[layer]
    first = name.split("/")[0]
    if first in LAYERS and "/" in name:
        if layer in SANS_IO and NO_IO.match(name):
            return "%s does no I/O" % layer
        return None if first == layer or first in layers.split() else "%s may not include %s" % (layer, first)
    if name.startswith("p2pfl/"):
        return None if layer in ("api", "cli") else "only api and cli know the public header"
    if STANDARD.match(name):
        return "%s does no I/O" % layer if layer in SANS_IO and NO_IO.match(name) else None
    for key, pattern in FOREIGN.items():
        if re.match(pattern, name):
            return None if key in foreign.split() else "%s is not allowed in %s" % (key, layer)
    return "this header is in no row of the table"


def check_file(layer, text):
    """(line, what, why) for each fault."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        include = INCLUDE.match(line)
        if include:
            header = HEADER.match(include.group(1))
            name = header.group(1) if header else include.group(1)
            why = check_line(layer, name) if header else "an include that is a macro cannot be checked"
            if why:
                found.append((number, name, why))
    if layer in SANS_IO:
        for number, line in enumerate(strip(text).split("\n"), 1):
            call = NO_IO_CALL.search(line)
            if call:
                found.append((number, call.group(1) + "()", "%s does no I/O" % layer))
    return found


def main():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    src = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "src")
    bad = files = 0
    for layer in sorted(os.listdir(src)):
        folder = os.path.join(src, layer)
        if not os.path.isdir(folder) or not os.listdir(folder):
            continue
        if layer not in LAYERS:
            print("%s: a folder that is no layer of the table" % folder)
            bad += 1
            continue
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                print("%s: a layer is one folder, without others in it" % path)
                bad += 1
            elif name.endswith((".c", ".h")):
                files += 1
                with open(path, encoding="utf-8") as f:
                    for fault in check_file(layer, f.read()):
                        print("%s:%d: %s: %s" % (path, *fault))
                        bad += 1
    print("layers: %d files, %s" % (files, "%d faults" % bad if bad else "every include is allowed"))
    return 1 if bad or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
