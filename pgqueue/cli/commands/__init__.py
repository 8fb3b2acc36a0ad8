"""The commands of `pgqueue`, a file each."""
