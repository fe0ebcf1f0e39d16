"""A substitute for the kernel's netem, for kernels without it: a process that delays, reorders and loses frames."""
