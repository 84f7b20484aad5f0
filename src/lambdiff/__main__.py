"""`python -m lambdiff` is `lambdiff`."""

from lambdiff.cli import main

main()
