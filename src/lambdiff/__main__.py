"""Run the command line: `python -m lambdiff` does the same as `lambdiff`."""


def main() -> None:
    """Run the command line and exit with a code from the table in `errors.py`."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback would be shown while modules are imported

    from lambdiff import termination

    with termination.on_signals():
        from lambdiff.cli import main as run

        run()


if __name__ == "__main__":
    main()
