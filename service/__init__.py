"""Serve gpt-oss on vLLM: engine launcher, gateway, teams and quotas."""
