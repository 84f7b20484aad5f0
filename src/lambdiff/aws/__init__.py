"""AWS as lambdiff uses it: the account, stacks, functions, logs, images and access keys, each behind typed functions.

The only package besides `auth` and `client` that sees botocore's exceptions; it raises `LambdiffError` instead. Never
imports `client`, `infra`, `ops`, `bench` or `cli`.
"""
