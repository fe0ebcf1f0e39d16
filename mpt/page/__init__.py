"""The status page: files that the status port serves (`mpt.daemon.statusport`)."""
