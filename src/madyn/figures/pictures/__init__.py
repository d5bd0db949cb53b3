"""The pictures: each file here enters its own in the list, and no other file has to know of it."""
