"""One operator a file, the kernel beside its plain twin."""
