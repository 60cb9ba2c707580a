"""What the README claims about speed: each script is one command that prints JSON."""
