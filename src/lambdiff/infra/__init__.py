"""Creates, updates and removes a stack in an AWS account.

Never imports `ops`, `bench` or `cli`.
"""
