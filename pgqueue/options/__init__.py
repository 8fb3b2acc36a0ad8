"""The options of jobs: declared, checked, merged over the levels where they can be set, resolved."""
