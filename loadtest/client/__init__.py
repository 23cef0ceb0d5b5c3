"""Sends what was planned, when it was planned, and writes down what came back."""
