"""The handler on this machine: in this process, or behind a loopback Function URL, with the built-in model.

Never imports the client or AWS.
"""
