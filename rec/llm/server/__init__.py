"""The backend `openai`: responses drawn by an OpenAI-compatible completions server."""
