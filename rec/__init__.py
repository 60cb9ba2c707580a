"""DPO4Rec (arXiv 2410.05939): direct preference optimisation for LLM-enhanced recommendation."""
