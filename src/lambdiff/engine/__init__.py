"""A baked model folder in, pixels out. The same request gives the same pixels.

Imports nothing that knows HTTP or AWS, nor the handler or anything above it; only `diffusers.py` imports torch.
"""
