"""Other people's frameworks and drivers: a module each, imported by the programs that use them."""
