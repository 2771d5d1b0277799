"""Random damage to small files: of bytes, and of values in JSON and TOML, so that a mutant often still parses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["Mutate", "any_bytes", "json_text", "lines_of_json", "safetensors_file", "tar_file", "toml_text"]

Mutate = Callable[[bytes, Random], bytes]

_NUMBERS = ("-1", "0", "1", "2", "-0.0", "0.5", "1e-320", "1e308", "1000000000", "4294967296", "9223372036854775807")
_LONG = ("9223372036854775808", "1" * 400, "9" * 5_000, "-" + "8" * 5_000, "0." + "3" * 5_000)
_TEXTS = ("", "a", "..", "../../etc/passwd", "/dev/zero", ".", "a/b", "nan", "5.23.0", "é", "x" * 5_000, "{}", "a b")
_ESCAPED = (r'"\ud800"', r'"a\udfffb"', r'"\u0000"', r'"\n"', r'"\ud83d\ude00"', r'"\u001b[31m"')

HOSTILE_JSON = (
    *("null", "true", "false", "[]", "{}", "[null]", '{"": null}', "[[]]", "[0, 1]", '{"id": []}'),
    *(*_NUMBERS, *_LONG, "1e400", "-1e400", "NaN", "Infinity", "-Infinity"),
    *(*map(json.dumps, _TEXTS), *_ESCAPED),
    *("[" * depth + "]" * depth for depth in (90, 200, 5_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (90, 200, 5_000)),
)
HOSTILE_TOML = (
    *("true", "[]", "{}", "[[]]", "[1]", "[{}]", "{a = 1}", "2027-01-31", "2027-01-31T00:00:00Z", "07:32:00"),
    *(*_NUMBERS, *_LONG, "1e400", "nan", "-nan", "inf", "-inf", "0x" + "f" * 5_000, "0o17", "0b1", "1_000"),
    *(*map(json.dumps, _TEXTS), '"""a\nb"""', "'''a'''", r'"\uFFFF"', r'"\u0000"'),
    *("[" * depth + "]" * depth for depth in (90, 200, 5_000)),
    *("{a = " * depth + "1" + "}" * depth for depth in (90, 200, 5_000)),
)
_CHUNKS = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\n", b"\r"),
    *(b'"', b"{", b"]", b",", b"=", b"0" * 600),
)
_TOML_VALUE = re.compile(r'"(?:[^"\\\n]|\\.)*"|\b\d[\w.:+-]*|\btrue\b|\bfalse\b|\[[^\[\]]*\]')


def any_bytes(content: bytes, random: Random) -> bytes:
    """Change some bytes, cut, insert, repeat, leave out, or take everything away."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        begin, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
        end = min(end, begin + random.choice((1, 4, 40, 4_000)))
        kind = random.randrange(6)
        if kind == 0 and data:
            data[min(begin, len(data) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[begin:end] = random.randbytes(end - begin)
        elif kind == 2:
            del data[begin:end]
        elif kind == 3:
            data[begin:begin] = random.choice(_CHUNKS)
        elif kind == 4:
            data[begin:begin] = data[begin:end]
        elif random.randrange(4) == 0:
            del data[begin:]
    return bytes(data)


def json_text(content: bytes, random: Random) -> bytes:
    """Change one to three values of a JSON text, or keys, or its bytes."""
    if random.randrange(5) == 0 or content[:1] not in (b"{", b"["):
        return any_bytes(content, random)
    value = json.loads(content)
    raw: list[str] = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _changed(value, raw, random)
    text = json.dumps(value)
    for number, replacement in enumerate(raw):
        text = text.replace(f'"@{number}@"', replacement)
    if random.randrange(8) == 0:
        text = _with_a_key_twice(text, random)
    return text.encode()


def _changed(value: Any, raw: list[str], random: Random) -> Any:
    """Walk down to one place and change what is there; what JSON cannot be made of becomes a mark for `raw`."""
    if isinstance(value, (dict, list)) and value and random.randrange(8):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = random.choice(keys)
        kind = random.randrange(12)
        if kind == 0:
            del value[key]
        elif kind == 1:
            value[key] = value[random.choice(keys)]
        elif kind == 2 and isinstance(value, dict):
            value[random.choice((*_TEXTS, str(key) + "s", "@", "inputs"))] = value.pop(key)
        elif kind == 3 and isinstance(value, list):
            value.insert(key, value[key])
        else:
            value[key] = _changed(value[key], raw, random)
        return value
    raw.append(random.choice(HOSTILE_JSON))
    return f"@{len(raw) - 1}@"


def _with_a_key_twice(text: str, random: Random) -> str:
    keys = re.findall(r'"[^"\\]*": (?:"[^"\\]*"|[\d.]+|null)', text)
    place = text.find("{", random.randrange(max(1, len(text) // 2)))
    return text if not keys or place < 0 else f"{text[: place + 1]}{random.choice(keys)}, {text[place + 1 :]}"


def lines_of_json(content: bytes, random: Random) -> bytes:
    """Change one line as JSON, or repeat it, or change bytes anywhere."""
    lines = content.splitlines(keepends=True)
    place = random.randrange(len(lines))
    kind = random.randrange(4)
    if kind == 0:
        return any_bytes(content, random)
    changed = lines[place] if kind == 1 else json_text(lines[place], random) + b"\n"
    lines[place:place] = [changed]
    return b"".join(lines if random.randrange(2) else lines[: place + 1] + lines[place + 2 :])


def toml_text(content: bytes, random: Random) -> bytes:
    """Change one to three values of a TOML text, or lines, or keys, or its bytes."""
    if random.randrange(5) == 0:
        return any_bytes(content, random)
    text = content.decode()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        text = _changed_toml(text, random)
    return text.encode()


def _changed_toml(text: str, random: Random) -> str:
    lines = text.split("\n")
    place = random.randrange(len(lines))
    kind = random.randrange(8)
    if kind == 0:
        lines.insert(place, random.choice(lines))
    elif kind == 1:
        del lines[place]
    elif kind == 2:
        lines.insert(place, f"{random.choice(('a', 'x.y', '.'.join('k' * 40), '.'.join('k' * 4_000)))} = 1")
    elif kind == 3:
        lines.insert(place, random.choice(("[a]", "[[a]]", "[[accepted]]", "[throughput]", "[zero_shot.b]", "[[[")))
    else:
        found = list(_TOML_VALUE.finditer(text))
        if found:
            spot = random.choice(found)
            return text[: spot.start()] + random.choice(HOSTILE_TOML) + text[spot.end() :]
    return "\n".join(lines)


def safetensors_file(content: bytes, random: Random) -> bytes:
    """Change the header as JSON, its length, or bytes anywhere; or the data, which then hold any floats."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    kind = random.randrange(5)
    if kind == 0:
        return any_bytes(content, random)
    if kind == 1:
        return content[: 8 + length] + any_bytes(data, random)[: len(data)].ljust(len(data), b"\xff")
    header = json_text(header, random)
    stated = random.choice((0, 1, length, 1 << 26, 1 << 40, (1 << 64) - 1)) if kind == 2 else len(header)
    return stated.to_bytes(8, "little") + header + data


def tar_file(content: bytes, random: Random) -> bytes:
    """Change a field of one header and sum it up again, so that it is believed; or bytes anywhere."""
    if random.randrange(3) == 0:
        return any_bytes(content, random)
    data = bytearray(content)
    places = [place for place in range(0, len(data) - 511, 512) if data[place + 257 : place + 262] == b"ustar"]
    for _ in range(random.choice((1, 1, 2))):
        place = random.choice(places)
        begin, end = random.choice(((0, 100), (100, 108), (124, 136), (124, 136), (156, 157), (157, 257), (345, 500)))
        field = random.choice(
            (
                b"7" * (end - begin),
                b"\x80" + random.randbytes(end - begin - 1),
                b"\xff" * (end - begin),
                b"00000100000\0"[: end - begin],
                random.randbytes(end - begin),
                random.choice((b"x", b"g", b"L", b"K", b"S", b"1", b"2", b"5", b"6", b"D", b"X")),
            )
        )
        data[place + begin : place + end] = field.ljust(end - begin, b"\0")[: end - begin]
        data[place + 148 : place + 156] = b" " * 8
        data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])
    return bytes(data)
