"""The version, in a file of its own so that the build, the image and the client can read it without other imports."""

__version__ = "0.1.0"
