"""Image files as other tools write them, built from their parts."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

from PIL import Image

SETTINGS = "Steps: 30, Sampler: Euler, CFG scale: 5.5, Seed: 1960802277, Size: 768x512, Model hash: abc, Model: v1-5"
WEBUI = f"masterpiece, night\nsecond line\nNegative prompt: lowres, bad hands\n{SETTINGS}, Version: v1.10.1"


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def text_chunk(keyword: str, text: str | bytes, kind: str = "tEXt") -> bytes:
    """Return a PNG text chunk: `tEXt`, `zTXt`, `iTXt`, or `iTXt+` for a compressed one."""
    value = text.encode("utf-8" if kind.startswith("iTXt") else "latin-1") if isinstance(text, str) else text
    name = keyword.encode("latin-1") + b"\0"
    return {
        "tEXt": lambda: chunk(b"tEXt", name + value),
        "zTXt": lambda: chunk(b"zTXt", name + b"\0" + zlib.compress(value)),
        "iTXt": lambda: chunk(b"iTXt", name + b"\0\0en\0translated\0" + value),
        "iTXt+": lambda: chunk(b"iTXt", name + b"\1\0\0\0" + zlib.compress(value)),
    }[kind]()


def png(*chunks: bytes, after: bytes = b"", width: int = 1, height: int = 1) -> bytes:
    """Return a PNG with chunks before and after its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(4)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + after + chunk(b"IEND", b"")


def png_with(texts: dict[str, Any], kind: str = "iTXt") -> bytes:
    """Return a PNG with texts by keyword; anything but a text is stored as JSON."""
    return png(
        *(
            text_chunk(name, value if isinstance(value, str) else json.dumps(value), kind)
            for name, value in texts.items()
        )
    )


def exif(
    user_comment: bytes = b"",
    *,
    order: str = ">",
    kind: int = 7,
    root: dict[int, bytes] | None = None,
    comment_in_root: bool = False,
    sub_folder_first: bool = False,
) -> bytes:
    """Return EXIF data.

    Args:
        user_comment: the field's bytes.
        order: ">" for Motorola's byte order, "<" for Intel's.
        kind: the field's type: 7 is UNDEFINED, 1 BYTE, 2 ASCII.
        root: text fields of the first directory.
        comment_in_root: store the comment in the first directory, where it does not belong.
        sub_folder_first: place the Exif directory before the first directory.
    """
    fields = [(tag, 2, value) for tag, value in (root or {}).items()]
    comment = [(0x9286, kind, user_comment)] if user_comment else []
    if comment_in_root:
        fields, comment = [*fields, *comment], []

    def folder(entries: list[tuple[int, int, bytes]], start: int, sub_folder: int | None) -> bytes:
        count = len(entries) + (sub_folder is not None)
        values_at = start + 2 + 12 * count + 4
        head, values = struct.pack(order + "H", count), b""
        for tag, type_, value in sorted(entries):
            if len(value) <= 4:
                head += struct.pack(order + "HHI", tag, type_, len(value)) + value.ljust(4, b"\0")
            else:
                head += struct.pack(order + "HHII", tag, type_, len(value), values_at + len(values))
                values += value + bytes(len(value) % 2)
        if sub_folder is not None:
            head += struct.pack(order + "HHII", 0x8769, 4, 1, sub_folder)
        return head + bytes(4) + values

    mark = b"II*\0" if order == "<" else b"MM\0*"
    if sub_folder_first:
        sub = folder(comment, 8, None)
        return mark + struct.pack(order + "I", 8 + len(sub)) + sub + folder(fields, 8 + len(sub), 8)
    length = len(folder(fields, 8, 0))
    return mark + struct.pack(order + "I", 8) + folder(fields, 8, 8 + length) + folder(comment, 8 + length, None)


def encoded(image_format: str, **options: Any) -> bytes:
    """Return a small image without metadata, encoded by Pillow."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, image_format, **options)
    return stream.getvalue()


def jpeg(exif_data: bytes = b"", *, xmp: bytes = b"", comment: bytes = b"") -> bytes:
    """Return a JPEG with EXIF data, which continues in further segments if it is long, XMP and a comment."""
    segments = b""
    for start in range(0, len(exif_data), 65_000):
        segments += _segment(0xE1, b"Exif\0\0" + exif_data[start : start + 65_000])
    if xmp:
        segments += _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    if comment:
        segments += _segment(0xFE, comment)
    plain = encoded("JPEG")
    return plain[:2] + segments + plain[2:]


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def webp(exif_data: bytes = b"", xmp: bytes = b"") -> bytes:
    """Return a WebP file with EXIF data and XMP."""
    plain = encoded("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")  # has the extended header
    chunks = plain[12 : plain.index(b"EXIF")]
    for kind, content in ((b"EXIF", exif_data), (b"XMP ", xmp)):
        if content:
            chunks += kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def user_comment(text: str, order: str = ">") -> bytes:
    """Return a UserComment in UTF-16 of the byte order, as most tools write it."""
    return b"UNICODE\0" + text.encode("utf-16-be" if order == ">" else "utf-16-le")


def draw_things_xmp(settings: dict[str, Any]) -> str:
    """Return the XMP document of Draw Things."""
    comment = json.dumps(settings).replace("&", "&amp;").replace("<", "&lt;")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        "<xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment>\n<rdf:Alt>\n"
        f'<rdf:li xml:lang="x-default">{comment}</rdf:li>\n</rdf:Alt>\n</exif:UserComment>'
        "</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    )


COMFY: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly.ckpt"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a glass bottle, galaxy", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
}  # fmt: skip
"""The graph that ComfyUI shows when it is started for the first time."""

COMFY_WORKFLOW: dict[str, Any] = {
    "nodes": [
        {"id": 7, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "type": "CLIP", "link": 5}],
         "widgets_values": ["text, watermark"]},
        {"id": 6, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "type": "CLIP", "link": 3}],
         "widgets_values": ["a glass bottle, galaxy"]},
        {"id": 5, "type": "EmptyLatentImage", "mode": 0, "widgets_values": [512, 768, 1]},
        {"id": 3, "type": "KSampler", "mode": 0, "inputs": [
            {"name": "model", "type": "MODEL", "link": 1}, {"name": "positive", "type": "CONDITIONING", "link": 4},
            {"name": "negative", "type": "CONDITIONING", "link": 6},
            {"name": "latent_image", "type": "LATENT", "link": 2}],
         "widgets_values": [156680208700286, "randomize", 20, 8, "euler", "normal", 1]},
        {"id": 8, "type": "VAEDecode", "mode": 0, "inputs": [{"name": "samples", "type": "LATENT", "link": 7}]},
        {"id": 4, "type": "CheckpointLoaderSimple", "mode": 0, "widgets_values": ["v1-5-pruned-emaonly.ckpt"]},
    ],
    "links": [
        [1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "CONDITIONING"],
        [5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"], [7, 3, 0, 8, 0, "LATENT"],
    ],
}  # fmt: skip
"""The same graph as the editor stores it."""
