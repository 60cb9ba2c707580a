"""The chain of mediation: through which links alignment could help, and which of them hold."""
