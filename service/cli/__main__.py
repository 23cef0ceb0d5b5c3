"""`python -m service.cli` is `gptoss`."""

from service.cli.main import main

main()
