"""Models: a backbone, a fusion and a head make a classifier of studies."""
