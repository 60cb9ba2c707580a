"""Alignment of the LLM with the recommender: DPO on the reward model's preference pairs."""
