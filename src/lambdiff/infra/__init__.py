"""Creates, updates and deletes a deployment's stack in an AWS account.

Never imports `ops`, `bench` or `cli`.
"""
