"""Decoding in a process of its own: the parent's side (`decoder`), the pipes (`child`), the child's limits and loop (`confine`, `process`)."""
