"""The secret keys that tests use; no output of the test run may contain one."""

SECRETS = ("very-secret-key", "another-secret-key", "invoker-secret", "caller-secret", "given-secret")
