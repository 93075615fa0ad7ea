"""Several processes of one training, threads of one process, and the memory they keep."""
