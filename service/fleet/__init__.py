"""Engines on a Ray cluster: kept alive, placed, scaled, replaced. No byte of theirs passes Ray."""
