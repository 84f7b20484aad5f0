"""A baked model folder in, pixels out; the same request gives the same pixels.

Never imports HTTP, AWS, the handler or anything above it; only `diffusers.py` imports torch.
"""
