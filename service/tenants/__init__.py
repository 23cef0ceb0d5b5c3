"""Who may use the service: keys, and the snapshot of them that the gateway decides by."""
