"""The one door to AWS: account, stacks, logs and functions, with botocore's errors translated to ours.

Never imports the client, `infra`, `ops` or the command line.
"""
