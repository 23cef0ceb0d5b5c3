"""Dashboards, alerts and runbooks: what `python -m deploy.observability` makes, and from what."""
