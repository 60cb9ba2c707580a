"""The backend `transformers`: responses drawn from the Hugging Face folder of the weights."""
