"""The response store: what was sampled once is never sampled again."""
