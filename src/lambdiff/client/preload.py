"""Import what requests need when a client is opened, so that no request imports anything; see `forks`.

These modules are large, so the modules that use them import them late.
"""

from __future__ import annotations

import encodings.utf_16_be  # noqa: F401
import ssl

import PIL.Image
import PIL.ImageOps
import PIL.JpegImagePlugin
import PIL.PngImagePlugin
import PIL.TiffImagePlugin
import PIL.WebPImagePlugin

import lambdiff.client.foreign_metadata
import lambdiff.pricing  # noqa: F401

PIL.Image.preinit()
ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # OpenSSL initializes itself for the first one, and holds locks meanwhile
