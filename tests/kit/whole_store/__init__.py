"""A model of the whole store: what is done to it, what must hold of it, and what it has to come to."""
