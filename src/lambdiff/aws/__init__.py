"""Typed functions for the AWS services that lambdiff uses: accounts, stacks, functions, logs, images and access keys.

Translates botocore's exceptions to `LambdiffError`; besides `auth`, no other package handles them. Never imports
`client`, `local`, `infra`, `ops`, `bench` or `cli`.
"""
