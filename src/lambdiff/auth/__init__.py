"""AWS credentials in memory, the choice of region, and Signature Version 4: signing requests and verifying signatures.

Never imports an engine or the handler, and never writes a secret to a file, a log or a `repr`.
"""
