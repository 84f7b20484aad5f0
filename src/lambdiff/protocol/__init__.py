"""What travels between client and handler, each thing defined once: the contract, image metadata, HTTP messages.

Never imports an engine, a network library, boto3 or anything of ours except the ground (errors, files).
"""
