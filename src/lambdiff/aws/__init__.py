"""AWS as lambdiff uses it: the account, stacks, functions, logs, images and access keys, each behind typed functions.

Translates botocore's exceptions to `LambdiffError`; besides `auth`, no other package sees them. Never imports `client`,
`local`, `infra`, `ops`, `bench` or `cli`.
"""
