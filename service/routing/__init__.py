"""Which replica a request goes to, and when: membership, health, balance, queue."""
