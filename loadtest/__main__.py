"""`python -m loadtest` is `gptoss-loadtest`."""

from loadtest.cli.entry import main

if __name__ == "__main__":
    main()
