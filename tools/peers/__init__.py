"""The scores of other programs on the same checkpoint and images, each in an environment of its own."""
