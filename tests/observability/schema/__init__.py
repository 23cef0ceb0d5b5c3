"""Grafana's own types, and how dashboards are checked against them."""
