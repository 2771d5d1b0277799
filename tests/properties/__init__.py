"""Property tests of path templates."""
