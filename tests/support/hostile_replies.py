"""Random HTTP replies, most of which are malformed."""

from __future__ import annotations

import random

from support import hostile_images

NAMES = [
    "content-length",
    "transfer-encoding",
    "content-type",
    "content-encoding",
    "connection",
    "keep-alive",
    "trailer",
    "upgrade",
    "location",
    "date",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "lambdiff-seed",
    "lambdiff-model",
    "lambdiff-warnings",
    "lambdiff-request-id",
    "server-timing",
    "x-amzn-errortype",
    "x-amzn-requestid",
]
VALUES = [b"9" * 5_000, b"-1", b"NaN", b"inf", b"1e999", b"0x10", b"1_0", b"+5", b"5, 6", b"", b" ", b"0", b"[1]", b"{"]
VALUES += [b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"http://[", b"a=b; Max-Age=" + b"9" * 5_000]
VALUES += [b";" * 2_000, b"a;" * 2_000, b",".join([b"1"] * 1_000), b"\x1b[31m", b"\xff\xfe", b"\x80" * 50, b'["x"]']
STATUS_LINES = [
    b"HTTP/1.1 %d x" % status for status in (100, 103, 199, 204, 206, 304, 403, 409, 429, 500, 503, 600, 999)
]
STATUS_LINES += [
    b"HTTP/1.0 200",
    b"HTTP/0.9 200 OK",
    b"HTTP/2 200 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 99 x",
    b"HTTP/1.1 -200 x",
]
STATUS_LINES += [b"HTTP/1.1 \xd9\xa1 x", b"HTTP/1.1 200 \x1b[31m", b"HTTP/1.1 " + b"2" * 5_000, b"\x1b[0m"]


def random_reply(choosing: random.Random) -> bytes:
    """Return a reply with random headers and random damage."""
    image = hostile_images.encoded("png")
    headers = {"content-type": b"image/png", "content-length": b"%d" % len(image)}
    headers |= {choosing.choice(NAMES): choosing.choice(VALUES) for _ in range(choosing.randint(0, 3))}
    status = choosing.choice([*STATUS_LINES, *[b"HTTP/1.1 200 OK"] * len(STATUS_LINES)])
    lines = [status, *(name.encode() + b": " + value for name, value in headers.items())]
    if choosing.random() < 0.1:
        lines.append(b"\x1b]0;no colon\x07")
    body = choosing.choice(
        [image, image, image + image, b"", b'{"Message": "\\u001b"}', b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n"]
    )
    content = bytearray(choosing.choice([b"\r\n", b"\r\n", b"\n"]).join(lines) + b"\r\n\r\n" + body)
    for _ in range(choosing.choice([0, 0, 0, 5])):
        content[choosing.randrange(min(len(content), 300))] = choosing.randrange(256)
    return bytes(content)
