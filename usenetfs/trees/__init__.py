"""Trees of files in and out, past the kernel: the engines of `usenetfs upload` and `download`."""
