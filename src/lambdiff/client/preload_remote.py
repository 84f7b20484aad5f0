"""As `preload`, for requests to other machines."""

from __future__ import annotations

import ssl

import lambdiff.client.foreign_metadata
import lambdiff.client.preload  # noqa: F401

ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # OpenSSL initializes itself for the first one, and holds locks meanwhile
