"""The handler on this machine, in this process or behind a loopback Function URL, and the built-in model.

Never imports the client or AWS.
"""
