"""A finished study as files: read in the order of its stages, packed as a Workflow Run RO-Crate, unpacked elsewhere."""
