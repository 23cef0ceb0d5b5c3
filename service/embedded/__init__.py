"""The whole stack on one machine: an engine and a gateway as child processes."""
