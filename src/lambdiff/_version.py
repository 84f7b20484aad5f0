"""The version, alone in a file so that the build, the image and the client read it without importing anything."""

__version__ = "0.1.0"
