"""Profiles and rankings for anyone's history, by the models that the pipeline made."""
