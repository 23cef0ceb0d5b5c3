"""The ledger: what every request used, written off its path."""
