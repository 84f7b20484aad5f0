"""The public SDK: a prompt in, a `GeneratedImage` out.

Never imports torch, OpenVINO, aws_cdk, `infra`, `ops`, `bench` or `cli`.
"""
