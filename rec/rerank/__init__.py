"""Re-ranking: features, adaptor, architecture, training, metrics, variants."""
