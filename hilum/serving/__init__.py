"""Serving: the page and the API over a bundle, for files from anywhere. No torch, no pickle, nothing kept."""
