"""The commands, a file each: a new one is one new file here with `COMMAND`, and no other file has to know of it."""
