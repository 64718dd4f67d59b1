"""Public data sets as study tables: one file, one data set."""
