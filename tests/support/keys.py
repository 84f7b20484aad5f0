"""Secret keys that tests use. The output of a test run must not contain any of them."""

SECRETS = ("very-secret-key", "another-secret-key", "invoker-secret", "caller-secret", "given-secret")
