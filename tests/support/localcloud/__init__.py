"""A cloud on this machine, for the test that deploys for real.

Real: the CDK CLI, the image build, the image's own entry point, awslambdaric, AWS's Runtime Interface Emulator, TLS,
signatures and identity policies. Emulated: CloudFormation, IAM, STS, S3, ECR, Secrets Manager, CloudWatch Logs and
Lambda's control plane (ministack). A stand-in: AWS's Python base image, which is made of Debian and a CPython 3.12.

What it cannot prove, unit tests assert: `lambda:InvokeFunction` is not asked for here, a wrong region or service in a
signature passes, and settings beyond Lambda's limits are taken (test_stack.py, test_settings.py, test_signing.py).

Linux, x86_64, root. `install.py` puts everything into one folder, `cloud.py` starts and stops it.
"""
