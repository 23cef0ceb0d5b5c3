"""The data path: authenticate, decide, route, relay."""
