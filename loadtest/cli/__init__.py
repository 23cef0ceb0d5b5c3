"""The command `gptoss-loadtest`: one file for each of its commands."""
