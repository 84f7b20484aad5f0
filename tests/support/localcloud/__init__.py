"""A cloud on this machine, for the tests that deploy for real.

Real: the CDK CLI, the image build, the image's own entry point, awslambdaric, AWS's Runtime Interface Emulator, TLS,
signatures and identity policies. Emulated by ministack: CloudFormation, IAM, STS, S3, ECR, Secrets Manager, CloudWatch
Logs, Step Functions (Distributed Maps by `map_runs.py`, which lists the differences) and Lambda's control plane.
Replaced: AWS's Python base image, by an image of Debian with CPython 3.12, and the public registry that it comes from,
by one that knows its digest (`support/registry_server.py`).

Unit tests cover what the emulation cannot prove: it does not require `lambda:InvokeFunction`, and it accepts signatures
for a wrong region or service and settings beyond Lambda's limits (test_stack.py, test_settings.py, test_signing.py).

Needs Linux on x86_64 and root. `install.py` installs everything into one folder; `cloud.py` starts and stops it.
"""
