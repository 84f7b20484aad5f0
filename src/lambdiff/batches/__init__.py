"""Many images from a file of prompts: validated before anything is generated, resumable, and none of them made twice.

Stands above `client`, which generates each image. Never imports an engine, the CDK or the command line.
"""
