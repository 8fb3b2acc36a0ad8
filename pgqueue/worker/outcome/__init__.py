"""How attempts' outcomes are written, and who is told."""
