"""Import what requests need when a client is opened, so that no request imports anything; see `forks`.

These modules are large, so the modules that use them import them late.
"""

from __future__ import annotations

import encodings.utf_16_be  # noqa: F401

import PIL.Image
import PIL.ImageOps
import PIL.JpegImagePlugin
import PIL.PngImagePlugin
import PIL.TiffImagePlugin
import PIL.WebPImagePlugin

import lambdiff.pricing
import lambdiff.protocol.image_texts
import lambdiff.protocol.metadata  # noqa: F401

PIL.Image.preinit()
