"""The admin API: teams, keys, use and audit over HTTP, with a port and a credential of its own."""
