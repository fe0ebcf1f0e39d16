"""What may be wrong around the daemon: the kernel, the lines, the way to the peers; pure judgements of facts."""
