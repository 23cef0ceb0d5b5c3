"""What can be said from samples, and how surely: pure, and checked against closed forms."""
