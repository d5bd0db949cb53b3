"""The kinds of checkpoint, a file each. A new kind is one file here with one entry, `SOURCE`, and nothing elsewhere."""
