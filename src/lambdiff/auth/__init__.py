"""AWS credentials held in memory, the region of a call, and Signature Version 4: sign a request, verify a signature.

Never imports an engine or the handler, and never writes a secret to a file, a log or a `repr`.
"""
