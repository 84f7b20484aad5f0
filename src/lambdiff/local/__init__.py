"""The handler on this machine: in this process, or behind a Function URL on loopback; and the built-in model.

Never imports the client or AWS.
"""
