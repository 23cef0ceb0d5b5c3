"""Quotas: limits as values, a pure core that decides, and the stores that keep its counters."""
