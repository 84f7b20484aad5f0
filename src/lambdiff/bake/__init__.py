"""A diffusers model in, a checked model folder out.

Never imports AWS or the client; apart from the diffusers engine, the only package that imports torch.
"""
