"""Typed functions for the AWS services that lambdiff uses: accounts, stacks, functions, logs, images and access keys.

They raise a `LambdiffError` instead of botocore's exceptions, which `lambdiff.auth.botocore_errors` classifies. Never
imports `client`, `local`, `infra`, `ops`, `bench` or `cli`.
"""
