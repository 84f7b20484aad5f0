"""A corpus of Function URL events that the handler must refuse."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from lambdiff.protocol import contract
from lambdiff.protocol.contract import GenerateRequest
from support.hostile_images import SIGNATURE, ZEROS, chunk, frame, ihdr, jpeg, png
from support.hostile_images import encoded as encoded_image

Case = tuple[str, Any]
FIELDS = list(GenerateRequest.__struct_fields__)
NUMBERS = ("num_inference_steps", "guidance_scale", "width", "height", "seed", "strength")
JUNK: list[Any] = [None, True, False, 0, -1, 1.5, 10**30, -(10**30), 1e308, "", " ", "x", "1", "\0", "\ud800", "\u202e"]
JUNK += [
    [],
    [1],
    {},
    {"a": 1},
    [[]],
    "a" * 3_000,
    "\r\nset-cookie: a=b",
    "${jndi:ldap://x}",
    "'; drop table",
    "../../x",
]


def event(body: Any = '{"prompt": "a cat"}', **changes: Any) -> dict[str, Any]:
    """Return a Function URL event with some members replaced."""
    return {
        "version": "2.0",
        "rawPath": "/",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST"}, "requestId": "id"},
        "body": body,
        "isBase64Encoded": False,
        **changes,
    }


def encoded(body: bytes) -> dict[str, Any]:
    """Return an event with this body in base64."""
    return event(base64.b64encode(body).decode(), isBase64Encoded=True)


def corpus() -> Iterator[Case]:
    """Yield (name, event) for every event that must be refused."""
    yield from wrong_types()
    yield from out_of_range()
    yield from bad_numbers()
    yield from bodies()
    yield from encoded_bodies()
    yield from routes()
    yield from other_events()


def pictures() -> Iterator[Case]:
    """Yield events with bad pictures, for a model that takes some: bombs, other formats, and damaged files."""
    good = base64.b64encode(encoded_image("png")).decode()
    files = {
        "bomb in the header": SIGNATURE + ihdr(60_000, 60_000) + chunk(b"IDAT", ZEROS) + chunk(b"IEND"),
        "one pixel too many": SIGNATURE + ihdr(2048, 2049) + chunk(b"IDAT", ZEROS) + chunk(b"IEND"),
        "one line of many pixels": SIGNATURE + ihdr(2**31 - 1, 1) + chunk(b"IEND"),
        "no pixels": SIGNATURE + ihdr(64, 64) + chunk(b"IEND"),
        "only a header": SIGNATURE + ihdr(64, 64),
        "width 0": SIGNATURE + ihdr(0, 64) + chunk(b"IEND"),
        "animated PNG": png(chunk(b"acTL", bytes(8))),
        "two headers": png(ihdr(8, 8)),
        "many chunks": png(*[chunk(b"tEXt", b"a\0b")] * 20_000),
        "large JPEG": jpeg(frame(65_535, 65_535)),
        "JPEG without pixels": b"\xff\xd8" + frame(64, 64) + b"\xff\xd9",
        "truncated PNG": encoded_image("png", (200, 200))[:-40],
        "truncated JPEG": encoded_image("jpeg", (200, 200))[:700],
        "truncated WebP": encoded_image("webp", (200, 200))[:60],
        "GIF": b"GIF89a" + bytes(50),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "TIFF": b"II*\0" + bytes(50),
        "PDF": b"%PDF-1.7",
        "zip": b"PK\3\4" + bytes(50),
        "zeros": bytes(1000),
    }
    texts = {name: base64.b64encode(content).decode() for name, content in files.items()}
    texts |= {
        "not base64": "a cat",
        "base64 with a line break": good[:60] + "\n" + good[60:],
        "URL-safe base64": base64.urlsafe_b64encode(b"\xff" * 99).decode(),
        "data URL": "data:image/png;base64," + good,
        "a URL": "http://169.254.169.254/latest/meta-data/",
        "a path": "/etc/passwd",
        "too long": "A" * 7_000_000,
        "as long as possible": "A" * 6_000_000,
    }
    for name, text in texts.items():
        yield f"image: {name}", event(json.dumps({"prompt": "a cat", "image": text}))
        yield f"mask: {name}", event(json.dumps({"prompt": "a cat", "image": good, "mask": text}))
    long = "A" * 2_000_000
    others: dict[str, Any] = {
        "a mask without an image": {"mask": good},
        "strength without an image": {"strength": 0.5},
        "too little strength": {"image": good, "strength": 0.1, "num_inference_steps": 9},
        "strength 0": {"image": good, "strength": 0},
        "strength beyond 1": {"image": good, "strength": 1.001},
        "negative strength": {"image": good, "strength": -0.001},
        "three long texts": {"image": long, "mask": long, "prompt": long},
        "megabytes of lists beside an image": {"image": good, "mask": [[]] * 1_000_000},
        "megabytes of spaces": {"image": good, "seed": " " * 3_000_000},
        "megabytes of names": {"image": good} | {f"f{index}": 1 for index in range(200_000)},
    }
    for name, fields in others.items():
        yield f"pictures: {name}", event(json.dumps({"prompt": "a cat", **fields}))
    yield "pictures: deep lists", event('{"prompt":"a","image":' + "[" * 5_000_000)
    yield "pictures: a long number", event('{"prompt":"a","seed":' + "1" * 5_000_000 + "}")


def wrong_types() -> Iterator[Case]:
    """Yield events with invalid values for every field, and with fields that do not exist."""
    for name in FIELDS:
        for value in JUNK:
            if not _valid(name, value):
                body = json.dumps({"prompt": "a cat", name: value})
                yield f"{name}={str(value)[:20]!r} ({type(value).__name__})", event(body)
    for name in ("", "__proto__", "Prompt", "prompt ", "n", "steps", "\ud800", "\r\nx: y", "k" * 30_000):
        yield f"unknown field {name[:12]!r}", event(json.dumps({"prompt": "a cat", name: 1}))


def out_of_range() -> Iterator[Case]:
    """Yield events with values of the right type just beyond the limits."""
    values: dict[str, list[Any]] = {
        "num_inference_steps": [0, 101, 20.5],
        "guidance_scale": [-0.001, 30.001],
        "seed": [-1, 2**32, 0.5],
        "width": [56, 63, 65, 1023, 1025, 1032, 520],
        "height": [56, 63, 65, 1023, 1025, 1032, 520],
        "prompt": ["p" * 2_001],
        "negative_prompt": ["n" * 2_001],
        "scheduler": ["EULER", "lcm", "euler "],
        "strength": [-0.001, 1.001],
        "image_format": ["PNG", "jpg", "gif", "image/png"],
    }
    for name, each in values.items():
        for value in each:
            yield f"{name} = {str(value)[:12]} out of range", event(json.dumps({"prompt": "a cat", name: value}))


def bad_numbers() -> Iterator[Case]:
    """Yield events with number formats that JSON does not have, and with huge numbers."""
    for name in NUMBERS:
        for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5_000, "0x10", "01", "+1", "1_000", "1."):
            yield f"{name}: {text[:20]}", event(f'{{"prompt": "a", "{name}": {text}}}')
        yield f"{name} twice", event(f'{{"prompt": "a", "{name}": 1, "{name}": 1}}')


def bodies() -> Iterator[Case]:
    """Yield events whose body is not a JSON object with a prompt."""
    cases: dict[str, Any] = {
        "none": None,
        "empty": "",
        "blank": "  \n",
        "null": "null",
        "true": "true",
        "number": "5",
        "string": '"a"',
        "list": "[]",
        "list of objects": '[{"prompt":"a"}]',
        "unclosed object": "{",
        "unclosed string": '{"prompt": "a',
        "trailing comma": '{"prompt": "a",}',
        "single quotes": "{'prompt': 'a'}",
        "two documents": '{"prompt":"a"}{"prompt":"b"}',
        "comment": '{"prompt":"a"}//',
        "byte order mark": '\ufeff{"prompt":"a"}',
        "form": "prompt=a",
        "xml": "<prompt>a</prompt>",
        "yaml": "prompt: a",
        "prompt twice": '{"prompt":"a","prompt":"b"}',
        "prompt twice, escaped": '{"prompt":"a","\\u0070rompt":"b"}',
        "bad escape": '{"prompt":"\\x41"}',
        "incomplete escape": '{"prompt":"\\u12"}',
        "lone surrogate": '{"prompt":"\\ud800"}',
        "NUL": '{"prompt":"\\u0000"}',
        "control character": '{"prompt":"\n"}',
        "raw surrogate": '{"prompt":"\udfff"}',
        "deep lists": "[" * 30_000,
        "deep objects": '{"a":' * 10_000,
        "closed deep lists": "[" * 5_000 + "]" * 5_000,
        "deep in the prompt": '{"prompt":' + "[" * 20_000 + "]" * 20_000 + "}",
        "one byte too long": "x" * (contract.MAX_BODY + 1),
        "10 MB": '{"prompt":"' + "x" * 10_000_000 + '"}',
        "10 MB of lists": "[" * 10_000_000,
        "10 MB of surrogates": "\ud800" * 3_000_000,
        "many fields": json.dumps({f"f{index}": index for index in range(3_000)}),
        "long number": '{"prompt":"a","seed":' + "1" * 60_000 + "}",
        "long fraction": '{"prompt":"a","seed":0.' + "1" * 60_000 + "}",
        "body is a list": ["prompt"],
        "body is an object": {"prompt": "a"},
        "body is a number": 5,
        "body is true": True,
    }
    for name, body in cases.items():
        yield f"body: {name}", event(body)


def encoded_bodies() -> Iterator[Case]:
    """Yield events whose base64 does not contain text, or is not base64."""
    cases = {
        "not UTF-8": b'{"prompt":"\xff\xfe"}',
        "UTF-16": '{"prompt":"a"}'.encode("utf-16"),
        "overlong": b'{"prompt":"\xc0\xaf"}',
        "surrogate in UTF-8": b'{"prompt":"\xed\xa0\x80"}',
        "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "zeros": bytes(1_000),
        "gzip": b"\x1f\x8b\x08" + bytes(50),
        "10 MB": bytes(10_000_000),
        "empty": b"",
    }
    for name, content in cases.items():
        yield f"base64: {name}", encoded(content)
    for text in ("%", "YQ", "Y Q==", "YQ==\n", "YQ===", "ä", "=", "a-b_", "\ud800", "YQ==YQ==", "!" * 10_000_000):
        yield f"bad base64 {text[:12]!r}", event(text, isBase64Encoded=True)


def routes() -> Iterator[Case]:
    """Yield events with unsupported methods, paths and content types."""
    methods = (
        "PUT",
        "PATCH",
        "DELETE",
        "HEAD",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "post\r\n",
        "P" * 10_000,
        "",
        "ÄÖ",
        5,
        None,
    )
    for method in methods:
        yield f"method {str(method)[:12]!r}", event(requestContext={"http": {"method": method}})
    paths = (
        "/generate",
        "//",
        "/.",
        "/%2e",
        "/../",
        "*",
        "http://x/",
        "/\r\n",
        "/" + "a" * 9_000,
        "\0",
        "/ü",
        5,
        [],
        {},
    )
    for path in paths:
        yield f"path {str(path)[:12]!r}", event(rawPath=path)
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png", "", "json")
    for kind in (*kinds, "application/jsonx", "application/json\r\nx: y", "a" * 9_000, "application/ld+json"):
        yield f"content type {kind[:20]!r}", event(headers={"content-type": kind})


def other_events() -> Iterator[Case]:
    """Yield events that do not come from a Function URL."""
    kinds = {"headers": dict, "requestContext": dict, "rawPath": str, "body": str, "isBase64Encoded": bool}
    for key, kind in kinds.items():
        for value in (5, "x", [], [1], True, 1.5):
            if not isinstance(value, kind):
                yield f"event: {key}={value!r}", event(**{key: value})
    others: list[Any] = [None, [], "x", 5, True, {}, {"body": "{}"}, {"warmer": True}, {"Records": [{"body": "x"}]}]
    others += [{"requestContext": context} for context in (None, {}, {"http": None}, {"http": []})]
    others += [{"version": "1.0", "httpMethod": "POST", "path": "/", "body": "{}"}]
    for value in others:
        yield f"event {str(value)[:40]}", value
    for headers in ({"content-type": 5}, {"content-type": None}, {"content-type": ["application/json"]}, {5: "x"}):
        yield f"headers {headers}", event(headers=headers)


def _valid(name: str, value: Any) -> bool:
    """Return whether a junk value is valid for a field: most strings are valid prompts, and null means the default."""
    if value is None:
        return name not in ("prompt", "image_format")
    if name in ("prompt", "negative_prompt"):
        fits = isinstance(value, str) and len(value) <= contract.MAX_PROMPT and not set(value) & {"\0", "\ud800"}
        return fits and (name == "negative_prompt" or bool(value.strip()))
    if name in ("image", "mask", "strength"):
        return False  # a number is a valid strength, but needs an image
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "guidance_scale":
        return number and 0 <= value <= 30
    return name == "seed" and number and value == 0
