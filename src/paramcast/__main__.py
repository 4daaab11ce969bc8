"""Entry point of `python -m paramcast`, which does the same as the `paramcast` command."""

from paramcast.cli import main

if __name__ == "__main__":
    main()
