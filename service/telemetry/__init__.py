"""What the service says of itself: metrics and logs. Never a prompt or a completion."""
