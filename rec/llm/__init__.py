"""The language model: sampling, importing weights, exporting adapters."""
