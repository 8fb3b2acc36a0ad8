"""The values that everything else speaks of. They know no database and decide nothing."""
