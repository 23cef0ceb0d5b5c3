"""Real servers for the tests: on loopback, in a temporary folder, without root."""
