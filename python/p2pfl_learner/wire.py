# SPDX-License-Identifier: Apache-2.0
"""The messages of proto/learner.proto, encoded by hand: seven small ones do not need generated code, which would have to fit the
protobuf library that happens to be installed. A message is a dict; what is absent has its default, as in proto3."""
import struct

# field number: (name, kind). u: unsigned varint, d: double, s: string, us: packed unsigned varints, m: list of messages
PARAM = {1: ("key", "s"), 2: ("value", "s")}
TENSOR = {1: ("name", "s"), 2: ("dtype", "s"), 3: ("shape", "us")}
DESCRIBE_REQUEST = {
    1: ("version", "u"), 2: ("node", "s"), 3: ("folder", "s"), 4: ("dataset", "s"), 5: ("dataset_path", "s"), 6: ("partition", "s"),
    7: ("part_index", "u"), 8: ("part_count", "u"), 9: ("part_seed", "u"), 10: ("reduction_factor", "d"), 11: ("seed", "u"),
    12: ("learning_rate", "d"), 13: ("batch_size", "u"), 14: ("threads", "u"), 15: ("hidden_sizes", "us"), 16: ("params", PARAM),
    17: ("partition_params", PARAM),
}
DESCRIPTION = {1: ("name", "s"), 2: ("tensors", TENSOR), 3: ("steerable", "u")}
PARAMETERS = {1: ("file", "s"), 2: ("bytes", "u")}
JOB = {1: ("id", "u"), 2: ("epochs", "u"), 3: ("seed", "u"), 4: ("proximal_mu", "d"), 5: ("correction", PARAMETERS)}  # one at most
RESULT = {1: ("loss", "d"), 2: ("accuracy", "d"), 3: ("n_samples", "u"), 4: ("n_steps", "u"), 5: ("learning_rate", "d"), 6: ("normaliser", "d")}
PROGRESS_REQUEST = {1: ("job", "u"), 2: ("seen", "u"), 3: ("wait_ms", "u")}
PROGRESS = {1: ("beat", "u"), 2: ("done", "d")}
NOTHING = {}

_DEFAULTS = {"u": 0, "d": 0.0, "s": ""}


def _varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _chunk(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def encode(spec, message):
    """The bytes of a message (a dict with the names in spec)."""
    out = bytearray()
    for number, (name, kind) in spec.items():
        value = message.get(name)
        if value is None:
            continue
        if isinstance(kind, dict):
            for item in value:
                out += _chunk(number, encode(kind, item))
        elif kind == "us":
            if value:
                out += _chunk(number, b"".join(map(_varint, value)))
        elif kind == "s":
            if value:
                out += _chunk(number, value.encode())
        elif kind == "d":
            if value != 0.0:
                out += _varint(number << 3 | 1) + struct.pack("<d", value)
        elif value:
            out += _varint(number << 3) + _varint(value)
    return bytes(out)


def _numbers(content):
    found, at = [], 0
    while at < len(content):
        value, at = _read_varint(content, at)
        found.append(value)
    return found


def _skip(data, at, wire):
    """Behind a value, and the value where it is a number or bytes."""
    if wire == 0:
        return _read_varint(data, at)
    if wire == 2:
        size, at = _read_varint(data, at)
        if at + size > len(data):
            raise ValueError("it is cut")
        return data[at:at + size], at + size
    size = {1: 8, 5: 4}.get(wire)
    if size is None or at + size > len(data):
        raise ValueError("it is cut, or of a kind that is not known")
    return data[at:at + size], at + size


def decode(spec, data):
    """The message in these bytes; fields that spec does not know are left out. ValueError for what is no message."""
    message = {name: [] if isinstance(kind, dict) or kind == "us" else _DEFAULTS[kind] for name, kind in spec.values()}
    at = 0
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            value, at = _skip(data, at, tag & 7)
            if tag >> 3 not in spec:
                continue
            name, kind = spec[tag >> 3]
            if isinstance(kind, dict):
                message[name].append(decode(kind, value))
            elif kind == "us":
                message[name] += [value] if tag & 7 == 0 else _numbers(value)
            elif kind == "s":
                message[name] = value.decode()
            elif kind == "d":
                message[name] = struct.unpack("<d", value)[0]
            else:
                message[name] = int(value)
    except (IndexError, TypeError, AttributeError, struct.error, UnicodeDecodeError) as e:
        raise ValueError(f"no message: {e}") from None
    return message
