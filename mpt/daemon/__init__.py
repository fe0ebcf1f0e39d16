"""The only importer of Twisted: services, readers and timers around the pure parts."""
