"""Run the command line: `python -m lambdiff` does the same as `lambdiff`."""

from lambdiff.cli import main

main()
